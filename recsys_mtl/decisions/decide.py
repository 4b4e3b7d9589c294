"""Decisions about the creatives that are alive today.

A cause is likely for a creative when its probability within the horizon reaches the threshold, and
met when the creative's own clicks prove a rate below the target as well. With h hysteresis days:

    stop                  met on h days in a row, on 2 h for causes with `replace_first`
    prepare_replacement   likely on h days in a row, for causes with `replace_first`;
                          or a stop that would leave too few creatives in the campaign
    watch                 a cause is likely or the click rate is too low, but no more
    keep                  the rest

So a stop needs clicks that speak against the creative, a replacement does not (our reading). A
creative of the hold-out is watched at most. A day without decisions breaks a row of days.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.decisions.restraint import Restrained, held_out, restrain
from recsys_mtl.decisions.signs import Signs, likely_column, met_column, read_signs
from recsys_mtl.decisions.thresholds import Threshold, by_cause, cause_column
from recsys_mtl.decisions.why import Case, reasons_of, sentences_of
from recsys_mtl.errors import ConfigError, DataError, Problem
from recsys_mtl.ingest.ctr_weight import check_counts
from recsys_mtl.registry.read_outs import stop_column
from recsys_mtl.spec.feature_spec import SurvivalLabel
from recsys_mtl.spec.policy_file import Policy

ACTIONS = ("stop", "prepare_replacement", "watch", "keep")
"""From what is most urgent to what is least."""
_KEYS = ("creative", "campaign", "advertiser", "genre", "day", "impressions", "clicks")


@dataclass(frozen=True, slots=True, eq=False)
class _Wishes:
    """What signs ask for, bool[B] each."""

    stop: np.ndarray
    replacement: np.ndarray


def decide(
    live: pa.Table,
    policy: Policy,
    label: SurvivalLabel,
    thresholds: Sequence[Threshold],
    previous: pa.Table | None = None,
) -> pa.Table:
    """Decide about B live creatives; equal inputs give equal tables, whatever their order.

    Args:
        live: one row per creative, all of one day (date32), as `scoring.creatives` writes them.
        policy: the rules; its mode changes nothing but `effective`.
        label: of the read-outs.
        thresholds: of the policy's causes.
        previous: an earlier table of decisions; rows of the day before count for hysteresis.

    Returns:
        All columns of `live`, and: action (`ACTIONS`), effective (the action is in force), rank (1
        is most urgent; the order of the rows), reasons list<string>, why (one sentence), hold_out,
        capped, kept_last, target_ctr, evidence (P(click rate < target)), and for each cause
        `<cause>__threshold` (null: never), `<cause>__likely_days`, `<cause>__met_days`.

    Raises:
        ConfigError: if a read-out that the policy needs is absent.
        DataError: if a creative stands twice, or clicks exceed impressions.
    """
    _check(live, policy, label, thresholds)
    live = live.sort_by([("creative", "ascending")]).combine_chunks()
    signs = read_signs(live, policy, label, thresholds, previous)
    wishes = _wishes(signs, policy)
    hold_out = held_out(live, policy.restraint.hold_out)
    # Sorted by creative before, so ties have an order.
    urgency = np.lexsort([-signs.evidence, -_stop_within(live, policy, label)])
    restrained = restrain(live, wishes.stop & ~hold_out, urgency, policy.restraint)
    action = _actions(signs, wishes, restrained, hold_out)
    order = urgency[np.argsort(action[urgency], kind="stable")]
    case = Case(signs, wishes.stop, wishes.replacement, hold_out, restrained)
    new = {
        "action": pa.array(ACTIONS).take(pa.array(action)),
        "effective": pa.array(np.full(live.num_rows, policy.mode == "act")),
        "rank": _ranks(order),
        "reasons": reasons_of(case),
        "why": sentences_of(case, policy, by_cause(thresholds), live),
    }
    held = {"hold_out": hold_out, "capped": restrained.capped, "kept_last": restrained.kept_last}
    held |= {"target_ctr": signs.target, "evidence": signs.evidence}
    new |= {name: pa.array(values) for name, values in held.items()}
    new |= _of_causes(signs, thresholds, live.num_rows)
    known = dict(zip(live.column_names, live.columns, strict=True))
    return pa.table(known | new).take(pa.array(order))


def _stop_within(live: pa.Table, policy: Policy, label: SurvivalLabel) -> np.ndarray:
    """P(stops within the policy's horizon), by any cause, float64[B]."""
    p: np.ndarray = live[stop_column(label.name, policy.horizon)].to_numpy()
    return p


def _ranks(order: np.ndarray) -> pa.Array:
    """int32[B], 1 for the first row of an order."""
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(1, len(order) + 1)
    return pa.array(rank)


def _of_causes(signs: Signs, thresholds: Sequence[Threshold], num_rows: int) -> dict[str, pa.Array]:
    """Threshold and days of hysteresis of each cause."""
    columns = {}
    for threshold in thresholds:
        value = pa.scalar(threshold.value, pa.float64())
        columns[f"{threshold.cause}__threshold"] = pa.repeat(value, num_rows)
        days = signs.causes[threshold.cause]
        columns[likely_column(threshold.cause)] = pa.array(days.likely_days)
        columns[met_column(threshold.cause)] = pa.array(days.met_days)
    return columns


def _check(
    live: pa.Table, policy: Policy, label: SurvivalLabel, thresholds: Sequence[Threshold]
) -> None:
    columns = [cause_column(label, t.cause, policy.horizon) for t in thresholds]
    columns.append(stop_column(label.name, policy.horizon))
    absent = sorted(set(columns) - set(live.column_names))
    if absent:
        text = f"the scores of the model have no {', '.join(absent)}"
        fix = "Promote a model of the present feature spec, or decide by what this one reads out."
        raise ConfigError(Problem("policy", text, fix, "P031"))
    repeats = live.num_rows - pc.count_distinct(live["creative"]).as_py()
    if repeats:
        text = f"{repeats:,} rows repeat a creative; each has one row a day"
        raise DataError(Problem("column 'creative'", text, "Score each creative once.", "D071"))
    check_counts(live["clicks"].to_numpy(), live["impressions"].to_numpy())


def _wishes(signs: Signs, policy: Policy) -> _Wishes:
    days = policy.restraint.hysteresis_days
    stop = np.zeros(len(signs.target), bool)
    replacement = stop.copy()
    for name, cause in signs.causes.items():
        stop |= cause.met_days >= policy.days_needed(name)
        if policy.causes[name].replace_first:
            replacement |= cause.likely_days >= days
    return _Wishes(stop, replacement)


def _actions(
    signs: Signs, wishes: _Wishes, restrained: Restrained, hold_out: np.ndarray
) -> np.ndarray:
    """Index of `ACTIONS`, int64[B]."""
    replacement = (wishes.replacement | restrained.kept_last) & ~hold_out
    watch = signs.is_likely | signs.is_below
    conditions = [restrained.stops, replacement, watch]
    chosen: np.ndarray = np.select(conditions, [0, 1, 2], default=3)
    return chosen
