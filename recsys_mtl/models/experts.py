"""What experts put out and who reads them: sums over batches, and the figures that follow.

A tower's gates are seen through a probe (`models.interface.Probe`) in eval mode. Only sums are
kept, so any number of rows can be measured.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from torch import Tensor

from recsys_mtl.models.interface import Mixture

ZERO = 1e-6
"""An output of at most this size counts as zero."""
SHARED = "shared"


@dataclass(frozen=True, slots=True, eq=False)
class GateSums:
    """Sums over the rows that one gate has mixed."""

    experts: tuple[str, ...]
    """K names."""
    rows: int
    weight: np.ndarray
    """float64[K]"""
    self_weight: np.ndarray
    """float64[K], of the self gate."""
    row_entropy: float
    """Entropies of the rows' weights, nats."""
    strength: np.ndarray
    """float64[K], (weight + self weight) times the norm of the output."""
    output: np.ndarray
    """float64[K, D]"""
    square: np.ndarray
    """float64[K], squared outputs over rows and units."""
    zeros: np.ndarray
    """float64[K], number of outputs that are zero."""
    active: np.ndarray
    """bool[K, D], units that were ever not zero."""

    @classmethod
    def of(cls, mixture: Mixture) -> Self:
        """Sums over one batch."""
        w, z_BKD = mixture.weights.detach().float(), mixture.outputs.detach().float()
        own = torch.zeros_like(w) if mixture.self_weights is None else mixture.self_weights.detach()
        is_zero_BKD = z_BKD.abs() <= ZERO
        return cls(
            experts=mixture.experts,
            rows=len(w),
            weight=_total(w),
            self_weight=_total(own),
            row_entropy=float(_total(torch.special.entr(w).sum(1))),
            strength=_total((w + own) * torch.linalg.vector_norm(z_BKD, dim=2)),
            output=_total(z_BKD),
            square=_total(z_BKD.square().sum(2)),
            zeros=_total(is_zero_BKD.sum(2)),
            active=(~is_zero_BKD.all(0)).cpu().numpy(),
        )

    def __add__(self, other: "GateSums") -> "GateSums":
        """Sums over the rows of both."""
        return GateSums(
            experts=self.experts,
            rows=self.rows + other.rows,
            weight=self.weight + other.weight,
            self_weight=self.self_weight + other.self_weight,
            row_entropy=self.row_entropy + other.row_entropy,
            strength=self.strength + other.strength,
            output=self.output + other.output,
            square=self.square + other.square,
            zeros=self.zeros + other.zeros,
            active=self.active | other.active,
        )

    @property
    def mean_weight(self) -> np.ndarray:
        """Of the main gate, float64[K]; sums to 1."""
        return self.weight / self.rows

    @property
    def effective(self) -> np.ndarray:
        """Mean weight with the self gate's, float64[K]."""
        mean: np.ndarray = (self.weight + self.self_weight) / self.rows
        return mean

    @property
    def mean_output(self) -> np.ndarray:
        """Mean of every unit, float64[K, D]."""
        return self.output / self.rows

    def entropies(self) -> tuple[float | None, float | None]:
        """Of the mean weights, and mean of the rows' entropies; both as shares of ln K.

        None where there is one expert.
        """
        if len(self.experts) == 1:
            return None, None
        most = np.log(len(self.experts))
        w = self.mean_weight[self.mean_weight > 0]
        return float(-(w * np.log(w)).sum() / most), float(self.row_entropy / self.rows / most)


def _total(x: Tensor) -> np.ndarray:
    total: np.ndarray = x.sum(0, dtype=torch.float64).cpu().numpy()
    return total


@dataclass(slots=True)
class ExpertSums:
    """A probe that sums up every gate of a tower, and changes nothing."""

    gates: dict[tuple[str, str], GateSums] = field(default_factory=dict)
    """(layer, reader) to sums, in the order of the forward pass."""

    def __call__(self, mixture: Mixture) -> Mixture:
        """See one mixture."""
        key, sums = (mixture.layer, mixture.reader), GateSums.of(mixture)
        self.gates[key] = self.gates[key] + sums if key in self.gates else sums
        return mixture

    @property
    def layers(self) -> tuple[str, ...]:
        """From the input on."""
        return tuple(dict.fromkeys(layer for layer, _ in self.gates))

    def of_layer(self, layer: str) -> dict[str, GateSums]:
        """Reader to sums."""
        return {reader: sums for (at, reader), sums in self.gates.items() if at == layer}


@dataclass(frozen=True, slots=True)
class ExpertHealth:
    """One expert on the measured rows, over all gates that read it."""

    layer: str
    expert: str
    zero_share: float
    """Of outputs, over rows and units."""
    dead_share: float
    """Of units, those that were zero on every row."""
    rms: float
    mean: float
    std: float
    load: float
    """Mean weight, self gates' included, over all gates that may read it."""
    readers: int
    """Tasks among these."""
    occupancy: float | None
    """One task's share of the weight that tasks give it, the largest; None with fewer than two."""
    occupant: str
    """That task."""

    @property
    def owner(self) -> str:
        """`shared`, a category or a task."""
        return owner_of(self.expert)


@dataclass(frozen=True, slots=True)
class GateHealth:
    """One gate on the measured rows."""

    layer: str
    reader: str
    entropy: float | None
    """Of its mean weights, as a share of ln K; None for one expert."""
    row_entropy: float | None
    """Mean of the rows' entropies, as a share of ln K: 0 when each row uses one expert."""
    weights: dict[str, float]
    """Expert to mean weight; sums to 1."""
    effective: dict[str, float]
    """Expert to mean weight, the self gate's included."""
    contributions: dict[str, float]
    """Expert to its share of mean weight times norm of output; sums to 1."""
    own_weight: float | None
    """Effective weight of the task's specific experts; None where it has none, or no others."""
    own_even: float | None
    """The same if all experts had equal weight."""


def owner_of(expert: str) -> str:
    """Owner in an expert's name `<owner>/<number>`."""
    return expert.rpartition("/")[0]


def measure_experts(
    sums: ExpertSums, tasks: Iterable[str]
) -> tuple[list[ExpertHealth], list[GateHealth]]:
    """Figures of all experts and of all gates, layer by layer.

    Args:
        sums: over the rows to judge by.
        tasks: tells tasks from categories among readers and owners.
    """
    names = set(tasks)
    experts: list[ExpertHealth] = []
    gates: list[GateHealth] = []
    for layer in sums.layers:
        by_reader = sums.of_layer(layer)
        for expert in dict.fromkeys(e for gate in by_reader.values() for e in gate.experts):
            experts.append(_expert(layer, expert, by_reader, names))
        gates += [_gate(layer, reader, gate, names) for reader, gate in by_reader.items()]
    return experts, gates


def _expert(
    layer: str, expert: str, by_reader: Mapping[str, GateSums], tasks: set[str]
) -> ExpertHealth:
    slots = {r: g.experts.index(expert) for r, g in by_reader.items() if expert in g.experts}
    seen = [(by_reader[reader], k) for reader, k in slots.items()]
    count = sum(gate.rows * gate.output.shape[1] for gate, _ in seen)
    mean = float(sum(gate.output[k].sum() for gate, k in seen) / count)
    square = float(sum(gate.square[k] for gate, k in seen) / count)
    active = np.any([gate.active[k] for gate, k in seen], axis=0)
    weight = {reader: float(by_reader[reader].effective[k]) for reader, k in slots.items()}
    of_task = {reader: w for reader, w in weight.items() if reader in tasks}
    total = sum(of_task.values())
    occupant = max(of_task, key=of_task.__getitem__, default="")
    return ExpertHealth(
        layer=layer,
        expert=expert,
        zero_share=float(sum(gate.zeros[k] for gate, k in seen) / count),
        dead_share=float(1 - active.mean()),
        rms=float(np.sqrt(square)),
        mean=mean,
        std=float(np.sqrt(max(square - mean * mean, 0.0))),
        load=float(np.mean(list(weight.values()))),
        readers=len(of_task),
        occupancy=of_task[occupant] / total if len(of_task) > 1 and total > 0 else None,
        occupant=occupant,
    )


def _gate(layer: str, reader: str, gate: GateSums, tasks: set[str]) -> GateHealth:
    strength = gate.strength / max(gate.strength.sum(), ZERO)
    entropy, row_entropy = gate.entropies()
    own = [reader in tasks and owner_of(e) == reader for e in gate.experts]
    competes = any(own) and not all(own)
    return GateHealth(
        layer=layer,
        reader=reader,
        entropy=entropy,
        row_entropy=row_entropy,
        weights=_named(gate.experts, gate.mean_weight),
        effective=_named(gate.experts, gate.effective),
        contributions=_named(gate.experts, strength),
        own_weight=float(gate.effective[own].sum()) if competes else None,
        own_even=float(np.mean(own)) if competes else None,
    )


def _named(experts: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return dict(zip(experts, values.tolist(), strict=True))


def expert_points(
    experts: Sequence[ExpertHealth], gates: Sequence[GateHealth]
) -> list[tuple[str, float]]:
    """Figures as (metric, value), for the run's log.

    `diag/<layer>/<expert>/<figure>`, `diag/<layer>/<reader>/entropy`, and in the last layer, whose
    readers are tasks, `diag/<task>/<expert>/w`: its effective weight.
    """
    figures = ("zero_share", "dead_share", "rms", "mean", "std", "load", "occupancy")
    points = [
        (f"diag/{e.layer}/{e.expert}/{name}", getattr(e, name)) for e in experts for name in figures
    ]
    for gate in gates:
        for name in ("entropy", "row_entropy", "own_weight"):
            points.append((f"diag/{gate.layer}/{gate.reader}/{name}", getattr(gate, name)))
        if gate.layer == gates[-1].layer:
            for expert, weight in gate.effective.items():
                points.append((f"diag/{gate.reader}/{expert}/w", weight))
    return [(name, value) for name, value in points if value is not None]
