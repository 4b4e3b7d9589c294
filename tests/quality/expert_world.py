"""The synthetic world on which towers break or stay whole, with clean or badly scaled inputs.

Eight tasks in two categories share some factors of the input, share others within their category
and have some of their own; rates run from 0.40 down to 0.002.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from recsys_mtl.models.experts import ExpertSums
from recsys_mtl.models.heads.binary import BinaryHead
from recsys_mtl.models.interface import BottomOutput, Probe
from recsys_mtl.spec.model_config import HeadConfig

GROUPS = {"watch": ("evtr", "lvtr"), "inter": ("ctr", "ltr", "cmtr", "cltr", "ftr", "wtr")}
RATES = dict(evtr=0.40, lvtr=0.25, ctr=0.30, ltr=0.03, cmtr=0.004, cltr=0.006, ftr=0.003, wtr=0.002)
TASKS = tuple(RATES)
WIDTH, BATCH_ROWS = 128, 2048


class World:
    """Draws rows u ~ N(0, I), what a model sees of them, and labels."""

    def __init__(self, seed: int, dirty: bool) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.shared = self._projection(24)
        self.of_category = {c: self._projection(16) for c in GROUPS}
        self.of_task = {t: self._projection(8) for t in TASKS}
        self.weights = {}
        for members in GROUPS.values():
            a_c, b_c = self._normal(24), self._normal(16)
            for task in members:
                a = 0.8 * a_c + 0.6 * self._normal(24)
                b = 0.8 * b_c + 0.5 * self._normal(16)
                self.weights[task] = a, b, 0.7 * self._normal(8)
        self.biases = {t: 0.0 for t in TASKS}
        logits = self._logits(self._normal(200_000, WIDTH))
        self.biases = {t: _bias(logits[:, i], RATES[t]) for i, t in enumerate(TASKS)}
        self.scales, self.skewed = torch.ones(WIDTH), torch.zeros(WIDTH, dtype=torch.bool)
        if dirty:
            self.scales = torch.exp(1.5 * self._normal(WIDTH))
            self.skewed[torch.randperm(WIDTH, generator=self.random)[: WIDTH // 4]] = True

    def rows(self, count: int) -> tuple[Tensor, Tensor]:
        """Inputs float32[count, 128] and labels float32[count, T]."""
        u = self._normal(count, WIDTH)
        labels = torch.bernoulli(torch.sigmoid(self._logits(u)), generator=self.random)
        return self.scales * torch.where(self.skewed, torch.exp(0.9 * u), u), labels

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.random)

    def _projection(self, width: int) -> Tensor:
        return 2 * self._normal(WIDTH, width) / WIDTH**0.5

    def _logits(self, u: Tensor) -> Tensor:
        h = torch.tanh(u @ self.shared)
        logits = []
        for category, members in GROUPS.items():
            h_c = torch.tanh(u @ self.of_category[category])
            for task in members:
                a, b, c = self.weights[task]
                h_t = torch.tanh(u @ self.of_task[task])
                logits.append(0.45 * (h @ a) + 0.45 * (h_c @ b) + 0.6 * (h_t @ c))
        return torch.stack(logits, 1) + torch.tensor([self.biases[t] for t in TASKS])


def _bias(logits: Tensor, rate: float) -> float:
    low, high = -30.0, 30.0
    for _ in range(40):
        middle = (low + high) / 2
        if float(torch.sigmoid(logits + middle).mean()) < rate:
            low = middle
        else:
            high = middle
    return middle


class Model(nn.Module):
    """A tower on a raw input, and a head for each task."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower
        config = HeadConfig(hidden=(32,))
        self.heads = nn.ModuleList(BinaryHead(tower.out_dim, config) for _ in TASKS)

    def forward(self, x: Tensor, probe: Probe | None = None) -> Tensor:
        f = self.tower(BottomOutput(dict.fromkeys(TASKS, x), x), probe)
        logits = [head(f[task]) for head, task in zip(self.heads, TASKS, strict=True)]
        return torch.stack(logits, 1)


def trained(tower: nn.Module, world: World, lr: float, steps: int) -> Model:
    """Train on fresh batches with the sum of the tasks' mean losses."""
    model = Model(tower)
    optimiser = torch.optim.Adam(model.parameters(), lr)
    for _ in range(steps):
        x, labels = world.rows(BATCH_ROWS)
        loss = binary_cross_entropy_with_logits(model(x), labels, reduction="none").mean(0).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def seen(model: Model, x: Tensor) -> ExpertSums:
    """Sums over the gates of a model."""
    sums = ExpertSums()
    with torch.no_grad():
        model(x, sums)
    return sums
