"""Model and optimisers, and the one step that changes them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from recsys_mtl.batches.batch import Batch
from recsys_mtl.embeddings.shard import shard
from recsys_mtl.embeddings.state import plain_state, unwrapped
from recsys_mtl.errors import IntegrityError, Problem
from recsys_mtl.models.heads.binary import BinaryHead
from recsys_mtl.models.model import Outputs, build_model
from recsys_mtl.objectives.base_rates import base_rate_logits, step_counts
from recsys_mtl.objectives.hazard import marginal_logits
from recsys_mtl.objectives.losses import counted_rows, task_losses
from recsys_mtl.objectives.refit import newton_step
from recsys_mtl.objectives.static import combine
from recsys_mtl.objectives.survival import DailyObjective, survival_objective
from recsys_mtl.spec.layout import Layout
from recsys_mtl.spec.pipeline import Pipeline
from recsys_mtl.training.guards import BackwardGuard, has_finite_gradients, has_finite_inputs

_NEWTON_STEPS, _SMALL_STEP = 5, 0.05
"""Of the refit. A step of 5 % leaves about its square, a tenth of a per cent, to go."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """Losses of one step."""

    losses: Tensor
    """float32[layout.output_names], detached."""
    was_skipped: bool
    """Whether something was not finite; dense parameters are then as before."""


class Learner:
    """The model of a pipeline with sharded tables, their fused optimiser and AdamW for the rest."""

    def __init__(self, pipeline: Pipeline, layout: Layout) -> None:
        config = pipeline.training
        self.layout = layout
        self._config = pipeline.model
        self._rates = config
        label, hazard = layout.survival, pipeline.model.hazard
        self._survival = None if label is None else survival_objective(hazard, label)
        self._weights = torch.tensor([pipeline.objectives.weight(t) for t in layout.output_names])
        self.model = build_model(layout, pipeline.model, config.seed)
        self.tables, self.fused = shard(self.model.embeddings, config.sparse, torch.device("cpu"))
        self.model.embeddings = self.tables
        self.guard = BackwardGuard()
        unwrapped(self.tables).output_hook = self.guard.watch
        self._dense = list(self.model.dense_part.parameters())
        # Fused: one kernel for all weights, in a quarter of the time.
        self.dense = torch.optim.AdamW(
            self._dense, lr=config.dense.lr, weight_decay=config.dense.weight_decay, fused=True
        )

    def scale_rates(self, share: float) -> None:
        """Set both learning rates to this share of the configured ones."""
        self.dense.param_groups[0]["lr"] = share * self._rates.dense.lr
        for group in self.fused.param_groups:
            group["lr"] = share * self._rates.sparse.lr
        # The kernel reads a changed rate only when its optimiser steps; no gradient is held there.
        self.fused.step()

    def losses(self, batch: Batch, outputs: Outputs | None = None) -> tuple[Tensor, Tensor]:
        """Losses and their presence, float32 and bool [layout.output_names], of a batch."""
        config, parents = self._config, self.layout.parents
        times = batch.survival
        outputs = outputs or self.model.outputs(batch, with_hazard=times is not None)
        losses, present = task_losses(outputs.logits, batch, parents, config.chain, config.hinge)
        if self._survival is None:
            return losses, present
        loss = total = losses.new_zeros(())
        if times is not None and outputs.hazard is not None:
            loss, total = self._survival.loss(outputs.hazard, times)
        mean = loss / torch.where(total > 0, total, 1.0)
        return torch.cat([losses, mean[None]]), torch.cat([present, (total > 0)[None]])

    def start_at_base_rates(self, labels: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Set each binary head's bias to the rate of its label, or of its step in a chain.

        From 1/2, the rows of all ids seen in training share the way down to a rare outcome's
        rate, and an id that was not seen is predicted too high.

        Args:
            labels: labels and masks of training rows, float32[N, T] each.
        """
        parents, chain = self.layout.parents, self._config.chain
        counts = _summed(step_counts(values, masks, parents, chain) for values, masks in labels)
        logits = base_rate_logits(*counts).tolist()
        for head, logit in zip(self.model.dense_part.heads, logits, strict=True):
            cast(BinaryHead, head).start_at(logit)

    def start_at_marginal(self, batches: Iterable[Batch]) -> None:
        """Set the hazard head's bias to the marginal hazard of labelled rows."""
        head, objective = self.model.dense_part.hazard, self._survival
        assert head is not None
        assert objective is not None
        counts = _summed(objective.counts(batch.survival) for batch in batches if batch.survival)
        head.start_at(marginal_logits(*counts).float())

    def refit_hazards(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Move the daily hazards' intercepts until as many stops are expected as were observed.

        Training weighs rows and ends at a step like any other; either leaves the mean hazard of
        an interval some per cent off. Here each row counts once, and all but the head's last bias
        stays. The paper's mode is left as it was trained.

        Args:
            batches: gives training rows, the same for every Newton step.
        """
        head, objective = self.model.dense_part.hazard, self._survival
        if head is None or not isinstance(objective, DailyObjective):
            return
        shift = torch.zeros(head.num_causes, head.num_intervals, dtype=torch.float64)
        self.model.eval()
        for _ in range(_NEWTON_STEPS):
            gradient, hessian = self._newton_sums(objective, batches())
            if not (torch.isfinite(gradient).all() and torch.isfinite(hessian).all()):
                # Weights are not finite: validation, which comes next, says so.
                break
            step = newton_step(gradient, hessian, shift)
            shift += step
            head.shift(step)
            if step.abs().max() < _SMALL_STEP:
                break
        self.model.train()

    @torch.no_grad()
    def _newton_sums(
        self, objective: DailyObjective, batches: Iterable[Batch]
    ) -> tuple[Tensor, Tensor]:
        return _summed(
            objective.newton_sums(outputs.hazard, batch.survival)
            for batch in batches
            if batch.survival and (outputs := self.model.outputs(batch)).hazard is not None
        )

    def rows(self, batch: Batch) -> Tensor:
        """Rows, or weights, that each loss is the mean of, float32[layout.output_names]."""
        rows = counted_rows(batch, self.layout.parents, self._config.chain)
        if self._survival is None:
            return rows
        times = batch.survival
        total = rows.new_zeros(()) if times is None else self._survival.total(times)
        return torch.cat([rows, total[None]])

    def step(self, batch: Batch) -> StepResult:
        """One update. A batch that is not finite before backward leaves no trace at all."""
        if not has_finite_inputs(batch):
            return StepResult(torch.full((len(self._weights),), torch.nan), was_skipped=True)
        losses, present = self.losses(batch)
        loss = combine(losses, present, self._weights)
        balance = self.model.dense_part.balance_loss
        if balance is not None:
            loss = loss + balance
        if not torch.isfinite(losses).all():
            return StepResult(losses.detach(), was_skipped=True)
        self.dense.zero_grad()
        with self.guard.sanctioned():
            loss.backward()  # type: ignore[no-untyped-call]
        is_finite = not self.guard.is_poisoned and has_finite_gradients(self._dense)
        if is_finite:
            self.dense.step()
        return StepResult(losses.detach(), was_skipped=not is_finite)

    def first_step(self, batch: Batch) -> StepResult:
        """A step after which every table that the batch reads must have moved.

        A batch without any label moves nothing, and is not held against the tables.

        Raises:
            IntegrityError: naming the tables that stayed: they are not being trained.
        """
        before = plain_state(self.tables)
        result = self.step(batch)
        after = plain_state(self.tables)
        still = [t for t in self._read_tables(batch) if torch.equal(before[t], after[t])]
        if still and not result.was_skipped and (result.losses * self._weights).any():
            raise IntegrityError(
                Problem(
                    "training",
                    f"tables {', '.join(still)} did not move in the first step",
                    "Every table that a batch reads must be trained; please report this.",
                )
            )
        return result

    def _read_tables(self, batch: Batch) -> set[str]:
        kjts = [batch.bags, *batch.sequences.values()]
        counts = {k: n for kjt in kjts if kjt for k, n in _counts(kjt).items()}
        owner = {bag.name: bag.table for bag in self.layout.bags}
        for sequence in self.layout.sequences:
            owner |= sequence.fields
        return {owner[key] for key, count in counts.items() if count}


def _summed(pairs: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Sums of the first and of the second of each pair."""
    first, second = (torch.stack(parts).sum(0) for parts in zip(*pairs, strict=True))
    return first, second


def _counts(kjt: KeyedJaggedTensor) -> dict[str, int]:
    return dict(zip(kjt.keys(), kjt.length_per_key(), strict=True))
