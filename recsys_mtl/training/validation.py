"""Loss and AUC on the validation rows."""

from dataclasses import dataclass, field

import numpy as np
import torch

from recsys_mtl.batches.joint import Shards
from recsys_mtl.metrics.auc import auc
from recsys_mtl.models.experts import ExpertSums, expert_points, measure_experts
from recsys_mtl.models.heads.chain import chain_log_probs
from recsys_mtl.training.learner import Learner

_BATCH_ROWS = 8192


@dataclass(frozen=True, slots=True)
class Validation:
    """Weighted mean loss per task over all validation rows, and AUC on observed rows."""

    losses: dict[str, float]
    aucs: dict[str, float | None]
    objective: float
    """Sum of weight x loss, which early stopping minimises."""
    diagnostics: dict[str, float] = field(default_factory=dict)
    """Figures of the tower's experts and gates (`models.experts.expert_points`)."""


def validate(learner: Learner, shards: Shards, weights: dict[str, float]) -> Validation:
    """Evaluate the model on the validation split, in file order."""
    tasks, names = learner.layout.task_names, learner.layout.output_names
    totals, counts = np.zeros(len(names)), np.zeros(len(names))
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    sums = ExpertSums()
    learner.model.eval()
    with torch.no_grad():
        for batch in shards.batches("valid", _BATCH_ROWS):
            outputs = learner.model.outputs(batch, sums)
            losses, _ = learner.losses(batch, outputs)
            rows = learner.rows(batch).numpy()
            totals += losses.double().numpy() * rows
            counts += rows
            log_p, _ = chain_log_probs(outputs.logits, learner.model.parents)
            parts.append((log_p.numpy(), batch.labels.numpy(), batch.masks.numpy()))
    learner.model.train()
    means = np.divide(totals, counts, out=np.zeros_like(totals), where=counts > 0)
    losses_of = dict(zip(names, means.tolist(), strict=True))
    scores, labels, masks = (np.concatenate(column) for column in zip(*parts, strict=True))
    aucs = {
        task: auc(scores[:, t][masks[:, t] > 0], labels[:, t][masks[:, t] > 0]).value
        for t, task in enumerate(tasks)
    }
    objective = sum(weights[task] * loss for task, loss in losses_of.items())
    diagnostics = dict(expert_points(*measure_experts(sums, names)))
    return Validation(losses_of, aucs, objective, diagnostics)
