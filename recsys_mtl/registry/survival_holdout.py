"""Two evaluations of a survival label as one holdout: integrity checks, then arrays."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from recsys_mtl.artifacts.commit import read_table
from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.registry.decision import Check
from recsys_mtl.registry.holdout import Contender, align, integrity, leaks, provenance
from recsys_mtl.registry.predictions import ROW_ID, SURVIVAL_ROWS
from recsys_mtl.spec.layout import GROUP, TIME

_LABEL = (GROUP, TIME, "entry", "exit", "event")
_COVERED = ("at_risk", "stopped")
_NUMBERS = ("nll", "marginal_nll", "expected")


@dataclass(frozen=True, slots=True, eq=False)
class Likelihood:
    """What a model's hazards say of n rows."""

    nll: np.ndarray
    """float64[n], nats."""
    marginal_nll: np.ndarray
    """float64[n], of the hazards per interval of the training rows, the same for every row."""
    expected: np.ndarray
    """float64[n], stops expected on the row's days at risk."""

    @classmethod
    def of(cls, table: pa.Table) -> Self:
        """From predictions."""
        return cls(*(table[name].to_numpy() for name in _NUMBERS))


@dataclass(frozen=True, slots=True, eq=False)
class SurvivalHoldout:
    """n rows of a survival label."""

    label: str
    unit: str
    """What a cluster is, `campaigns` or `rows`."""
    clusters: Clusters
    stopped: np.ndarray
    """bool[n], whether a stop counts in the challenger's likelihood."""
    challenger: Likelihood
    champion: Likelihood | None
    """None when there is none that can be compared."""
    uncovered: str
    """Why a champion of the label cannot be compared; empty when it can, or there is none."""


def join_survival(
    challenger: Contender | None, champion: Contender | None
) -> tuple[SurvivalHoldout | None, list[Check]]:
    """Check that two evaluations of a survival label can be compared, and join them on `row_id`.

    A likelihood is of the days that its grid covers. One that covers other days is not compared.

    Args:
        challenger: on rows of its survival label; None without one.
        champion: the same, on the same rows; None without one.

    Returns:
        The joined rows, None without a label or where rows are not the same or not finite, and
        the checks.
    """
    if challenger is None:
        return None, []
    (label,) = challenger.tasks
    sides = {"challenger": challenger}
    if champion is not None and champion.tasks == challenger.tasks:
        sides["champion"] = champion
    tables = {name: _read(side) for name, side in sides.items()}
    faults = [*_other_rows(sides), *align(tables, _LABEL)]
    unfit = [fault for name, table in tables.items() for fault in _not_finite(name, table)]
    checks = [
        integrity("bundle", provenance(sides), label),
        integrity("time", leaks(sides), label),
        integrity("rows", faults, label),
        integrity("likelihoods", unfit, label),
    ]
    if faults or unfit:
        return None, checks
    return _joined(label, challenger, tables), checks


def _read(side: Contender) -> pa.Table:
    columns = [ROW_ID, *_LABEL, *_COVERED, *_NUMBERS]
    return read_table(side.evaluation.path(SURVIVAL_ROWS), columns)


def _other_rows(sides: Mapping[str, Contender]) -> Iterator[str]:
    if len({side.meta["holdout_fp"] for side in sides.values()}) > 1:
        yield "the evaluations are of different holdouts; evaluate both on the same interval"


def _not_finite(name: str, table: pa.Table) -> Iterator[str]:
    for column in _NUMBERS:
        bad = int(np.count_nonzero(~np.isfinite(table[column].to_numpy())))
        if bad:
            yield f"{bad:,} values of the {name}'s {column} are not finite"


def _joined(label: str, challenger: Contender, tables: Mapping[str, pa.Table]) -> SurvivalHoldout:
    rows, other = tables["challenger"], tables.get("champion")
    uncovered = "" if other is None else _uncovered(rows, other)
    return SurvivalHoldout(
        label=label,
        unit="campaigns" if challenger.meta["has_group"] else "rows",
        clusters=Clusters.of(rows[GROUP].to_numpy()),
        stopped=rows["stopped"].to_numpy(),
        challenger=Likelihood.of(rows),
        champion=None if other is None or uncovered else Likelihood.of(other),
        uncovered=uncovered,
    )


def _uncovered(rows: pa.Table, other: pa.Table) -> str:
    if all(rows[name].equals(other[name]) for name in _COVERED):
        return ""
    days, champion_days = (int(table["at_risk"].to_numpy().sum()) for table in (rows, other))
    return (
        f"the challenger's likelihood covers {days:,} days at risk, the champion's "
        f"{champion_days:,}"
    )
