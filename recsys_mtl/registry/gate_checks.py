"""The statistical checks of the gate: counts, non-inferiority with three outcomes, floors."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Self

import numpy as np

from recsys_mtl.metrics.auc import auc
from recsys_mtl.metrics.calibration import calibration_ratio
from recsys_mtl.metrics.clusters import quantile
from recsys_mtl.metrics.estimate import Estimate, difference
from recsys_mtl.metrics.logloss import normalized_entropy
from recsys_mtl.registry.decision import NOT_GATED, Check, Verdict
from recsys_mtl.registry.holdout import Holdout
from recsys_mtl.spec.pipeline import Floor, GateConfig, Margins

LABELS = {"auc": "AUC", "ne": "NE gain", "nll": "NLL gain"}
"""Gated metrics. NE and NLL are turned, so that a gain is always positive."""
_SIGN = {"auc": 1.0, "ne": -1.0, "nll": -1.0}
_OF_TASKS = ("auc", "ne")
_METRICS = {"auc": auc, "ne": normalized_entropy, "calibration_ratio": calibration_ratio}


@dataclass(frozen=True, slots=True)
class Power:
    """Error rates of the guardrails: `alpha` each, `joint` for an equal model to pass all."""

    alpha: float
    joint: float
    num_checks: int

    @classmethod
    def of(cls, config: GateConfig) -> Self:
        """Of all checks that a configuration sets margins for."""
        num_checks = sum(
            getattr(m, name) is not None for m in config.margins.values() for name in LABELS
        )
        return cls(config.alpha, config.power, num_checks)

    @property
    def each(self) -> float:
        """Power of one check, so that independent checks reach `joint` together (ruling R1)."""
        return float(self.joint ** (1 / self.num_checks))

    def detectable(self, se: float, num_clusters: int) -> float:
        """Smallest margin at which an equal model passes one check with power `each`.

        MDE = (z(1 - alpha) + z(each)) SE
        """
        return (quantile(1 - self.alpha, num_clusters) + quantile(self.each, num_clusters)) * se

    def pass_probability(self, se: float, margin: float, num_clusters: int) -> float:
        """Phi((m - z SE) / SE): the chance that an equal model passes a check with this margin."""
        if se == 0:
            return 1.0
        return NormalDist().cdf(margin / se - quantile(1 - self.alpha, num_clusters))


def more_clusters(num_clusters: int, detectable: float, margin: float) -> int:
    """Clusters missing until the detectable size is the margin, rounded up to two digits."""
    missing = num_clusters * ((detectable / margin) ** 2 - 1)
    if missing <= 0:
        return 0
    unit = int(10 ** max(0, math.floor(math.log10(missing)) - 1))
    return math.ceil(missing / unit) * unit


def holdout_checks(
    holdout: Holdout, config: GateConfig, first_champion: bool, unit: str
) -> Iterator[Check]:
    """All statistical checks on joined rows.

    Args:
        holdout: rows with the challenger's predictions, and the champion's if there is one.
        config: margins, floors and error rates.
        first_champion: let floors decide the tasks that the champion does not predict.
        unit: what a cluster is, `users` or `rows`.
    """
    power = Power.of(config)
    gated = [t for t in config.margins if t in holdout.labels]
    unmatched = [t for t in gated if t not in holdout.champion]
    if unmatched:
        yield no_baseline(unmatched, first_champion)
    for task in holdout.labels:
        challenger, champion = _measure(holdout, task)
        margins = config.margins.get(task, Margins())
        if task in config.margins:
            yield counts(task, challenger["auc"], config, unit)
        if champion is not None:
            for metric in _OF_TASKS:
                pair = challenger[metric], champion[metric]
                yield guardrail(task, metric, pair, getattr(margins, metric), power, unit)
        elif task in config.margins:
            yield from floors(task, challenger, config.floors.get(task, Floor()), config.alpha)
        ratio = "calibration_ratio"
        yield calibration(task, challenger[ratio], champion[ratio] if champion else None)


def guardrail(
    task: str,
    metric: str,
    pair: tuple[Estimate, Estimate],
    margin: float | None,
    power: Power,
    unit: str,
) -> Check:
    """Is the challenger at most `margin` worse than the champion?

    With L, U the one-sided bounds of the gain: pass if L > -m; refuse if U < -m,
    or if L <= -m although the detectable size is within m; hold otherwise.

    Args:
        task: the label's name.
        metric: `auc`, `ne` or `nll`.
        pair: estimates of challenger and champion on the same rows.
        margin: m > 0 in units of the metric; reported without a verdict when None.
        power: error rates.
        unit: what a cluster is, such as `users`.
    """
    challenger, champion = pair
    gain = difference(challenger, champion)
    name = f"{task} {LABELS[metric]}"
    numbers = {**counted(challenger), "challenger": challenger.value, "champion": champion.value}
    bounds = gain.bounds(power.alpha)
    if gain.value is None or gain.se is None or bounds is None:
        verdict = None if margin is None else Verdict.HOLD
        sentence = f"{verdict or NOT_GATED}: {name} cannot be compared ({gain.reason})"
        return Check("guardrail", verdict, sentence, task, metric, numbers)
    value = _SIGN[metric] * gain.value
    low, high = sorted(_SIGN[metric] * bound for bound in bounds)
    numbers |= {"d": value, "se": gain.se, "L": low, "U": high}
    found = f"{name} {signed(value)}, interval [{signed(low)}, {signed(high)}]"
    if margin is None:
        return Check("guardrail", None, f"{NOT_GATED}: {found}", task, metric, numbers)
    detectable = power.detectable(gain.se, gain.n_clusters)
    chance = power.pass_probability(gain.se, margin, gain.n_clusters)
    numbers |= {"margin": margin, "mde": detectable, "pass_probability": chance}
    verdict, outcome = _non_inferiority(low, high, margin, detectable)
    if verdict is Verdict.HOLD:
        missing = more_clusters(gain.n_clusters, detectable, margin)
        outcome += f"; needs about {missing:,} more {unit}"
    sentence = f"{said(verdict)}: {found} {outcome}"
    return Check("guardrail", verdict, sentence, task, metric, numbers)


def _non_inferiority(
    low: float, high: float, margin: float, detectable: float
) -> tuple[Verdict, str]:
    limit = f"the margin {-margin:+.4f}"
    if low > -margin:
        return Verdict.PROMOTE, f"is above {limit}"
    if high < -margin:
        return Verdict.REFUSE, f"is below {limit}"
    if detectable <= margin:
        return Verdict.REFUSE, f"crosses {limit}, where an equally good model would have passed"
    return Verdict.HOLD, f"crosses {limit}"


def counts(task: str, found: Estimate, config: GateConfig, unit: str) -> Check:
    """Are there enough clusters and rows of both classes for the normal approximation?"""
    needs = (
        (found.n_clusters, config.min_clusters, unit),
        (found.n_pos, config.min_positives, "positive rows"),
        (found.n - found.n_pos, config.min_positives, "negative rows"),
    )
    return enough(task, found, needs, "lengthen the test window")


def enough(task: str, found: Estimate, needs: Sequence[tuple[int, int, str]], fix: str) -> Check:
    """Is there as much as is needed of each thing, given as (found, needed, its name)?"""
    short = [f"{have:,} {what} of {need:,}" for have, need, what in needs if have < need]
    if short:
        verdict, text = Verdict.HOLD, f"only {', '.join(short)} needed; {fix}"
    else:
        verdict, text = Verdict.PROMOTE, ", ".join(f"{have:,} {what}" for have, _, what in needs)
    sentence = f"{said(verdict)}: {task} has {text}"
    return Check("counts", verdict, sentence, task, numbers=counted(found))


def floors(
    task: str, found: Mapping[str, Estimate], floor: Floor, alpha: float
) -> tuple[Check, Check]:
    """Absolute demands on a task without a baseline: AUC above its floor, NE below 1.

    The AUC's lower bound must exceed the floor: a value at or below the floor refuses, a
    value above it whose bound is not holds.
    """
    auc, entropy = found["auc"], found["ne"]
    bounds = auc.bounds(alpha)
    numbers = {**counted(auc), "challenger": auc.value, "se": auc.se, "floor": floor.auc}
    if auc.value is None or bounds is None:
        verdict, text = Verdict.HOLD, f"is undefined ({auc.reason})"
    else:
        numbers["L"] = low = bounds[0]
        verdict = Verdict.HOLD if auc.value > floor.auc else Verdict.REFUSE
        verdict = Verdict.PROMOTE if low > floor.auc else verdict
        text = f"{auc.value:.4f}, lower bound {low:.4f}; its floor is {floor.auc:.4f}"
    sentence = f"{said(verdict)}: {task} AUC {text}"
    first = Check("floor", verdict, sentence, task, "auc", numbers)
    numbers = {**counted(entropy), "challenger": entropy.value, "se": entropy.se, "floor": 1.0}
    if entropy.value is None:
        verdict, text = Verdict.HOLD, f"is undefined ({entropy.reason})"
    else:
        verdict = Verdict.PROMOTE if entropy.value < 1 else Verdict.REFUSE
        text = f"{entropy.value:.4f}; always predicting the mean rate has 1"
    sentence = f"{said(verdict)}: {task} NE {text}"
    return first, Check("floor", verdict, sentence, task, "ne", numbers)


def calibration(task: str, found: Estimate, champion: Estimate | None) -> Check:
    """Report, without a verdict, predicted over observed positives with its 95 % interval."""
    numbers = {
        **counted(found),
        "challenger": found.value,
        "se": found.se,
        "champion": champion.value if champion else None,
    }
    interval = found.interval()
    if interval is None:
        text = f"is undefined ({found.reason})"
    else:
        text = f"{found.value:.3f}, interval [{interval[0]:.3f}, {interval[1]:.3f}]"
    sentence = f"{NOT_GATED}: {task} predicted over observed positives {text}"
    return Check("calibration", None, sentence, task, "calibration_ratio", numbers)


def joint_pass_probability(checks: Sequence[Check]) -> float | None:
    """Chance that an equal model passes all gated guardrails, as if they were independent."""
    gated = [c for c in checks if c.kind == "guardrail" and c.verdict is not None]
    if not gated:
        return None
    return math.prod(c.numbers.get("pass_probability") or 0.0 for c in gated)


def no_baseline(tasks: list[str], allowed: bool) -> Check:
    """Whether floors may decide tasks that no champion predicts."""
    names = ", ".join(tasks)
    if allowed:
        sentence = f"PASS: no baseline for {names}; the floors decide, as --first-champion says"
        return Check("first_champion", Verdict.PROMOTE, sentence)
    sentence = f"REFUSE: no baseline for {names}; pass --first-champion to let the floors decide"
    return Check("first_champion", Verdict.REFUSE, sentence)


def _measure(holdout: Holdout, task: str) -> tuple[dict[str, Estimate], dict[str, Estimate] | None]:
    """Metrics of challenger and champion on the task's rows; None where it is not predicted."""
    rows, labels = holdout.masks[task], holdout.labels[task]
    labels, clusters = labels[rows], holdout.clusters.take(rows)

    def measure(probs: np.ndarray) -> dict[str, Estimate]:
        return {name: metric(probs[rows], labels, clusters) for name, metric in _METRICS.items()}

    champion = holdout.champion.get(task)
    return measure(holdout.challenger[task]), None if champion is None else measure(champion)


def counted(found: Estimate) -> dict[str, float | int | None]:
    """What an estimate rests on."""
    return {"n": found.n, "n_pos": found.n_pos, "n_clusters": found.n_clusters}


def signed(number: float) -> str:
    """Four decimals, zero as +0.0000."""
    return f"{round(number, 4) + 0.0:+.4f}"


def said(verdict: Verdict | None) -> str:
    """The word that begins a check's sentence."""
    if verdict is None:
        return NOT_GATED
    return "PASS" if verdict is Verdict.PROMOTE else str(verdict)
