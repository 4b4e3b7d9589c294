"""When experts fail: collapse, degradation, underfitting, and gates that use one expert only.

The failures are those that HoME names (arXiv 2408.05430); every threshold is ours.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import correlation
from typing import Any, Literal

from recsys_mtl.models.experts import (
    SHARED,
    ZERO,
    ExpertHealth,
    ExpertSums,
    GateHealth,
    measure_experts,
)

Level = Literal["warn", "alarm"]
Kind = Literal["collapse", "polarisation", "degradation", "idle", "underfitting", "selector"]
SELECTOR = "selector"
"""Layer name of attention over fields, whose `experts` are field tokens."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where a figure becomes a warning or an alarm."""

    zero_warn: float = 0.70
    zero_alarm: float = 0.80
    """Set on three seeds: broken controls measure .847 to .928, whole ReLU experts .46 to .60."""
    rms_ratio_warn: float = 4.0
    entropy_warn: float = 0.30
    entropy_alarm: float = 0.15
    """Of mean weights; an alarm when half of a layer's gates are below."""
    row_entropy_warn: float = 0.05
    """Of single rows: a top weight of about 0.99 among four experts."""
    occupancy_warn: float = 0.60
    occupancy_alarm: float = 0.80
    occupancy_readers: int = 8
    """Readers for which occupancies were set, see `occupancy_limit`."""
    idle_load: float = 0.02
    own_warn: float = 0.30
    own_alarm: float = 0.10
    """Shares of the weight that a task's own experts would have if all were equal."""
    top_warn: float = 0.70
    top_alarm: float = 0.90
    cosine_alarm: float = 0.99


LIMITS = Thresholds()


@dataclass(frozen=True, slots=True)
class Alarm:
    """One figure beyond its threshold."""

    kind: Kind
    level: Level
    layer: str
    expert: str | None
    """None when it is about a gate or a layer."""
    reader: str | None
    """Task, category or `shared`; None when it is about an expert or a layer."""
    value: float
    threshold: float
    sentence: str
    """What it means and what to do."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Health of a tower's experts and gates, and what is wrong with them."""

    rows: int
    experts: tuple[ExpertHealth, ...]
    gates: tuple[GateHealth, ...]
    rate_correlation: dict[str, float | None]
    """Layer to the correlation, over tasks, of own weight with log positive rate."""
    alarms: tuple[Alarm, ...]

    def as_json(self) -> dict[str, Any]:
        """JSON values; alarms stand at the end."""
        return asdict(self)


def diagnose(sums: ExpertSums, rates: Mapping[str, float]) -> Diagnosis:
    """Judge experts and gates by `LIMITS`.

    Args:
        sums: over 20,000 rows or more, in eval mode.
        rates: positive rate of every task, on the rows where it is known.
    """
    experts, gates = measure_experts(sums, rates)
    alarms: list[Alarm] = []
    correlations: dict[str, float | None] = {}
    for layer in sums.layers:
        of_layer = [e for e in experts if e.layer == layer]
        readers = [g for g in gates if g.layer == layer]
        if layer == SELECTOR:
            alarms += _selector(readers)
            continue
        alarms += [
            *_collapse(of_layer),
            *_polarisation(readers),
            *_degradation(of_layer, rates),
            *_underfitting(readers, rates),
        ]
        correlations[layer] = _rate_correlation(readers, rates)
    rows = max((gate.rows for gate in sums.gates.values()), default=0)
    return Diagnosis(rows, tuple(experts), tuple(gates), correlations, tuple(alarms))


def occupancy_limit(limit: float, readers: int) -> float:
    """Carry a limit that was set for eight readers over to another number of them.

    Its place between even use, 1 / n, and sole use, 1, is kept (our reading): with two tasks an
    occupancy of 0.6 is nearly even use, with eight it is not.
    """
    even, even_there = 1 / readers, 1 / LIMITS.occupancy_readers
    return even + (limit - even_there) * (1 - even) / (1 - even_there)


def _grade(is_alarm: bool, alarm: float, warn: float) -> tuple[Level, float]:
    return ("alarm", alarm) if is_alarm else ("warn", warn)


def _collapse(experts: Sequence[ExpertHealth]) -> Iterator[Alarm]:
    for e in experts:
        if e.zero_share > LIMITS.zero_warn:
            is_alarm = e.zero_share >= LIMITS.zero_alarm
            level, limit = _grade(is_alarm, LIMITS.zero_alarm, LIMITS.zero_warn)
            sentence = (
                f"{e.zero_share:.0%} of what expert {e.expert} puts out is zero, so gates cannot "
                "weigh it fairly; set expert_style to bn_silu or lower the learning rate."
            )
            yield Alarm("collapse", level, e.layer, e.expert, None, e.zero_share, limit, sentence)
    loud, quiet = max(experts, key=lambda e: e.rms), min(experts, key=lambda e: e.rms)
    ratio = max(loud.rms, ZERO) / max(quiet.rms, ZERO)
    limit = LIMITS.rms_ratio_warn
    if ratio > limit:
        sentence = (
            f"Outputs of expert {loud.expert} are {ratio:.1f} times as large as those of "
            f"{quiet.expert}, so equal weights do not mean equal influence; set expert_style to "
            "bn_silu."
        )
        yield Alarm("collapse", "warn", loud.layer, None, None, ratio, limit, sentence)


def _polarisation(gates: Sequence[GateHealth]) -> Iterator[Alarm]:
    entropies = [g.entropy for g in gates if g.entropy is not None]
    many = 2 * sum(h < LIMITS.entropy_alarm for h in entropies) >= len(entropies)
    for g in gates:
        if g.entropy is None or g.row_entropy is None:
            continue
        if g.entropy < LIMITS.entropy_warn:
            is_alarm = many and g.entropy < LIMITS.entropy_alarm
            level, limit = _grade(is_alarm, LIMITS.entropy_alarm, LIMITS.entropy_warn)
            top = max(g.weights, key=g.weights.__getitem__)
            sentence = (
                f"The gate of {g.reader} gives {g.weights[top]:.0%} of its weight to {top}, so "
                "its other experts hardly count; normalise the gate's input or lower the "
                "learning rate."
            )
            yield Alarm("polarisation", level, g.layer, None, g.reader, g.entropy, limit, sentence)
        elif g.row_entropy < LIMITS.row_entropy_warn:
            limit = LIMITS.row_entropy_warn
            sentence = (
                f"The gate of {g.reader} picks a single expert for each row, which balanced mean "
                "weights hide; normalise the gate's input unless sparse routing is what you want."
            )
            yield Alarm(
                "polarisation", "warn", g.layer, None, g.reader, g.row_entropy, limit, sentence
            )


def _degradation(experts: Sequence[ExpertHealth], tasks: Mapping[str, float]) -> Iterator[Alarm]:
    """Shared experts that serve one reader; experts of several readers that none uses."""
    only_shared = all(e.owner == SHARED for e in experts)
    for e in experts:
        if e.owner in tasks:
            continue
        if e.load <= LIMITS.idle_load:
            sentence = (
                f"Expert {e.expert} gets {e.load:.1%} of the weight of those who may read it, so "
                "it costs time and gives nothing; use fewer experts."
            )
            yield Alarm("idle", "warn", e.layer, e.expert, None, e.load, LIMITS.idle_load, sentence)
        elif e.owner == SHARED and e.occupancy is not None:
            alarm = occupancy_limit(LIMITS.occupancy_alarm, e.readers)
            warn = occupancy_limit(LIMITS.occupancy_warn, e.readers)
            if e.occupancy <= warn:
                continue
            # Where nothing is specific, a shared expert is the only place to specialise.
            level, limit = _grade(e.occupancy > alarm and not only_shared, alarm, warn)
            sentence = (
                f"{e.occupancy:.0%} of the weight of shared expert {e.expert} comes from "
                f"{e.occupant}, so it shares nothing; give {e.occupant} specific experts of "
                "its own, or use the tower home."
            )
            yield Alarm(
                "degradation", level, e.layer, e.expert, e.occupant, e.occupancy, limit, sentence
            )


def _underfitting(gates: Sequence[GateHealth], rates: Mapping[str, float]) -> Iterator[Alarm]:
    sparse = sorted(rates, key=lambda task: rates[task])[: math.ceil(len(rates) / 3)]
    for g in gates:
        if g.own_weight is None or g.own_even is None:
            continue
        share = g.own_weight / g.own_even
        if share < LIMITS.own_warn:
            is_alarm = share < LIMITS.own_alarm and g.reader in sparse
            level, limit = _grade(is_alarm, LIMITS.own_alarm, LIMITS.own_warn)
            sentence = (
                f"Task {g.reader} gives its own experts {g.own_weight:.1%} of its weight "
                f"({g.own_even:.0%} would be even), so they hardly learn; use the tower home, "
                "whose self gate feeds them, or fewer specific experts."
            )
            limit *= g.own_even
            yield Alarm(
                "underfitting", level, g.layer, None, g.reader, g.own_weight, limit, sentence
            )


def _rate_correlation(gates: Sequence[GateHealth], rates: Mapping[str, float]) -> float | None:
    """None where fewer than three tasks can be compared, or all are equal."""
    points = [
        (math.log(rates[g.reader]), g.own_weight)
        for g in gates
        if g.own_weight is not None and rates[g.reader] > 0
    ]
    x, y = [p[0] for p in points], [p[1] for p in points]
    if len(points) < 3 or len(set(x)) == 1 or len(set(y)) == 1:
        return None
    return correlation(x, y)


def _selector(gates: Sequence[GateHealth]) -> Iterator[Alarm]:
    """Attention over fields that reads one field only, or the same for every task."""
    for g in gates:
        top = max(g.weights, key=g.weights.__getitem__)
        share = g.weights[top]
        if share > LIMITS.top_warn:
            level, limit = _grade(share > LIMITS.top_alarm, LIMITS.top_alarm, LIMITS.top_warn)
            sentence = (
                f"The selector of {g.reader} gives {share:.0%} of its attention to {top}, so "
                "other fields hardly count; lower the learning rate, or use more indicators."
            )
            yield Alarm("selector", level, g.layer, top, g.reader, share, limit, sentence)
    pairs = ((a.weights, b.weights) for i, a in enumerate(gates) for b in gates[:i])
    least = min((_cosine(*pair) for pair in pairs), default=0.0)
    limit = LIMITS.cosine_alarm
    if least > limit:
        sentence = (
            "All tasks attend to fields in the same way, so the selector selects nothing; train "
            "longer, or use a tower without one."
        )
        yield Alarm("selector", "alarm", gates[0].layer, None, None, least, limit, sentence)


def _cosine(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    dot = sum(a[token] * b[token] for token in a)
    return dot / math.sqrt(sum(x * x for x in a.values()) * sum(x * x for x in b.values()))
