"""Alarms put to the test: change what a gate mixes, and see who loses.

A low weight is no proof that an expert is unused, nor a high one that it is useful. Predictions
with and without it are compared on the same rows, so that their errors cancel.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from recsys_mtl.evaluation.expert_alarms import Alarm
from recsys_mtl.metrics.auc import auc
from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.estimate import Estimate, difference
from recsys_mtl.metrics.logloss import logloss
from recsys_mtl.models.experts import ExpertSums, owner_of
from recsys_mtl.models.interface import Mixture, Probe

UNUSED_LOGLOSS = 0.001
"""Relative change of log-loss that counts as none; our reading, as the next."""
UNUSED_AUC = 0.0005
BEYOND_SE = 2.0
"""Standard errors from which a task counts as losing."""
_NOTHING = 1e-12
Verdict = Literal["confirmed", "not confirmed", "needs retraining", "not tested"]
Score = Callable[[Probe], np.ndarray]
"""Probabilities float64[N, T] under a probe, always of the same N rows."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What happened on the N rows that are scored."""

    tasks: tuple[str, ...]
    labels: np.ndarray
    """bool[N, T]"""
    masks: np.ndarray
    """bool[N, T], where the label is known."""
    clusters: Clusters

    def rates(self) -> dict[str, float]:
        """Positive rate of each task on the rows where it is known; 0 without any."""
        known, positive = self.masks.sum(0), (self.labels & self.masks).sum(0)
        return dict(zip(self.tasks, (positive / np.maximum(known, 1)).tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Effect:
    """What an intervention does to one task; None where it is undefined."""

    logloss: float | None
    """Change of log-loss, nats per row: above 0 the task loses."""
    logloss_se: float | None
    """Of the paired change, cluster-robust."""
    relative_logloss: float | None
    auc: float | None

    @property
    def loses(self) -> bool:
        """Whether the task loses by more than `BEYOND_SE` standard errors, and by an amount.

        An expert of hardly any weight changes predictions hardly, but often by several standard
        errors: these shrink along with the weight.
        """
        if self.logloss is None or self.logloss_se is None or self.relative_logloss is None:
            return False
        beyond = self.logloss > BEYOND_SE * self.logloss_se
        return beyond and self.relative_logloss >= UNUSED_LOGLOSS

    @property
    def is_nothing(self) -> bool:
        """Whether what was changed is unused."""
        relative, auc = self.relative_logloss, self.auc
        small = relative is not None and abs(relative) < UNUSED_LOGLOSS
        return small and (auc is None or abs(auc) < UNUSED_AUC)


@dataclass(frozen=True, slots=True)
class Tested:
    """An alarm with its intervention and the verdict."""

    alarm: Alarm
    verdict: Verdict
    intervention: str = ""
    effects: dict[str, Effect] = field(default_factory=dict)
    """Task to effect."""

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        rest = asdict(self)
        return {**rest.pop("alarm"), **rest}


def try_alarms(
    alarms: Sequence[Alarm], sums: ExpertSums, score: Score, outcomes: Outcomes
) -> list[Tested]:
    """Put every alarm, and every claim that an expert is idle, to the test that fits its kind.

    Costs one scoring of the rows for each. Other warnings are not tested. Nor are selectors: what
    a probe sees of them is an average over heads, which it cannot change.

    Args:
        alarms: of a diagnosis.
        sums: that the diagnosis was made from.
        score: the model under a probe.
        outcomes: of the rows that `score` scores.
    """
    # With a probe, so that both sides are computed in the same way, to the last bit.
    base = _estimates(score(lambda mixture: mixture), outcomes)
    tested: list[Tested] = []
    for alarm in alarms:
        if alarm.kind == "selector" or (alarm.level == "warn" and alarm.kind != "idle"):
            tested.append(Tested(alarm, "not tested"))
            continue
        name, probe = _intervention(alarm, sums)
        after = _estimates(score(probe), outcomes)
        effects = {t: _effect(base[t], after[t]) for t in outcomes.tasks}
        tested.append(Tested(alarm, _verdict(alarm, effects), name, effects))
    return tested


def without(layer: str, experts: frozenset[str]) -> Probe:
    """Take the weight of experts away and renormalise the rest; self gates are not renormalised.

    A gate that gives the rest no weight at all weighs it evenly.
    """

    def probe(mixture: Mixture) -> Mixture:
        stays = _stays(mixture, experts)
        if mixture.layer != layer or stays.all():
            return mixture
        w = (mixture.weights + _NOTHING) * stays
        own = None if mixture.self_weights is None else mixture.self_weights * stays
        w = w / w.sum(1, keepdim=True).clamp(min=_NOTHING)
        return replace(mixture, weights=w, self_weights=own)

    return probe


def averaged(layer: str, experts: frozenset[str], sums: ExpertSums) -> Probe:
    """Put the mean over rows in place of the outputs of experts.

    For inner layers: without the weight, later batch norms would see another scale.
    """

    def probe(mixture: Mixture) -> Mixture:
        stays = _stays(mixture, experts)
        if mixture.layer != layer or stays.all():
            return mixture
        mean = sums.gates[layer, mixture.reader].mean_output
        mean_KD = torch.from_numpy(mean).to(mixture.outputs)
        outputs = torch.where(stays.bool()[:, None], mixture.outputs, mean_KD)
        return replace(mixture, outputs=outputs)

    return probe


def uniform(layer: str, reader: str) -> Probe:
    """Weigh all experts of a gate evenly."""

    def probe(mixture: Mixture) -> Mixture:
        if (mixture.layer, mixture.reader) != (layer, reader):
            return mixture
        even = torch.full_like(mixture.weights, 1 / len(mixture.experts))
        return replace(mixture, weights=even)

    return probe


def _stays(mixture: Mixture, experts: frozenset[str]) -> Tensor:
    """float32[K], 0 for `experts`."""
    return mixture.weights.new_tensor([e not in experts for e in mixture.experts])


def _intervention(alarm: Alarm, sums: ExpertSums) -> tuple[str, Probe]:
    """The intervention in words, and as a probe."""
    layer, reader = alarm.layer, alarm.reader
    if alarm.kind == "polarisation":
        assert reader is not None
        return f"even weights for {reader}", uniform(layer, reader)
    experts = frozenset([alarm.expert or ""])
    if alarm.kind == "underfitting":
        assert reader is not None
        read = sums.gates[layer, reader].experts
        experts = frozenset(expert for expert in read if owner_of(expert) == reader)
    names = ", ".join(sorted(experts))
    if layer == sums.layers[-1]:
        return f"weight of {names} taken away", without(layer, experts)
    return f"outputs of {names} replaced by their mean", averaged(layer, experts, sums)


def _verdict(alarm: Alarm, effects: Mapping[str, Effect]) -> Verdict:
    losers = {task for task, effect in effects.items() if effect.loses}
    holds = False
    match alarm.kind:
        case "collapse":
            return "needs retraining"
        case "polarisation":
            # Experts were trained for the gate that they have: if even weights lose, only a
            # model trained with another gate can tell.
            concerned = losers & {alarm.reader} if alarm.reader in effects else losers
            return "needs retraining" if concerned else "confirmed"
        case "idle":
            holds = all(effect.is_nothing for effect in effects.values())
        case "degradation":
            holds = losers == {alarm.reader}
        case "underfitting":
            holds = alarm.reader not in losers
    return "confirmed" if holds else "not confirmed"


def _estimates(probs: np.ndarray, outcomes: Outcomes) -> dict[str, tuple[Estimate, Estimate]]:
    """Log-loss and AUC of each task."""
    found = {}
    for t, task in enumerate(outcomes.tasks):
        rows = np.flatnonzero(outcomes.masks[:, t])
        of_task = probs[rows, t], outcomes.labels[rows, t], outcomes.clusters.take(rows)
        found[task] = logloss(*of_task), auc(*of_task)
    return found


def _effect(before: tuple[Estimate, Estimate], after: tuple[Estimate, Estimate]) -> Effect:
    loss, ranking = (difference(b, a) for b, a in zip(after, before, strict=True))
    relative = None
    if loss.value is not None and before[0].value:
        relative = loss.value / before[0].value
    return Effect(loss.value, loss.se, relative, ranking.value)
