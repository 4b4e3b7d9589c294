"""From what probability on a cause counts, chosen on rows whose outcome is known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recsys_mtl.registry.read_outs import stop_column
from recsys_mtl.spec.feature_spec import SurvivalLabel
from recsys_mtl.spec.policy_file import CausePolicy, Policy, causes_of


@dataclass(frozen=True, slots=True)
class Threshold:
    """The threshold of a cause and how right it was."""

    cause: str
    value: float | None
    """P(stops within the horizon by this cause) from which on it counts; None: it never does."""
    is_fixed: bool = False
    """Given by the policy, not chosen."""
    rows: int = 0
    """Validation rows whose outcome within the horizon is known; 0 when not measured."""
    stops: int = 0
    """Of these, stopped by this cause within the horizon."""
    flagged: int = 0
    """Of `rows`, those at or above the threshold."""
    hits: int = 0
    """Of `flagged`, stops by this cause within the horizon."""
    best: float | None = None
    """Highest precision of any threshold that enough rows judge."""

    @property
    def precision(self) -> float | None:
        """Share of the flagged rows that were stopped."""
        return self.hits / self.flagged if self.flagged else None

    @property
    def recall(self) -> float | None:
        """Share of the stops that were flagged."""
        return self.hits / self.stops if self.stops else None


def cause_column(label: SurvivalLabel, cause: str, horizon: int) -> str:
    """Read-out P(stops within `horizon` days by a cause); a label without causes has one."""
    return stop_column(label.name, horizon, cause if label.causes else None)


def choose_thresholds(
    policy: Policy, label: SurvivalLabel, validation: pa.Table | None
) -> list[Threshold]:
    """Thresholds of the policy's causes.

    The outcome of a row is known if it stopped within the horizon, by whatever cause, or was
    followed to the horizon's end. A chosen threshold is the lowest at which at least `precision` of
    the rows at or above it, and at least `min_rows`, were stopped by the cause within the horizon.
    Being the best of many, it looks better here than it will be; more rows make that smaller.

    Args:
        policy: what is aimed at.
        label: of the read-outs.
        validation: read-outs of rows that the model was not trained on, `entry` and `exit` (first
            and last day at risk), `event` (0 censored, else 1 + number of the cause); may be absent
            when all thresholds are fixed.
    """
    return [
        _threshold(name, policy, label, validation)
        for name in causes_of(label)
        if name in policy.causes
    ]


def needs_validation(policy: Policy) -> bool:
    """Whether any threshold is chosen, not given."""
    return any(cause.threshold is None for cause in policy.causes.values())


def _threshold(
    name: str, policy: Policy, label: SurvivalLabel, validation: pa.Table | None
) -> Threshold:
    config = policy.causes[name]
    if validation is None:
        assert config.threshold is not None
        return Threshold(name, config.threshold, is_fixed=True)
    number = 1 + causes_of(label).index(name)
    entry, exit_, event = (validation[n].to_numpy() for n in ("entry", "exit", "event"))
    p = validation[cause_column(label, name, policy.horizon)].to_numpy()
    last = entry + policy.horizon - 1
    known = (event > 0) | (exit_ >= last)
    stopped = ((event == number) & (exit_ <= last))[known]
    return _judged(name, config, p[known], stopped)


def _judged(name: str, config: CausePolicy, p: np.ndarray, stopped: np.ndarray) -> Threshold:
    order = np.argsort(-p, kind="stable")
    ranked = p[order]
    # Rows of equal probability are flagged together.
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)])
    flagged, hits = ends + 1, np.cumsum(stopped[order])[ends]
    precision, judged = hits / flagged, flagged >= config.min_rows
    best = float(precision[judged].max()) if judged.any() else None
    value, is_fixed = config.threshold, config.threshold is not None
    if value is None:
        good = np.flatnonzero(judged & (precision >= config.precision))
        value = float(ranked[ends[good[-1]]]) if len(good) else None
    above = p >= (np.inf if value is None else value)
    counts = (len(p), int(stopped.sum()), int(above.sum()), int(stopped[above].sum()))
    return Threshold(name, value, is_fixed, *counts, best)


def in_words(threshold: Threshold, config: CausePolicy, horizon: int) -> str:
    """One or two sentences for people."""
    cause = spoken(threshold.cause)
    if threshold.value is None:
        best = "" if threshold.best is None else f"; the best reaches {threshold.best:.0%}"
        return (
            f"{cause}: nothing is stopped for it. No threshold with at least {config.min_rows:,} "
            f"rows above it is right in {config.precision:.0%} of them on {threshold.rows:,} rows "
            f"whose outcome is known{best}."
        )
    start = f"{cause}: counts from a probability of {threshold.value:.3f} on"
    if not threshold.rows:
        return f"{start}, as the policy says; not measured."
    share = "" if threshold.precision is None else f" ({threshold.precision:.0%})"
    recall = "" if threshold.recall is None else f", {threshold.recall:.0%} of all such stops"
    return (
        f"{start}. Of {threshold.rows:,} rows whose next {horizon} days are known it would have "
        f"flagged {threshold.flagged:,}; operators stopped {threshold.hits:,} of them{share} for "
        f"{cause}{recall}."
    )


def spoken(name: str) -> str:
    """A cause as people write it."""
    return name.replace("_", "-")


def by_cause(thresholds: Sequence[Threshold]) -> dict[str, float | None]:
    """Values of the thresholds."""
    return {threshold.cause: threshold.value for threshold in thresholds}
