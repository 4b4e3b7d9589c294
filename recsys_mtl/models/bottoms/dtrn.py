"""Deep task-specific bottom representations (our implementation of DTRN, CIKM 2023)."""

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from recsys_mtl.embeddings.embedded import Embedded, EmbeddedSequence
from recsys_mtl.models.attention import TargetAttention
from recsys_mtl.models.bottoms.conditional import ConditionalTransformer, Hypernetwork
from recsys_mtl.models.interface import BottomOutput
from recsys_mtl.models.layers import StackedLinear
from recsys_mtl.spec.layout import Layout, SequenceInput
from recsys_mtl.spec.model_config import DtrnBottomConfig

SHARED = "shared"
"""The pseudo reader of parts that serve all tasks."""

_CHUNK_ELEMENTS = 2**18
"""Size of a chunk's Y, the events of some rows for all readers. Chunks of rows of similar length
took .58 of the time of a step over all rows at once (512 rows, 4 readers, 2 behaviours, lengths
even from 1 to 50, one core), of which .87 by size alone; 2^17 to 2^19 are within 5 %, and a loop
over readers in place of stacking is no faster."""


class DtrnBottom(nn.Module):
    """An input of its own for every reader r: interests by r, then fields weighted by r.

        r_rm = interest of r in behaviour m                 `Interests`
        x_r = refine_r([bags; numbers; r_r1 .. r_rM])       `Refinement`

    Readers are the tasks and the pseudo tasks that a tower asks for. Without interests every
    r_rm is the mean of the events of m; without refinement x_r is the concatenation; without
    both, or without sequences and refinement, all readers get the same tensor object. Towers
    that read `shared` or `groups` must get these as readers: without, `shared` is the first
    task's input and `groups` None.

    Shapes: `Embedded` -> float32[B, D] per reader, D = sum of E over bags + Fd + M d.

    Cost: that of `Interests` and `Refinement`.

    Source: arXiv 2308.05996, from its abstract and descriptions of it; no code is public. What
    they leave open is our reading: all sizes, position of norms, weights per field.

    Args:
        layout: order of bags and sequences.
        config: widths, and whether interests and refinement are on.
        readers: the tasks in the order of the layout, then "shared", then task categories, the
            latter where the tower needs them (R in all).
    """

    def __init__(self, layout: Layout, config: DtrnBottomConfig, readers: tuple[str, ...]) -> None:
        super().__init__()
        self.layout = layout
        self.readers = readers
        widths = [layout.tables[bag.table].dim for bag in layout.bags]
        widths += [1] * len(layout.dense) + [config.dim] * len(layout.sequences)
        self.out_dim = sum(widths)
        self.events = nn.ModuleList(Events(layout, s, config.dim) for s in layout.sequences)
        self.interests = (
            Interests(layout, config, len(readers))
            if config.interests and layout.sequences
            else None
        )
        self.refinement = Refinement(len(readers), widths) if config.refinement else None
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, embedded: Embedded) -> BottomOutput:
        """One tensor per reader."""
        v = torch.cat([*embedded.bags.values(), embedded.dense], dim=1)
        events = [
            (events(embedded.sequences[s.name]), embedded.sequences[s.name].mask)
            for events, s in zip(self.events, self.layout.sequences, strict=True)
        ]
        num_readers = len(self.readers)
        if self.interests is not None:
            shared_BRD = v[:, None].expand(-1, num_readers, -1)
            x_BRD = torch.cat([shared_BRD, self.interests(events, embedded.bags)], dim=2)
        else:
            means = [mean_of_events(x[:, None], mask).squeeze(1) for x, mask in events]
            x_BRD = torch.cat([v, *means], dim=1)[:, None]
        x_BRD = self.dropout(x_BRD)
        if self.refinement is not None:
            x_BRD = self.refinement(x_BRD.expand(-1, num_readers, -1))
        return self._output(x_BRD.unbind(1))

    def fold(self) -> None:
        """Replace the hypernetwork by its output, buffer `interests.norms`.

        Scoring then pays nothing for it. A new model must be folded before it can load the
        state of a folded one; its norms train no more.
        """
        if self.interests is not None:
            self.interests.fold()

    def _output(self, x: tuple[Tensor, ...]) -> BottomOutput:
        """Assign R inputs, or one for all, to tasks and pseudo tasks."""
        x = x * len(self.readers) if len(x) == 1 else x
        tasks = self.layout.output_names
        # Apart from the tasks: a category may bear the name of one.
        pseudo = dict(zip(self.readers[len(tasks) :], x[len(tasks) :], strict=True))
        shared = pseudo.pop(SHARED, x[0])
        return BottomOutput(dict(zip(tasks, x, strict=False)), shared, groups=pseudo or None)


class Events(nn.Module):
    """Events of one behaviour, d wide: their fields concatenated, projected if wider or narrower.

    Shapes: fields float32[B, S, E] each -> float32[B, S, d].

    Cost: parameters [W != d] W d, with W the sum of E; MACs per row S times that.

    Args:
        layout: widths of tables.
        sequence: the behaviour.
        dim: d.
    """

    def __init__(self, layout: Layout, sequence: SequenceInput, dim: int) -> None:
        super().__init__()
        width = sum(layout.tables[table].dim for table in sequence.fields.values())
        self.project = projection(width, dim)

    def forward(self, events: EmbeddedSequence) -> Tensor:
        """float32[B, S, d]."""
        x_BSD: Tensor = self.project(torch.cat(list(events.fields.values()), dim=2))
        return x_BSD


class Interests(nn.Module):
    """What each reader sees in each behaviour for this candidate.

        Y_rm = transformer(X_m + positions; norms of (r, m))
        alpha_rm = softmax over events of score(candidate_m, Y_rm)
        r_rm = sum_s alpha_rms Y_rms                       0 without events

    Norms come from a `Hypernetwork`; all other weights serve all readers and behaviours.
    Positions count from the newest event, so that neither padding nor the longest row of a batch
    matters; one table for all behaviours, N(0, 0.02^2) at first (our choice). The candidate is
    the bags that the fields of m name as targets, concatenated and projected if not d wide; a
    behaviour without targets is averaged. The score is `TargetAttention`.

    Shapes: M of (float32[B, S, d], mask bool[B, S]) -> float32[B, R, M d].

    Cost: parameters of the hypernetwork, the transformer, N_max d positions, P_att = (4 d + 1) H
    + 2 H if any m has targets, and W_c d for each candidate of width W_c != d. MACs per row: the
    transformer's plus R S d for every m; and for those with targets R (S d H + S H + S d)
    + 2 d H + H, and W_c d, with S the longest row of a chunk.

    Args:
        layout: behaviours and targets.
        config: widths and layers.
        num_readers: R.
    """

    norms: Tensor

    def __init__(self, layout: Layout, config: DtrnBottomConfig, num_readers: int) -> None:
        super().__init__()
        self._targets = [tuple(s.targets.values()) for s in layout.sequences]
        dims = {bag.name: layout.tables[bag.table].dim for bag in layout.bags}
        self.candidates = nn.ModuleList(
            projection(sum(dims[bag] for bag in bags), config.dim) if bags else nn.Identity()
            for bags in self._targets
        )
        longest = max(s.max_len for s in layout.sequences)
        self.positions = nn.Parameter(0.02 * torch.randn(longest, config.dim))
        self.hypernetwork: Hypernetwork | None = Hypernetwork(
            num_readers, len(layout.sequences), config
        )
        self.transformer = ConditionalTransformer(config)
        if any(self._targets):
            self.attention = TargetAttention(config.dim, config.attention_hidden)

    def forward(self, events: list[tuple[Tensor, Tensor]], bags: dict[str, Tensor]) -> Tensor:
        """Interests of all readers, float32[B, R, M d]."""
        norms_RMLCD = self.norms if self.hypernetwork is None else self.hypernetwork()
        out = [
            self._of_behaviour(x_BSD, mask, self._candidate(m, bags), norms_RMLCD[:, m])
            for m, (x_BSD, mask) in enumerate(events)
        ]
        return torch.cat(out, dim=2)

    def fold(self) -> None:
        """Replace the hypernetwork by the buffer `norms`, float32[R, M, L, 4, d]."""
        if self.hypernetwork is not None:
            self.register_buffer("norms", self.hypernetwork().detach())
            self.hypernetwork = None

    def _candidate(self, m: int, bags: dict[str, Tensor]) -> Tensor | None:
        """float32[B, d]; None without targets."""
        if not self._targets[m]:
            return None
        candidate: Tensor = self.candidates[m](
            torch.cat([bags[bag] for bag in self._targets[m]], dim=1)
        )
        return candidate

    def _of_behaviour(
        self, x_BSD: Tensor, mask: Tensor, candidate: Tensor | None, norms_RLCD: Tensor
    ) -> Tensor:
        """float32[B, R, d]; rows are read in chunks of similar length, each cut to its longest."""
        lengths, order = mask.sum(1).sort()
        rows = max(1, _CHUNK_ELEMENTS // (len(norms_RLCD) * x_BSD[0].numel()))
        x_BSD = (x_BSD + self.positions[: x_BSD.shape[1]].flip(0)).index_select(0, order)
        mask = mask.index_select(0, order)
        longest = (
            torch.stack([chunk[-1] for chunk in torch.split(lengths, rows)]).clamp(min=1).tolist()
        )
        candidates: Sequence[Tensor | None] = [None] * len(longest)
        if candidate is not None:
            candidates = torch.split(candidate.index_select(0, order), rows)
        chunks = zip(
            longest, candidates, torch.split(x_BSD, rows), torch.split(mask, rows), strict=True
        )
        out = [
            self._read(x[:, -steps:], valid[:, -steps:], y, norms_RLCD)
            for steps, y, x, valid in chunks
        ]
        return torch.cat(out).index_select(0, order.argsort())

    def _read(
        self, x_BSD: Tensor, mask: Tensor, candidate: Tensor | None, norms_RLCD: Tensor
    ) -> Tensor:
        """float32[B, R, d]."""
        y_BRSD = self.transformer(x_BSD, mask, norms_RLCD)
        if candidate is None:
            return mean_of_events(y_BRSD, mask)
        # Readers side by side, [B, R S, d]: the candidate's part of the scorer is made once.
        scores = self.attention.scores(candidate, y_BRSD.flatten(1, 2))
        valid = mask[:, None]
        scores_BRS = scores.view(y_BRSD.shape[:3]).masked_fill(
            ~valid, torch.finfo(scores.dtype).min
        )
        return weighted_sum(torch.softmax(scores_BRS, dim=2) * valid, y_BRSD)


class Refinement(nn.Module):
    """Weights of the fields by each reader, from 0 to 2.

        a_r = 2 sigmoid(W2_r relu(W1_r x_r + b1_r) + b2_r)
        out_r = x_r * a_r, each weight repeated over its field

    W2 and b2 start at 0, so that every weight starts at 1. One weight per field, hidden width
    h_r = min(D / 4, 128), at least 1 (our reading).

    Shapes: float32[B, R, D] -> float32[B, R, D].

    Cost: parameters R ((D + 1) h_r + (h_r + 1) F); MACs per row R (D + F) h_r.

    Args:
        num_readers: R.
        widths: of the F fields; they sum to D.
    """

    def __init__(self, num_readers: int, widths: list[int]) -> None:
        super().__init__()
        dim = sum(widths)
        hidden = max(1, min(dim // 4, 128))
        self.inner = StackedLinear(num_readers, dim, hidden)
        self.outer = StackedLinear(num_readers, hidden, len(widths))
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)
        self._runs = [(width, len(list(run))) for width, run in groupby(widths)]

    def forward(self, x: Tensor) -> Tensor:
        """Refined inputs, float32[B, R, D]."""
        a_BRF = 2 * torch.sigmoid(self.outer(relu(self.inner(x))))
        parts = torch.split(x, [width * num for width, num in self._runs], dim=2)
        weights = torch.split(a_BRF, [num for _, num in self._runs], dim=2)
        # From [B, R, F' E] to [B, R, F', E] for every run of F' fields of equal width.
        refined = [
            (part.reshape(*weight.shape, -1) * weight[..., None]).flatten(2)
            for part, weight in zip(parts, weights, strict=True)
        ]
        return torch.cat(refined, dim=2)


def projection(in_dim: int, out_dim: int) -> nn.Module:
    """Linear map without bias; the identity between equal widths."""
    return nn.Identity() if in_dim == out_dim else nn.Linear(in_dim, out_dim, bias=False)


def mean_of_events(y: Tensor, mask: Tensor) -> Tensor:
    """Mean over valid events, float32[B, R, S, d] -> float32[B, R, d]; 0 without any."""
    weights = mask / mask.sum(1, keepdim=True).clamp(min=1)
    return weighted_sum(weights[:, None].expand(y.shape[:3]), y)


def weighted_sum(weights: Tensor, y: Tensor) -> Tensor:
    """float32[B, R, S], float32[B, R, S, d] -> float32[B, R, d]."""
    return (weights[:, :, None] @ y).squeeze(2)
