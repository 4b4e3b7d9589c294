"""The fit state: all that is learned from train rows before training, as JSON and Parquet."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from recsys_mtl.artifacts.commit import (
    FileEntry,
    atomic_write,
    entry_of,
    make_dir,
    read_table,
    write_table,
)
from recsys_mtl.artifacts.sealed import seal, unseal
from recsys_mtl.errors import DataError, IntegrityError, Problem
from recsys_mtl.ingest.columns import Family
from recsys_mtl.ingest.ids import Vocab
from recsys_mtl.ingest.numbers import Moments
from recsys_mtl.spec.feature_spec import FeatureSpec
from recsys_mtl.spec.fingerprint import fingerprint, input_fp

FIT_JSON = "fit.json"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class LabelCount:
    """Rows in a label's mask and the positives among them."""

    rows: int
    positives: int

    def __add__(self, other: "LabelCount") -> "LabelCount":
        return LabelCount(self.rows + other.rows, self.positives + other.positives)

    @property
    def rate(self) -> float:
        """Share of positives; NaN without rows."""
        return self.positives / self.rows if self.rows else float("nan")


@dataclass(frozen=True, eq=False)
class FitState:
    """What the transform needs besides the spec, and reference counts of the train rows.

    Picklable; a worker that has the directory loads it faster from there.
    """

    vocabs: dict[str, Vocab]
    """By table of kind vocab."""
    moments: dict[str, Moments]
    """By number feature with `zscore: fit`."""
    input_types: dict[str, Family]
    """By assembled column that holds ids; a column that was always null is absent."""
    rows: int
    """Train rows."""
    window_us: tuple[int, int]
    """First and last time of the train rows, UTC microseconds; zeros without a time."""
    missing: dict[str, int]
    """Train rows without a value, by feature and sequence field."""
    labels: dict[str, LabelCount]
    """By task."""

    def joined(self, other: "FitState") -> "FitState":
        """The state of two sources that share no vocabulary and no fitted number.

        Rows, window and missing counts stay those of the first source.

        Raises:
            DataError: if both fitted the same table or number, or a column holds other ids.
        """
        both = [*(self.vocabs.keys() & other.vocabs), *(self.moments.keys() & other.moments)]
        both += [c for c, f in other.input_types.items() if self.input_types.get(c, f) != f]
        if both:
            names = ", ".join(sorted(both))
            text = f"{names}: fitted on the rows of two sources, which differ"
            fix = "Share tables with hashed ids and numbers with given moments only."
            raise DataError(Problem("sources", text, fix, "D070"))
        return replace(
            self,
            vocabs=self.vocabs | other.vocabs,
            moments=self.moments | other.moments,
            input_types={**self.input_types, **other.input_types},
            labels=self.labels | other.labels,
        )

    def record(self) -> dict[str, Any]:
        """Content as canonical JSON values; vocabularies by digest."""
        return {
            "version": _VERSION,
            "vocabs": {
                name: {"digest": v.digest, "size": len(v.values), "oov_buckets": v.oov_buckets}
                for name, v in self.vocabs.items()
            },
            "moments": {name: list(pair) for name, pair in self.moments.items()},
            "input_types": dict(self.input_types),
            "rows": self.rows,
            "window_us": list(self.window_us),
            "missing": dict(self.missing),
            "labels": {name: asdict(count) for name, count in self.labels.items()},
        }

    def save(self, directory: Path, root: Path | None = None) -> list[FileEntry]:
        """Write `vocab/<table>.parquet` (value, count, id) and `fit.json`.

        Args:
            directory: created if needed.
            root: directory of the artifact, which the entries are relative to; `directory` when
                absent.

        Returns:
            The files, for a manifest.
        """
        root = root or directory
        make_dir(directory)
        entries = []
        for name, vocab in sorted(self.vocabs.items()):
            columns = {"value": vocab.values, "count": vocab.counts, "id": vocab.ids}
            make_dir(directory / "vocab")
            entries.append(write_table(_vocab_path(directory, name), pa.table(columns), root))
        atomic_write(directory / FIT_JSON, seal(self.record()))
        return [*entries, entry_of(directory / FIT_JSON, root)]

    @classmethod
    def load(cls, directory: Path) -> "FitState":
        """Read what `save` wrote.

        Raises:
            IntegrityError: if a file is absent, damaged, or of another fit.
        """
        path = directory / FIT_JSON
        try:
            record = unseal(path.read_bytes(), path)
        except FileNotFoundError:
            raise _broken(path, "is absent") from None
        if record.get("version") != _VERSION:
            found = record.get("version")
            raise _broken(path, f"has version {found}; this package reads {_VERSION}")
        state = cls(
            vocabs={
                name: _load_vocab(directory, name, entry["oov_buckets"])
                for name, entry in record["vocabs"].items()
            },
            moments={name: (pair[0], pair[1]) for name, pair in record["moments"].items()},
            input_types=record["input_types"],
            rows=record["rows"],
            window_us=(record["window_us"][0], record["window_us"][1]),
            missing=record["missing"],
            labels={name: LabelCount(**count) for name, count in record["labels"].items()},
        )
        for name, entry in record["vocabs"].items():
            if state.vocabs[name].digest != entry["digest"]:
                raise _broken(_vocab_path(directory, name), f"is not the vocabulary of {path}")
        return state


def fit_fp(state: FitState, spec: FeatureSpec) -> str:
    """Fingerprint of a fit: hex sha256 of the spec's `input_fp` and the state's content."""
    return fingerprint({"input_fp": input_fp(spec), "fit": state.record()})


def _vocab_path(directory: Path, table: str) -> Path:
    return directory / "vocab" / f"{table}.parquet"


def _load_vocab(directory: Path, name: str, oov_buckets: int) -> Vocab:
    path = _vocab_path(directory, name)
    table = read_table(path, ["value", "count"])
    return Vocab(
        table["value"].combine_chunks(), table["count"].combine_chunks().to_numpy(), oov_buckets
    )


def _broken(path: Path, what: str) -> IntegrityError:
    fix = "Move its directory away and rerun the stage that made it."
    return IntegrityError(Problem(str(path), what, fix, "D022"))
