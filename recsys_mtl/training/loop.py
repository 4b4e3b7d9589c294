"""The training loop."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from recsys_mtl.batches.batch import Batch
from recsys_mtl.batches.joint import Shards
from recsys_mtl.batches.order import Shuffle
from recsys_mtl.errors import IntegrityError, Problem, TransientError
from recsys_mtl.spec.pipeline import TrainingConfig
from recsys_mtl.training.checkpoint import Checkpoints, Progress
from recsys_mtl.training.guards import SkipBudget
from recsys_mtl.training.learner import Learner, StepResult
from recsys_mtl.training.validation import validate

logger = logging.getLogger(__name__)
Report = Callable[..., None]
"""progress(done, total, **numbers)."""
SURVIVAL_ROWS = 65_536
"""Of a batch that is only counted or predicted, not trained on."""
_REFIT_BATCHES = 16
"""A million rows tell a mean hazard; reading more would only take longer."""
_SAMPLE_EVERY = 20
_FINAL_RATE = 0.05
"""Learning rates fall linearly to this share: at full rate the mean prediction of rare outcomes
still wandered by 12 % between steps on the simulated feed."""


@dataclass(slots=True)
class Loop:
    """One training run."""

    learner: Learner
    shards: Shards
    config: TrainingConfig
    weights: dict[str, float]
    """Static weight of each task's loss."""
    checkpoints: Checkpoints
    progress: Progress
    report: Report
    should_stop: Callable[[], bool]
    """Asked after every step; true ends the run with a checkpoint (preemption)."""
    dump: Callable[[Batch, int], str]
    """Writes a batch that was not finite; returns where."""
    rows_per_s: float = 0.0
    """Of this process, evaluations and checkpoints included."""

    def run(self) -> None:
        """Train until the epochs are done or validation stops improving.

        Raises:
            TransientError: if the run was told to stop; a rerun goes on from here.
            IntegrityError: if too many batches were not finite.
        """
        per_epoch = self.shards.num_batches("train", self.config.batch_rows)
        every = self.config.early_stop.every_steps or per_epoch
        total = per_epoch * self.config.epochs
        budget = SkipBudget(self.config.nan_guard, self.progress.skipped)
        started, rows = time.perf_counter(), 0
        while self.progress.step < total and not self._is_finished():
            epoch, position = divmod(self.progress.step, per_epoch)
            for batch in self._epoch(epoch, position):
                self._step(batch, budget, total)
                rows += batch.num_rows
                self.rows_per_s = rows / (time.perf_counter() - started)
                self._show(per_epoch, total)
                if self.progress.step % every == 0 or self.progress.step == total:
                    self._evaluate()
                if self._is_finished():
                    break
                self._checkpoint(total)

    def _epoch(self, epoch: int, position: int) -> Iterator[Batch]:
        shuffle = Shuffle(self.config.seed, epoch, self.config.shuffle_rows)
        return self.shards.batches(
            "train", self.config.batch_rows, shuffle=shuffle, start_batch=position
        )

    def _step(self, batch: Batch, budget: SkipBudget, total: int) -> None:
        self.learner.scale_rates(1 - (1 - _FINAL_RATE) * self.progress.step / total)
        is_first = self.progress.step == self.progress.num_skipped
        result = self.learner.first_step(batch) if is_first else self.learner.step(batch)
        self.progress.step += 1
        if result.was_skipped:
            self._skip(batch, budget)
        elif self.progress.step % _SAMPLE_EVERY == 1:
            self._sample(result)

    def _skip(self, batch: Batch, budget: SkipBudget) -> None:
        logger.warning("step skipped, not finite: step=%d", self.progress.step)
        self.progress.num_skipped += 1
        if budget.is_spent(self.progress.step):
            where = self.dump(batch, self.progress.step)
            raise IntegrityError(
                Problem(
                    "training",
                    f"{len(budget.skipped)} of the last {self.config.nan_guard.per_steps} steps "
                    f"were not finite, last at step {self.progress.step}",
                    f"The rows of that batch are in {where}. Lower training.dense.lr or "
                    "training.sparse.lr, or check those rows.",
                )
            )
        self.progress.skipped = budget.skipped

    def _sample(self, result: StepResult) -> None:
        names = self.learner.layout.output_names
        for task, loss in zip(names, result.losses.tolist(), strict=True):
            self.progress.train.setdefault(task, []).append([self.progress.step, loss])

    def _show(self, per_epoch: int, total: int) -> None:
        losses = {task: points[-1][1] for task, points in self.progress.train.items()}
        rows = self.shards.rows("train") / per_epoch * (total - self.progress.step)
        speed = {"rows_per_s": round(self.rows_per_s), "left_s": round(rows / self.rows_per_s)}
        self.report(self.progress.step, total, **speed, **losses)

    def _evaluate(self) -> None:
        # Before, not after: what is validated is what may be published.
        self.learner.refit_hazards(self._refit_rows)
        found = validate(self.learner, self.shards, self.weights)
        step = self.progress.step
        for task, loss in found.losses.items():
            self.progress.valid.setdefault(task, []).append([step, loss])
        for task, auc in found.aucs.items():
            self.progress.valid_auc.setdefault(task, []).append([step, auc])
        for name, value in found.diagnostics.items():
            self.progress.diagnostics.setdefault(name, []).append([step, value])
        best = self.progress.best_objective
        if not math.isfinite(found.objective):
            raise IntegrityError(f"validation loss at step {step} is not finite")
        if best is None or found.objective < best:
            self.progress.best_objective = found.objective
            self.progress.best_step = step
            self.progress.bad_evaluations = 0
            self.checkpoints.save_best(self.learner, step)
        else:
            self.progress.bad_evaluations += 1

    def _refit_rows(self) -> Iterator[Batch]:
        shuffle = Shuffle(self.config.seed, 0, self.config.shuffle_rows)
        rows = self.shards.survival("train", SURVIVAL_ROWS, shuffle=shuffle)
        return islice(rows, _REFIT_BATCHES)

    def _is_finished(self) -> bool:
        return self.progress.bad_evaluations >= self.config.early_stop.patience

    def _checkpoint(self, total: int) -> None:
        is_asked = self.should_stop()
        is_due = self.progress.step % self.config.checkpoint.every_steps == 0
        if is_asked or (is_due and self.progress.step < total):
            self.checkpoints.save(self.learner, self.progress)
        if is_asked:
            raise TransientError(
                f"training was asked to stop at step {self.progress.step}; rerun to go on there"
            )
