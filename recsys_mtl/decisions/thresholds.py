"""From what probability on a cause counts: chosen on validation rows, judged on test rows."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from recsys_mtl.metrics.survival.curves import reverse_kaplan_meier
from recsys_mtl.metrics.survival.outcomes import Outcomes
from recsys_mtl.registry.read_outs import stop_column
from recsys_mtl.spec.feature_spec import SurvivalLabel
from recsys_mtl.spec.policy_file import CausePolicy, Policy, causes_of

_ROUNDING = 1e-9
"""Sums of weights are not exact; 9 of 10 are a precision of .9."""


@dataclass(frozen=True, slots=True)
class Rates:
    """How right a threshold is on B rows, of which some were not followed to the horizon."""

    rows: int = 0
    """B"""
    flagged: int = 0
    """At or above the threshold."""
    known: int = 0
    """Of `flagged`, those whose outcome within the horizon is known."""
    precision: float | None = None
    """Share of the flagged rows that operators stop by the cause within the horizon."""
    recall: float | None = None
    """Share of such stops that are flagged."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """The threshold of a cause."""

    cause: str
    value: float | None
    """P(stops within the horizon by this cause) from which on it counts; None: it never does."""
    is_fixed: bool = False
    """Given by the policy, not chosen."""
    validation: Rates | None = None
    """On the rows that it was chosen on; None where it is fixed."""
    best: float | None = None
    """Highest precision of any threshold that enough validation rows reach."""
    test: Rates = Rates()
    """On rows that had no part in the choice."""

    def as_json(self, config: CausePolicy, horizon: int) -> dict[str, Any]:
        """Numbers, and the same in words."""
        return {
            "cause": self.cause,
            "value": self.value,
            "is_fixed": self.is_fixed,
            "best": self.best,
            "validation": None if self.validation is None else asdict(self.validation),
            "test": asdict(self.test),
            "in_words": in_words(self, config, horizon),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Judges:
    """B rows that judge thresholds of one cause.

    A row's outcome is known if it stopped within the horizon, by whatever cause, or was followed to
    the horizon's end. Counting these alone would overrate every threshold, since a stop shortens
    what must be followed. So each stands for those that were lost: its weight is one over the
    chance of not having been censored before its outcome, by the reverse Kaplan-Meier estimate (our
    reading; censoring is taken to be independent of the rest).
    """

    p: np.ndarray
    """float64[B], P(stops within the horizon by the cause)."""
    stopped: np.ndarray
    """bool[B], stopped by the cause within the horizon."""
    weight: np.ndarray
    """float64[B], 0 where the outcome is not known."""

    @classmethod
    def of(cls, rows: pa.Table, name: str, label: SurvivalLabel, horizon: int) -> "Judges":
        """Rows with columns as `choose_thresholds` takes them."""
        number = 1 + causes_of(label).index(name)
        entry, exit_, event = (rows[n].to_numpy() for n in ("entry", "exit", "event"))
        followed = (exit_ - entry + 1).astype(np.int64)
        uncensored = reverse_kaplan_meier(Outcomes(followed, event > 0))
        known = (event > 0) | (followed >= horizon)
        weight = np.zeros(len(known))
        # A censored row is still followed on its last day.
        weight[known] = uncensored.inverse(np.minimum(followed[known], horizon) - 1)
        stopped = (event == number) & (followed <= horizon)
        return cls(rows[cause_column(label, name, horizon)].to_numpy(), stopped, weight)

    def rates(self, value: float | None, chosen: np.ndarray | None = None) -> Rates:
        """How right a threshold is on them, or on those of `chosen`, bool[B]."""
        among = np.ones(len(self.p), bool) if chosen is None else chosen
        flagged = among & (self.p >= (np.inf if value is None else value))
        stops = self.weight * self.stopped
        hits, all_stops = stops[flagged].sum(), stops[among].sum()
        judged = self.weight[flagged].sum()
        return Rates(
            rows=int(among.sum()),
            flagged=int(flagged.sum()),
            known=int((self.weight[flagged] > 0).sum()),
            precision=float(hits / judged) if judged else None,
            recall=float(hits / all_stops) if all_stops else None,
        )


def cause_column(label: SurvivalLabel, cause: str, horizon: int) -> str:
    """Read-out P(stops within `horizon` days by a cause); a label without causes has one."""
    return stop_column(label.name, horizon, cause if label.causes else None)


def choose_thresholds(
    policy: Policy, label: SurvivalLabel, validation: pa.Table, test: pa.Table
) -> list[Threshold]:
    """Thresholds of the policy's causes.

    A chosen threshold is the lowest at or above which operators stopped at least `precision` of the
    validation rows by the cause within the horizon, as at least `min_rows` with known outcome say.
    The best of many looks better where it was chosen than it is, so how right it is stands beside
    it on test rows.

    Args:
        policy: what is aimed at.
        label: of the read-outs.
        validation: read-outs of rows that the model's weights were not fitted to, `entry` and
            `exit` (first and last day at risk), `event` (0 censored, else 1 + number of the cause).
        test: the same of rows on which nothing was chosen.
    """
    thresholds = []
    for name in causes_of(label):
        if name in policy.causes:
            judges = (Judges.of(t, name, label, policy.horizon) for t in (validation, test))
            thresholds.append(_threshold(name, policy.causes[name], *judges))
    return thresholds


def _threshold(name: str, config: CausePolicy, validation: Judges, test: Judges) -> Threshold:
    if config.threshold is not None:
        return Threshold(name, config.threshold, True, test=test.rates(config.threshold))
    value, best = _chosen(config, validation)
    return Threshold(name, value, False, validation.rates(value), best, test.rates(value))


def _chosen(config: CausePolicy, rows: Judges) -> tuple[float | None, float | None]:
    """The threshold, and the best precision of any that enough rows judge."""
    order = np.argsort(-rows.p, kind="stable")
    ranked, weight = rows.p[order], rows.weight[order]
    # Rows of equal probability are flagged together.
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)])
    hits, judged = (np.cumsum(w)[ends] for w in (weight * rows.stopped[order], weight))
    precision = np.divide(hits, judged, out=np.zeros(len(ends)), where=judged > 0)
    enough = np.cumsum(weight > 0)[ends] >= config.min_rows
    best = float(precision[enough].max()) if enough.any() else None
    good = np.flatnonzero(enough & (precision >= config.precision - _ROUNDING))
    return (float(ranked[ends[good[-1]]]) if len(good) else None), best


def bound_in_words(value: float | None) -> str:
    """From what probability on a cause counts, in a few words."""
    return "never counts" if value is None else f"counts from {value:.0%} on"


def in_words(threshold: Threshold, config: CausePolicy, horizon: int) -> str:
    """A few sentences for people."""
    cause, chosen = spoken(threshold.cause), threshold.validation
    if threshold.value is None:
        assert chosen is not None
        best = "" if threshold.best is None else f"; the best is right in {threshold.best:.0%}"
        return (
            f"{cause}: nothing is stopped for it. Of {chosen.rows:,} validation rows at least "
            f"{config.min_rows:,} must reach a threshold, and none is right in "
            f"{config.precision:.0%}{best}."
        )
    start = f"{cause}: counts from a probability of {threshold.value:.3f} on"
    if chosen is None:
        return f"{start}, as the policy says. {_judged(threshold, horizon)}"
    return (
        f"{start}. It was chosen on {chosen.rows:,} validation rows: operators stop "
        f"{chosen.precision:.0%} of the {chosen.flagged:,} that reach it for {cause} within "
        f"{horizon} days. {_judged(threshold, horizon)}"
    )


def _judged(threshold: Threshold, horizon: int) -> str:
    """How right the threshold is where it was not chosen."""
    test = threshold.test
    rows = f"{test.rows:,} test rows, which had no part in the choice,"
    if test.precision is None:
        return f"Of {rows} none with a known outcome reaches it: how right it is nobody knows."
    found = "" if test.recall is None else f", which are {test.recall:.0%} of all such stops"
    return (
        f"Of {rows} {test.flagged:,} reach it; operators stop {test.precision:.0%} of these for "
        f"{spoken(threshold.cause)} within {horizon} days{found}."
    )


def spoken(name: str) -> str:
    """A cause as people write it."""
    return name.replace("_", "-")


def by_cause(thresholds: Sequence[Threshold]) -> dict[str, float | None]:
    """Values of the thresholds."""
    return {threshold.cause: threshold.value for threshold in thresholds}
