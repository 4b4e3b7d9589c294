"""Two evaluations as one holdout: the integrity checks of the gate, then arrays on shared rows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.artifacts.manifest import Manifest
from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.registry.decision import Check, Verdict
from recsys_mtl.registry.predictions import GROUP, ROW_ID, TIME, prob_column, read_predictions
from recsys_mtl.spec.layout import label_column, mask_column


@dataclass(frozen=True, slots=True)
class Contender:
    """A model in front of the gate: its evaluation, and what its own bundle says of it."""

    evaluation: Manifest
    bundle_sha: str
    input_fp: str
    trained_until_us: int | None
    """Newest time among its train and validation rows; None when rows have no time."""
    survival: "Contender | None" = None
    """The same bundle, evaluated on rows of its survival label; None without one."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """Meta data of the evaluation."""
        return self.evaluation.meta

    @property
    def tasks(self) -> tuple[str, ...]:
        """What this evaluation predicts; nothing where there is a survival label alone."""
        return tuple(self.meta["tasks"])

    @property
    def outputs(self) -> tuple[str, ...]:
        """Its tasks and its survival label."""
        return self.tasks + (self.survival.tasks if self.survival else ())

    @property
    def evaluations(self) -> tuple[Manifest, ...]:
        """All that it is judged by."""
        return (self.evaluation, *(self.survival.evaluations if self.survival else ()))

    def facts(self) -> dict[str, Any]:
        """What identifies it in a decision, as JSON values."""
        return {
            "evaluation_sha": self.evaluation.sha,
            "bundle_sha": self.bundle_sha,
            "input_fp": self.input_fp,
            "holdout_fp": self.meta["holdout_fp"],
            "trained_until_us": self.trained_until_us,
            "survival": self.survival.facts() if self.survival else None,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Holdout:
    """n rows that both models predicted."""

    clusters: Clusters
    labels: dict[str, np.ndarray]
    """bool[n] by task of the challenger."""
    masks: dict[str, np.ndarray]
    """bool[n] by task: rows on which the label counts."""
    challenger: dict[str, np.ndarray]
    """float64[n] by task, its predicted probabilities."""
    champion: dict[str, np.ndarray]
    """The same of the champion; empty when there is none."""


def join_holdout(
    challenger: Contender, champion: Contender | None
) -> tuple[Holdout | None, list[Check]]:
    """Check that the evaluations of tasks can be compared, and join them on `row_id`.

    Returns:
        The joined rows, None where they are not the same or not finite or there are no tasks, and
        the checks.
    """
    if not challenger.tasks:
        return None, []
    sides = {"challenger": challenger}
    if champion is not None and champion.tasks:
        sides["champion"] = champion
    checks = [integrity("bundle", provenance(sides)), integrity("time", leaks(sides))]
    tables = {name: read_predictions(side.evaluation) for name, side in sides.items()}
    names = tables["challenger"].column_names
    shared = [c for c in names if c in (GROUP, TIME) or c.startswith(("label__", "mask__"))]
    faults = align(tables, shared)
    checks.append(integrity("rows", faults))
    unfit = [
        fault
        for name, table in tables.items()
        for fault in _number_faults(name, table, sides[name].tasks)
    ]
    checks.append(integrity("numbers", unfit))
    if faults or unfit:
        return None, checks
    return _holdout(sides, tables), checks


_PASSED = {
    "bundle": "each evaluation was made from its bundle's own inputs",
    "time": "the holdout is later than everything that was trained on",
    "rows": "both models predicted the same rows, each once, with the same labels",
    "numbers": "all predictions are probabilities",
    "likelihoods": "all likelihoods and expected stops are finite",
}


def integrity(metric: str, faults: Iterable[str], label: str = "") -> Check:
    """The check that `faults` is empty; of a survival label when that is given."""
    found, subject = list(faults), f"{label}: " if label else ""
    if found:
        sentence = f"INTEGRITY: {subject}" + "; ".join(found)
        return Check("integrity", Verdict.INTEGRITY, sentence, label, metric)
    sentence = f"PASS: {subject}{_PASSED[metric]}"
    return Check("integrity", Verdict.PROMOTE, sentence, label, metric)


def provenance(sides: Mapping[str, Contender]) -> Iterator[str]:
    """Evaluations of another bundle, or of one with other inputs."""
    for name, side in sides.items():
        for fact, expected in (("bundle_sha", side.bundle_sha), ("input_fp", side.input_fp)):
            found = side.meta[fact]
            if found != expected:
                yield (
                    f"the {name}'s evaluation has {fact} {found[:12]}, its bundle {expected[:12]};"
                    " evaluate this bundle again"
                )


def leaks(sides: Mapping[str, Contender]) -> Iterator[str]:
    """Faults of time order; a split by column makes no promise about time."""
    for name, side in sides.items():
        start, end = side.meta["min_time_us"], side.trained_until_us
        if side.meta["split_policy"] != "time" or start is None:
            continue
        if end is None:
            yield f"the {name}'s bundle does not say until when it was trained; train it again"
        elif start <= end:
            yield (
                f"the holdout starts {(end - start) / 86_400e6:.2f} days before the {name}'s"
                " training and validation rows end; evaluate on a later window"
            )


def align(tables: dict[str, pa.Table], shared: Sequence[str]) -> list[str]:
    """Bring the champion's rows, if there are any, into the challenger's order.

    Args:
        tables: predictions by side; the champion's is replaced.
        shared: columns of the challenger's that must be equal wherever both have them.

    Returns:
        What is wrong with the rows; the order is then as it was.
    """
    faults = [fault for name, table in tables.items() for fault in _row_faults(name, table)]
    if "champion" in tables and not faults:
        sides = tables["challenger"], tables["champion"]
        tables["champion"], faults = _aligned(*sides, shared)
    return faults


def _row_faults(name: str, table: pa.Table) -> Iterator[str]:
    ids = table[ROW_ID]
    if table.num_rows == 0:
        yield f"the {name}'s evaluation has no row"
    distinct = pc.count_distinct(ids, mode="all").as_py()
    if distinct != table.num_rows:
        yield f"the {name}'s predictions repeat {table.num_rows - distinct:,} row ids"
    if ids.null_count:
        yield f"the {name}'s predictions have {ids.null_count:,} rows without a row id"


def _number_faults(name: str, table: pa.Table, tasks: tuple[str, ...]) -> Iterator[str]:
    for task in tasks:
        probs = table[prob_column(task)].to_numpy()
        bad = int(np.count_nonzero(~((probs >= 0) & (probs <= 1))))
        if bad:
            yield f"{bad:,} of the {name}'s predictions of {task} are not probabilities"


def _aligned(
    challenger: pa.Table, champion: pa.Table, shared: Sequence[str]
) -> tuple[pa.Table, list[str]]:
    """The champion's rows in the challenger's order, and what differs besides predictions."""
    if challenger[ROW_ID].type != champion[ROW_ID].type:
        types = f"{challenger[ROW_ID].type} and {champion[ROW_ID].type}"
        return champion, [f"row ids are of different types, {types}"]
    if not challenger[ROW_ID].equals(champion[ROW_ID]):
        where = pc.index_in(challenger[ROW_ID], value_set=champion[ROW_ID].combine_chunks())
        missing = where.null_count
        extra = champion.num_rows - (challenger.num_rows - missing)
        if missing or extra:
            return champion, [
                f"the holdout rows differ: {missing:,} only in the challenger's evaluation,"
                f" {extra:,} only in the champion's; evaluate both on the same interval"
            ]
        champion = champion.take(where)
    faults = [
        f"column {column!r} differs between the two evaluations; evaluate both with one spec"
        for column in shared
        if column in champion.column_names and not challenger[column].equals(champion[column])
    ]
    return champion, faults


def _holdout(sides: Mapping[str, Contender], tables: Mapping[str, pa.Table]) -> Holdout:
    rows, tasks = tables["challenger"], sides["challenger"].tasks
    probs: dict[str, dict[str, np.ndarray]] = {"champion": {}} | {
        name: {t: table[prob_column(t)].to_numpy() for t in sides[name].tasks}
        for name, table in tables.items()
    }
    return Holdout(
        clusters=Clusters.of(rows[GROUP].to_numpy()),
        labels={t: rows[label_column(t)].to_numpy() > 0 for t in tasks},
        masks={t: rows[mask_column(t)].to_numpy() for t in tasks},
        **probs,
    )
