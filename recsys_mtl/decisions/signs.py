"""What speaks for a stop of each live creative, before anything holds it back."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import betainc

from recsys_mtl.decisions.thresholds import Threshold, cause_column
from recsys_mtl.spec.feature_spec import SurvivalLabel
from recsys_mtl.spec.policy_file import Policy, TargetCtr


@dataclass(frozen=True, slots=True, eq=False)
class CauseSigns:
    """Of one cause, for B creatives."""

    probability: np.ndarray
    """float64[B], of a stop by this cause within the horizon."""
    is_likely: np.ndarray
    """bool[B], at or above the threshold."""
    likely_days: np.ndarray
    """int32[B], days in a row, up to today, on which it was likely after enough impressions."""
    met_days: np.ndarray
    """int32[B], days in a row on which clicks spoke for it as well."""


@dataclass(frozen=True, slots=True, eq=False)
class Signs:
    """Of all causes, for B creatives."""

    causes: dict[str, CauseSigns]
    target: np.ndarray
    """float64[B], click rate that is expected."""
    evidence: np.ndarray
    """float64[B], P(click rate < target) by the creative's own clicks."""
    is_shown: np.ndarray
    """bool[B], enough impressions to judge."""
    is_below: np.ndarray
    """bool[B], judged, and its click rate is too low."""

    @property
    def is_likely(self) -> np.ndarray:
        """bool[B], by any cause."""
        likely: np.ndarray = np.any([c.is_likely for c in self.causes.values()], axis=0)
        return likely


def below_target(
    clicks: np.ndarray, impressions: np.ndarray, target: np.ndarray, prior_impressions: float
) -> np.ndarray:
    """P(click rate < target), float64[B].

        rate | c, n ~ Beta(alpha + c, beta + n - c),
        alpha = target * s, beta = (1 - target) * s

    With s impressions of prior around the target, no impressions speak neither for nor against a
    creative; that the prior's mean is the target is our reading.

    Args:
        clicks: int64[B], c.
        impressions: int64[B], n >= c.
        target: float64[B], in (0, 1).
        prior_impressions: s.
    """
    alpha, beta = target * prior_impressions, (1 - target) * prior_impressions
    probability: np.ndarray = betainc(alpha + clicks, beta + impressions - clicks, target)
    return probability


def read_signs(
    live: pa.Table,
    policy: Policy,
    label: SurvivalLabel,
    thresholds: Sequence[Threshold],
    previous: pa.Table | None,
) -> Signs:
    """Signs of B live creatives, in their order; arguments as `decide`."""
    clicks, impressions = live["clicks"].to_numpy(), live["impressions"].to_numpy()
    rules = policy.evidence
    target = _targets(live, rules.target_ctr)
    evidence = below_target(clicks, impressions, target, rules.prior_impressions)
    is_shown = impressions >= rules.min_impressions
    is_below = is_shown & (evidence >= rules.probability)
    yesterday = _Yesterday.of(live, previous)
    causes = {}
    for threshold in thresholds:
        name = threshold.cause
        p = live[cause_column(label, name, policy.horizon)].to_numpy()
        is_likely = p >= (np.inf if threshold.value is None else threshold.value)
        days = (
            np.where(holds, yesterday.days(column) + 1, 0).astype(np.int32)
            for holds, column in (
                (is_likely & is_shown, likely_column(name)),
                (is_likely & is_below, met_column(name)),
            )
        )
        causes[name] = CauseSigns(p, is_likely, *days)
    return Signs(causes, target, evidence, is_shown, is_below)


def likely_column(cause: str) -> str:
    """Column of a decisions table with `CauseSigns.likely_days`."""
    return f"{cause}__likely_days"


def met_column(cause: str) -> str:
    """Column of a decisions table with `CauseSigns.met_days`."""
    return f"{cause}__met_days"


@dataclass(frozen=True, slots=True, eq=False)
class _Yesterday:
    """Rows of the previous decisions that are about the same creative on the day before."""

    previous: pa.Table | None
    at: np.ndarray
    """int64[B], row of `previous`, -1 without one."""

    @classmethod
    def of(cls, live: pa.Table, previous: pa.Table | None) -> "_Yesterday":
        if previous is None:
            return cls(None, np.full(live.num_rows, -1))
        now, then = (t["creative"].cast(pa.string()).combine_chunks() for t in (live, previous))
        at = pc.index_in(now, then).fill_null(-1).to_numpy().astype(np.int64)
        today, before = (t["day"].cast(pa.int32()).to_numpy() for t in (live, previous))
        is_next = (at >= 0) & (before[at] == today - 1) if len(before) else at >= 0
        return cls(previous, np.where(is_next, at, -1))

    def days(self, column: str) -> np.ndarray:
        """Days in a row until yesterday; 0 for what was not decided then."""
        if self.previous is None or column not in self.previous.column_names:
            return np.zeros(len(self.at), np.int64)
        days: np.ndarray = np.append(self.previous[column].to_numpy(), 0)[self.at]
        return days


def _targets(live: pa.Table, target: TargetCtr) -> np.ndarray:
    """Target click rate of each creative's genre, float64[B]."""
    encoded = live["genre"].cast(pa.string()).combine_chunks().dictionary_encode()
    # A last entry stands for null.
    known = [target.genres.get(genre, target.default) for genre in encoded.dictionary.to_pylist()]
    rates = np.array([*known, target.default])
    taken: np.ndarray = rates[encoded.indices.fill_null(len(known)).to_numpy()]
    return taken
