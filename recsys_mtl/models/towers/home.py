"""Hierarchy of multi-gate experts (HoME, arXiv 2408.05430); our implementation."""

from collections import Counter
from itertools import accumulate

import torch
from torch import Tensor, nn

from recsys_mtl.models.interface import BottomOutput, Mixture, Probe, mix, names_of
from recsys_mtl.models.towers.feature_gate import OwnedExperts
from recsys_mtl.models.towers.tower import evaluate_once
from recsys_mtl.spec.model_config import HoMEConfig

Groups = dict[str, tuple[str, ...]]
"""Category to its tasks."""


class HoME(nn.Module):
    """Experts in a hierarchy: for all tasks, for a category of tasks, for one task.

    Meta level, with x_c for each category c, and n = layer_norm:

        M_s = Experts(x_shared),  M_c = Experts(x_c)
        z_c      = mix(softmax(W_c n(x_c)), [M_s; M_c]) + mix(self_c(n(x_c)), M_c)
        z_shared = mix(softmax(W_s n(x_shared)), [M_s; every M_c]) + mix(self_s(n(x_shared)), M_s)

    Task level, for each task t of category c:

        E_s = Experts(z_shared),  E_c = Experts(z_c),  E_t = Experts(z_c)
        f_t = mix(softmax(W_t [z_c; z_shared]), [E_s; E_c; E_t]) + mix(self_t(z_c), E_t)

    where mix(w, z) = sum_k w_k z_k, and self(x) = softmax(V x), or sigmoid(V x) for one expert,
    over which a softmax would be constant. A gate has slots for what its reader reads, so that
    another category reaches a task through z_shared only. Each owner of experts (shared, a
    category, a task) gates their input feature by feature: see `OwnedExperts`.

    Source: the failures it repairs and the normalised experts are published. Hierarchy, feature
    and self gates follow descriptions of the paper, not its text; one linear layer per expert,
    gates that read ungated inputs, the layer norm, counts and ranks are our reading. There is no
    balancing loss.

    Shapes: x_c, x_shared float32[B, D_in] -> {task: float32[B, D2]}.

    Cost, with C categories, T tasks, K experts per owner (s, c, t) and level (1, 2), widths D1
    and D2, ranks r1 and r2, e(i, o) = (i + 3) o and g(i, k) = (i + 1) k. Parameters:

        (K_s1 + C K_c1) e(D_in, D1) + C g(D_in, K_s1 + K_c1) + g(D_in, K_s1 + C K_c1) + 2 D_in
        + (K_s2 + C K_c2 + T K_t2) e(D1, D2) + T g(2 D1, K_s2 + K_c2 + K_t2)
        + [feature gate] 2 (C + 1) D_in r1 + 2 (1 + C + T) D1 r2
        + [self gate] C g(D_in, K_c1) + g(D_in, K_s1) + T g(D1, K_t2)

    MACs per row: the same with e(i, o) = i o and g(i, k) = i k, without 2 D_in, and with D1 or D2
    for every slot of every mixture.

    Args:
        in_dim: width of x (D_in).
        tasks: names, in the order of the labels.
        groups: category to its tasks; every task is in exactly one.
        config: experts, widths, gates.

    Raises:
        ValueError: if a task is in no category or in two, a name means two things, or a rank
            exceeds the width that it gates.
    """

    def __init__(
        self, in_dim: int, tasks: tuple[str, ...], groups: Groups, config: HoMEConfig
    ) -> None:
        super().__init__()
        _check_groups(tasks, groups)
        self.tasks = tasks
        self.out_dim = config.expert_dim
        self.meta_level = MetaLevel(in_dim, tuple(groups), config)
        self.task_level = TaskLevel(groups, config)

    def forward(self, bottom: BottomOutput, probe: Probe | None = None) -> dict[str, Tensor]:
        """Task name to f_t, float32[B, D2]."""
        z = self.meta_level(bottom, probe)
        f = self.task_level(z, probe)
        return {task: f[task] for task in self.tasks}


class MetaLevel(nn.Module):
    """Layer 1 of `HoME`: from x to z_shared and z_c.

    Args:
        in_dim: width of x (D_in).
        categories: of the tasks.
        config: experts, widths, gates.
    """

    def __init__(self, in_dim: int, categories: tuple[str, ...], config: HoMEConfig) -> None:
        super().__init__()
        count = {"shared": config.meta_shared} | dict.fromkeys(categories, config.meta_category)
        rank = config.feature_rank1 or max(1, in_dim // 32)
        _check_rank("feature_rank1", rank, in_dim)
        self.experts = OwnedExperts(
            count, in_dim, config.meta_dim, rank if config.feature_gate else None
        )
        reads: Groups = {"shared": tuple(count)} | {c: ("shared", c) for c in categories}
        self.readers = Readers("1", count, reads, config.self_gate)
        self.gate_norm = nn.LayerNorm(in_dim)
        self.gates = nn.Linear(in_dim, sum(self.readers.widths))

    def forward(self, bottom: BottomOutput, probe: Probe | None) -> dict[str, Tensor]:
        """Give z of `shared` and of every category, float32[B, D1]."""
        names = tuple(self.readers.slots)
        x = dict.fromkeys(names, bottom.shared) | (bottom.groups or {})
        logits = evaluate_once(self._logits, x, names)
        own = [logits[reader][i] for i, reader in enumerate(self.readers.columns)]
        z: dict[str, Tensor] = self.readers(torch.cat(own, dim=1), self.experts(x), probe)
        return z

    def _logits(self, x: Tensor) -> tuple[Tensor, ...]:
        """Those of all gates, then of all self gates, as if x were the input of each."""
        parts: tuple[Tensor, ...] = self.gates(self.gate_norm(x)).split(self.readers.widths, dim=1)
        return parts


class TaskLevel(nn.Module):
    """Layer 2 of `HoME`: from z_shared and z_c to f_t.

    Tasks of a category read the same z_c, so that their gates are one linear layer.

    Args:
        groups: category to its tasks.
        config: experts, widths, gates.
    """

    def __init__(self, groups: Groups, config: HoMEConfig) -> None:
        super().__init__()
        self.category = {task: c for c, tasks in groups.items() for task in tasks}
        dim = config.meta_dim
        count = {"shared": config.num_shared} | dict.fromkeys(groups, config.num_category)
        count |= dict.fromkeys(self.category, config.num_specific)
        rank = config.feature_rank2 or max(1, dim // 8)
        _check_rank("feature_rank2", rank, dim)
        self.experts = OwnedExperts(
            count, dim, config.expert_dim, rank if config.feature_gate else None
        )
        reads: Groups = {task: ("shared", c, task) for task, c in self.category.items()}
        self.readers = Readers("2", count, reads, config.self_gate)
        slots = config.num_shared + config.num_category + config.num_specific
        self.categories = tuple(groups)
        sizes = [len(tasks) for tasks in groups.values()]
        self.gates = nn.ModuleList(nn.Linear(2 * dim, n * slots) for n in sizes)
        self.self_gates = nn.ModuleList(
            nn.Linear(dim, n * config.num_specific) for n in sizes if config.self_gate
        )

    def forward(self, z: dict[str, Tensor], probe: Probe | None) -> dict[str, Tensor]:
        """Task name to f_t, float32[B, D2]."""
        own = [z[category] for category in self.categories]
        gates = zip(self.gates, own, strict=True)
        logits = [gate(torch.cat([z_c, z["shared"]], dim=1)) for gate, z_c in gates]
        logits += [gate(z_c) for gate, z_c in zip(self.self_gates, own, strict=False)]
        outputs = self.experts(z | {task: z[c] for task, c in self.category.items()})
        f: dict[str, Tensor] = self.readers(torch.cat(logits, dim=1), outputs, probe)
        return f


class Readers(nn.Module):
    """All mixtures of one level; it has no parameters.

    Logits are scattered to a slot for every expert, -inf where a reader does not read it, so that
    one softmax and one product serve all readers (2,048 rows, D_in 256, 4 tasks, one core: a
    training step of the tower took 48 ms, and 68 with a product for each). Weights of the other
    slots, and gradients through them, are exactly 0.

    Args:
        layer: name of the level in its mixtures.
        count: owner to its number of experts, in the order of the experts.
        reads: reader to the owners of the experts it mixes; itself among them.
        self_gate: whether a reader weighs its own experts once more.
    """

    index: Tensor
    alone: Tensor

    def __init__(self, layer: str, count: dict[str, int], reads: Groups, self_gate: bool) -> None:
        super().__init__()
        self.layer = layer
        self.experts = tuple(name for owner, k in count.items() for name in names_of(owner, k))
        last = dict(zip(count, accumulate(count.values()), strict=True))
        of = {owner: list(range(last[owner] - k, last[owner])) for owner, k in count.items()}
        self.slots = {r: [i for owner in owners for i in of[owner]] for r, owners in reads.items()}
        """Reader to the positions of its experts."""
        self.columns = (*reads, *(reads if self_gate else ()))
        """Readers of all gates, then of all self gates."""
        slots = [*self.slots.values(), *(of[reader] for reader in reads)][: len(self.columns)]
        self.widths = [len(column) for column in slots]
        """Number of logits of each column."""
        index = [i * len(slots) + c for c, column in enumerate(slots) for i in column]
        self.register_buffer("index", torch.tensor(index), persistent=False)
        alone = torch.tensor([count[reader] == 1 for reader in reads])
        self.register_buffer("alone", alone[:, None], persistent=False)

    def forward(self, logits: Tensor, outputs: Tensor, probe: Probe | None) -> dict[str, Tensor]:
        """Reader to its mixture, float32[B, D].

        Args:
            logits: of all columns, float32[B, sum of `widths`].
            outputs: of all experts, float32[B, K, D].
            probe: sees every mixture.
        """
        gate_KRB, self_KRB = self._weights(logits)
        if probe is None:
            total_KRB = gate_KRB if self_KRB is None else gate_KRB + self_KRB
            # As a view it makes bmm on a CPU go row by row: 66 ms a step instead of 48.
            mixed_BRD = torch.bmm(total_KRB.permute(2, 1, 0).contiguous(), outputs)
            return dict(zip(self.slots, mixed_BRD.unbind(1), strict=True))
        mixed = {}
        for r, (reader, slots) in enumerate(self.slots.items()):
            names = tuple(self.experts[i] for i in slots)
            own = None if self_KRB is None else self_KRB[slots, r].T
            weights, z_BKD = gate_KRB[slots, r].T, outputs[:, slots]
            mixed[reader] = mix(Mixture(self.layer, reader, names, weights, z_BKD, own), probe)
        return mixed

    def _weights(self, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        """Of all gates and all self gates, with every expert in the first dimension."""
        num, num_columns = len(self.slots), len(self.columns)
        full = logits.new_full((len(self.experts) * num_columns, len(logits)), -torch.inf)
        # Rows come last: a softmax over a short last dimension took 15 times longer.
        full_KCB = full.index_copy(0, self.index, logits.T).view(-1, num_columns, len(logits))
        weights_KCB = torch.softmax(full_KCB, dim=0)
        if num_columns == num:
            return weights_KCB, None
        self_KRB = torch.where(self.alone, torch.sigmoid(full_KCB[:, num:]), weights_KCB[:, num:])
        return weights_KCB[:, :num], self_KRB


def _check_rank(option: str, rank: int, width: int) -> None:
    if rank > width:
        raise ValueError(f"{option} is {rank}, above the width {width} that it gates; lower it")


def _check_groups(tasks: tuple[str, ...], groups: Groups) -> None:
    """Refuse groups that are no partition of the tasks, and names that mean two things."""
    count = Counter(task for members in groups.values() for task in members)
    for task in tasks:
        if count[task] != 1:
            raise ValueError(f"task {task!r} is in {count[task]} categories; put it in exactly one")
    for task in count:
        if task not in tasks:
            raise ValueError(f"{task!r} is in a category but is no task; remove it")
    for category, members in groups.items():
        if not members:
            raise ValueError(f"category {category!r} has no task; remove it")
    names = ["shared", *tasks, *groups]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"{name!r} names two of: the shared experts, a task, a category; rename one"
            )
