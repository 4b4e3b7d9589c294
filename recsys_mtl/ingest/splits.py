"""Which split a row belongs to."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.ingest.columns import column_of
from recsys_mtl.ingest.hashing import h64
from recsys_mtl.spec.base import duration_us
from recsys_mtl.spec.feature_spec import ColumnSplit, FeatureSpec
from recsys_mtl.spec.interval import Interval, day_start_us
from recsys_mtl.spec.pipeline import Pipeline

OUTSIDE = -1
TRAIN, VALID, TEST = 0, 1, 2
_FRACTION_SEED = 99
_ALWAYS = (-(2**62), 2**62)


@dataclass(frozen=True, slots=True)
class TimeBounds:
    """Half-open windows in microseconds UTC: train, validation and test."""

    start_us: int
    train_end_us: int
    valid_us: int
    valid_end_us: int
    test_us: int
    end_us: int

    def codes(self, time_us: np.ndarray) -> np.ndarray:
        """Split of each row, int8[B]; -1 inside an embargo or outside the window."""
        split = np.full(len(time_us), OUTSIDE, np.int8)
        windows = (
            (self.start_us, self.train_end_us),
            (self.valid_us, self.valid_end_us),
            (self.test_us, self.end_us),
        )
        for code, (start, end) in enumerate(windows):
            split[(time_us >= start) & (time_us < end)] = code
        return split


def time_bounds(pipeline: Pipeline, spec: FeatureSpec, interval: Interval | None) -> TimeBounds:
    """Windows counted back from the interval's end, or those of the spec's dates.

    Raises:
        ValueError: if the windows must be counted back but there is no interval.
    """
    start, end = (interval.start_us, interval.end_us) if interval else _ALWAYS
    if pipeline.split is not None:
        if interval is None:
            raise ValueError("a split counted back from the interval's end needs an interval")
        test = end - duration_us(pipeline.split.test)
        valid = test - duration_us(pipeline.split.valid)
        embargo = duration_us(pipeline.split.embargo)
    else:
        split = spec.split
        assert split.policy == "time"
        offset = pipeline.data.utc_offset
        test, valid = day_start_us(split.test_from, offset), day_start_us(split.valid_from, offset)
        embargo = duration_us(split.embargo)
    return TimeBounds(start, valid - embargo, valid, test - embargo, test, end)


def column_codes(assembled: pa.Table, split: ColumnSplit, row_id: pa.Array) -> np.ndarray:
    """Split of each row by a column's value, int8[B]; -1 for any other value."""
    values = column_of(assembled, split.column)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    text = values.cast(pa.string())
    codes = np.full(len(text), OUTSIDE, np.int8)
    for code, value in ((TRAIN, split.train), (VALID, split.valid), (TEST, split.test)):
        if value is not None:
            equal = pc.fill_null(pc.equal(text, value), False)
            codes[equal.to_numpy(zero_copy_only=False)] = code
    if split.valid_fraction is not None:
        share = h64(row_id, _FRACTION_SEED).astype(np.float64) / 2.0**64
        codes[(codes == TRAIN) & (share < split.valid_fraction)] = VALID
    return codes
