"""Numbers: missing values, the steps of `transform`, and the refusal of what is not finite."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.errors import ConfigError
from recsys_mtl.ingest.columns import column_of, refuse
from recsys_mtl.spec.feature_spec import NumberFeature, Step

Moments = tuple[float, float]
"""Mean and standard deviation on the train rows."""


def number_column(feature: NumberFeature) -> str:
    """Assembled column that a number reads."""
    return feature.column or feature.name


def float_values(array: pa.Array, column: str) -> np.ndarray:
    """A numeric column as float64[B], NaN where null or NaN.

    Raises:
        DataError: unless the column holds integers, floats, booleans or decimals.
    """
    kind = array.type
    if pa.types.is_null(kind):
        return np.full(len(array), np.nan)
    if pa.types.is_boolean(kind):
        array = array.cast(pa.int8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise refuse(
            column,
            f"has type {kind}; a number is an integer, float, bool or decimal",
            "Convert it at the source, or declare the column as kind 'id'.",
            "D001",
        )
    values: np.ndarray = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return values


def read_number(assembled: pa.Table, feature: NumberFeature) -> np.ndarray:
    """Raw values of a number, float64[B], NaN where missing.

    Raises:
        DataError: if the column is absent, of a wrong type, or holds an infinity.
    """
    column = number_column(feature)
    values = float_values(column_of(assembled, column), column)
    infinite = np.isinf(values)
    if infinite.any():
        raise refuse(
            column,
            f"{int(infinite.sum()):,} rows hold an infinity (first at row {{row}});"
            " a number is finite or null",
            "Write null at the source where the value is not known.",
            "D052",
            infinite.argmax(),
        )
    return values


def fitted_step(feature: NumberFeature) -> int | None:
    """Place of the step `{zscore: fit}` in a number's transform; None without.

    Raises:
        ConfigError: if there are two; the second would need a second pass over the data.
    """
    places = [i for i, step in enumerate(feature.transform) if step.zscore == "fit"]
    if len(places) > 1:
        raise ConfigError(f"feature {feature.name!r}: `zscore: fit` stands twice; keep the last")
    return places[0] if places else None


def transformed(
    feature: NumberFeature, values: np.ndarray, moments: Mapping[str, Moments]
) -> np.ndarray:
    """Apply a number's steps but `bucketize`.

    Args:
        feature: the declaration.
        values: float64[B] of `read_number`.
        moments: by feature name, for `zscore: fit`.

    Returns:
        float64[B], NaN where the raw value is missing.

    Raises:
        DataError: if a value leaves the domain of a step or the range of float32.
    """
    result = apply_steps(feature.transform, values, moments.get(feature.name))
    _check_finite(feature, values, result)
    return result


def apply_steps(
    steps: Sequence[Step], values: np.ndarray, moments: Moments | None = None
) -> np.ndarray:
    """Apply steps but `bucketize` to float64[B]; NaN stays NaN."""
    for step in steps:
        if step.clip is not None:
            values = np.clip(values, *step.clip)
        elif step.log1p:
            # One libm call per value; numpy's vector version may differ with the position.
            values = pc.log1p(pa.array(values)).to_numpy(zero_copy_only=False)
        elif step.zscore is not None:
            mean, std = _moments_of(step, moments)
            values = (values - mean) / std
    return values


def bucket_ids(feature: NumberFeature, values: np.ndarray) -> np.ndarray:
    """Rows of the range table: `2 + number of boundaries <= value`, 0 where missing; int64[B]."""
    boundaries = feature.transform[-1].bucketize
    assert boundaries is not None, "rule S013: a number with a table ends with bucketize"
    bucket = np.searchsorted(np.array(boundaries, np.float64), values, side="right")
    return np.where(np.isnan(values), 0, 2 + bucket)


def filled(feature: NumberFeature, values: np.ndarray) -> np.ndarray:
    """The model's input: float32[B] with `missing.fill` for NaN."""
    return np.where(np.isnan(values), feature.missing.fill, values).astype(np.float32)


def missing_flags(values: np.ndarray) -> np.ndarray:
    """float32[B], 1 where the raw value is missing."""
    flags: np.ndarray = np.isnan(values).astype(np.float32)
    return flags


def _moments_of(step: Step, moments: Moments | None) -> Moments:
    if isinstance(step.zscore, tuple):
        return step.zscore
    if moments is None:
        raise ValueError("the fit state has no moments of this feature; it is of another spec")
    return moments


def _check_finite(feature: NumberFeature, raw: np.ndarray, result: np.ndarray) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        bad = ~np.isfinite(result.astype(np.float32)) & ~np.isnan(raw)
    if bad.any():
        row = int(bad.argmax())
        raise refuse(
            number_column(feature),
            f"feature {feature.name!r}: {int(bad.sum()):,} rows become not finite (first at row"
            f" {{row}}: {raw[row]} becomes {result[row]})",
            "Put a `clip` with finite bounds before the other steps of its transform.",
            "D052",
            row,
        )
