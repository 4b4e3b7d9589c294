"""A policy played back on test creatives, day by day, against what became of them.

The policy decides at the start of each day of the window, as if its stops were carried out: what it
has stopped is not decided about again. Operators decided at the end of days, so of a creative that
both stop the policy spares all days from its own stop to the operator's, both included. Everything
else stays as it was: budget that a stop sets free goes nowhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.decisions.decide import decide
from recsys_mtl.decisions.thresholds import Threshold
from recsys_mtl.ingest.alive_days import OF_THE_DAY, SEEN
from recsys_mtl.spec.feature_spec import SurvivalLabel
from recsys_mtl.spec.policy_file import Policy

_TOP = 0.75


@dataclass(frozen=True, slots=True)
class Asked:
    """Creatives of which the policy asked one thing, each on the first day that it did."""

    creatives: int
    stopped: int
    """By operators within the horizon."""
    stopped_by_next_day: int
    """Of `stopped`, on that day or the next."""
    ran_on: int
    """Not stopped within the horizon, and followed so long."""
    unknown: int
    """Followed for fewer days: campaign or log ended before."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What the policy would have done, and what that would have spared and cost."""

    first_day: str
    last_day: str
    creatives: int
    """Test creatives that were alive on any day of the window."""
    operators: dict[str, int]
    """Stops of operators in the window, by their cause."""
    policy_first: dict[str, int]
    """Of these, creatives that the policy had stopped on or before that day."""
    stop: Asked
    prepare_replacement: Asked
    days_spared: int
    """Of `stop.stopped`, creative-days from the policy's stop to the operator's."""
    spared: dict[str, float]
    """Delivered on these days: impressions, clicks, conversions, spend."""
    lost: dict[str, float]
    """Delivered by `stop.ran_on` within the horizon after the policy's stop."""
    lost_in_top_quarter: int
    """Of `stop.ran_on`, creatives of the quarter that spent most until the window's end."""


@dataclass(frozen=True, slots=True, eq=False)
class _Days:
    """R rows of the window, and A creatives."""

    table: pa.Table
    creative: np.ndarray
    """int64[R], number of the creative."""
    entry: np.ndarray
    followed: np.ndarray
    """int64[R], days at risk from the row's day on."""
    stopped: np.ndarray
    """bool[R], operators stopped it at the end of these."""
    cause: np.ndarray
    """str[R], empty where censored."""
    seen: np.ndarray
    """bool[R], the policy would have been asked about it."""
    amounts: dict[str, np.ndarray]
    """What it delivered on the row's day, [R] each."""

    @classmethod
    def of(cls, table: pa.Table) -> "_Days":
        table = table.sort_by([("day", "ascending"), ("row_id", "ascending")]).combine_chunks()
        cause = table["cause"].cast(pa.string()).fill_null("").to_numpy(zero_copy_only=False)
        codes = table["creative"].combine_chunks().dictionary_encode().indices
        entry = table["entry"].to_numpy().astype(np.int64)
        return cls(
            table,
            codes.to_numpy().astype(np.int64),
            entry,
            table["exit"].to_numpy() - entry + 1,
            table["stopped"].to_numpy() == 1,
            cause.astype(str),
            table[SEEN].to_numpy(zero_copy_only=False),
            {name: table[column].to_numpy() for name, column in OF_THE_DAY.items()},
        )


def replay(
    days: pa.Table, policy: Policy, label: SurvivalLabel, thresholds: Sequence[Threshold]
) -> Replay | None:
    """Play a policy back; None without any day.

    Args:
        days: test creatives on the days of a window, as `scoring.creatives.score_days` has them.
        policy: the rules.
        label: of the read-outs.
        thresholds: of the policy's causes, chosen on other rows.
    """
    if not days.num_rows:
        return None
    rows = _Days.of(days)
    first = _first_asked(rows, policy, label, thresholds)
    stops, horizon = first["stop"], policy.horizon
    is_stopped, ran_on = _outcomes(rows, stops, horizon)
    reached = np.flatnonzero(rows.stopped & (rows.followed == 1))
    early = np.isin(rows.creative[reached], rows.creative[stops])
    return Replay(
        first_day=rows.table["day"][0].as_py().isoformat(),
        last_day=rows.table["day"][-1].as_py().isoformat(),
        creatives=int(rows.creative.max()) + 1,
        operators=_counted(rows.cause[reached]),
        policy_first=_counted(rows.cause[reached[early]]),
        stop=_asked(rows, stops, horizon),
        prepare_replacement=_asked(rows, first["prepare_replacement"], horizon),
        days_spared=int(rows.followed[stops[is_stopped]].sum()),
        spared=_delivered(rows, stops[is_stopped], horizon),
        lost=_delivered(rows, stops[ran_on], horizon),
        lost_in_top_quarter=int(_is_top(rows)[rows.creative[stops[ran_on]]].sum()),
    )


def _first_asked(
    rows: _Days, policy: Policy, label: SurvivalLabel, thresholds: Sequence[Threshold]
) -> dict[str, np.ndarray]:
    """Rows on which the policy first asks for a stop, or for a replacement, of a creative."""
    day = rows.table["day"].cast(pa.int32()).to_numpy()
    is_gone = np.zeros(int(rows.creative.max()) + 1, bool)
    found: dict[str, list[np.ndarray]] = {"stop": [], "prepare_replacement": []}
    previous = None
    for today in np.unique(day):
        here = np.flatnonzero((day == today) & rows.seen & ~is_gone[rows.creative])
        live = rows.table.take(pa.array(here))
        previous = decide(live, policy, label, thresholds, previous)
        for action, of_days in found.items():
            ids = previous.filter(pc.equal(previous["action"], action))["row_id"]
            of_days.append(here[pc.is_in(live["row_id"], ids.combine_chunks()).to_numpy()])
        is_gone[rows.creative[found["stop"][-1]]] = True
    asked = {action: np.concatenate(of_days) for action, of_days in found.items()}
    return {a: at[np.sort(np.unique(rows.creative[at], True)[1])] for a, at in asked.items()}


def _outcomes(rows: _Days, at: np.ndarray, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether operators stopped within the horizon, and whether they let run so long."""
    stopped = rows.stopped[at] & (rows.followed[at] <= horizon)
    return stopped, ~stopped & (rows.followed[at] >= horizon)


def _asked(rows: _Days, at: np.ndarray, horizon: int) -> Asked:
    stopped, ran_on = _outcomes(rows, at, horizon)
    soon = stopped & (rows.followed[at] <= 2)
    counts = (int(flags.sum()) for flags in (stopped, soon, ran_on, ~(stopped | ran_on)))
    return Asked(len(at), *counts)


def _delivered(rows: _Days, at: np.ndarray, horizon: int) -> dict[str, float]:
    """What creatives delivered from given rows on, until their stop or the horizon's end."""
    since = np.full(int(rows.creative.max()) + 1, 2**40)
    until = np.zeros(len(since), np.int64)
    since[rows.creative[at]] = rows.entry[at]
    until[rows.creative[at]] = rows.entry[at] + np.minimum(rows.followed[at], horizon)
    age = rows.entry
    inside = (age >= since[rows.creative]) & (age < until[rows.creative])
    return {name: values[inside].sum().item() for name, values in rows.amounts.items()}


def _is_top(rows: _Days) -> np.ndarray:
    """Whether a creative is of the quarter that spent most, bool[A]."""
    spent = np.zeros(int(rows.creative.max()) + 1)
    total = rows.table["spend"].to_numpy() + rows.amounts["spend"]
    np.maximum.at(spent, rows.creative, total)
    top: np.ndarray = spent > np.quantile(spent, _TOP)
    return top


def _counted(names: np.ndarray) -> dict[str, int]:
    return {
        str(name): int(n) for name, n in zip(*np.unique(names, return_counts=True), strict=True)
    }


def in_words(found: Replay | None, horizon: int) -> list[str]:
    """Sentences for people."""
    if found is None:
        return ["No test creative was alive in the test window, so the policy was not played back."]
    stop, words = found.stop, []
    words.append(
        f"Played back on {found.creatives:,} creatives of test campaigns, which the model was not "
        f"trained on, from {found.first_day} to {found.last_day}, this policy would have stopped "
        f"{stop.creatives:,}."
    )
    if stop.creatives:
        words.append(_became_of(stop, horizon))
    if stop.stopped:
        words.append(
            f"Of the {stop.stopped:,} that operators stopped as well it would have spared "
            f"{found.days_spared:,} days with {_amounts(found.spared)}."
        )
    if stop.ran_on:
        words.append(
            f"The {stop.ran_on:,} that operators let run would have lost {_amounts(found.lost)} "
            f"within {horizon} days; {found.lost_in_top_quarter:,} of them belong to the quarter "
            "of creatives that spent most."
        )
    total, first = sum(found.operators.values()), sum(found.policy_first.values())
    words.append(
        f"Operators stopped {total:,} creatives in that time, {first:,} of them after the policy."
    )
    replaced = found.prepare_replacement
    if replaced.creatives:
        words.append(
            f"It would have asked for {replaced.creatives:,} replacements. "
            f"{_became_of(replaced, horizon)}"
        )
    return words


def _became_of(asked: Asked, horizon: int) -> str:
    return (
        f"Of these operators stopped {asked.stopped:,} within {horizon} days, "
        f"{asked.stopped_by_next_day:,} of them on that day or the next; {asked.ran_on:,} ran on, "
        f"and {asked.unknown:,} were not followed so long."
    )


def _amounts(amounts: Mapping[str, float]) -> str:
    return (
        f"{amounts['impressions']:,} impressions, {amounts['clicks']:,} clicks, "
        f"{amounts['conversions']:,} conversions and a spend of {amounts['spend']:,.2f}"
    )
