"""Loss and AUC on the validation rows."""

from dataclasses import dataclass

import numpy as np
import torch

from recsys_mtl.batches.reader import EncodedShards
from recsys_mtl.metrics.auc import auc
from recsys_mtl.training.learner import Learner

_BATCH_ROWS = 8192


@dataclass(frozen=True, slots=True)
class Validation:
    """Weighted mean loss per task over all validation rows, and AUC on observed rows."""

    losses: dict[str, float]
    aucs: dict[str, float | None]
    objective: float
    """Sum of weight x loss, which early stopping minimises."""


def validate(learner: Learner, shards: EncodedShards, weights: dict[str, float]) -> Validation:
    """Evaluate the model on the validation split, in file order."""
    tasks = learner.layout.task_names
    totals, counts = np.zeros(len(tasks)), np.zeros(len(tasks))
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    learner.model.eval()
    with torch.no_grad():
        for batch in shards.batches("valid", _BATCH_ROWS):
            losses, _ = learner.losses(batch)
            rows = learner.rows(batch).numpy()
            totals += losses.double().numpy() * rows
            counts += rows
            log_p, _ = learner.model.predict_log_probs(batch)
            parts.append((log_p.numpy(), batch.labels.numpy(), batch.masks.numpy()))
    learner.model.train()
    losses_of = dict(zip(tasks, (totals / np.maximum(counts, 1)).tolist(), strict=True))
    scores, labels, masks = (np.concatenate(column) for column in zip(*parts, strict=True))
    aucs = {
        task: auc(scores[:, t][masks[:, t] > 0], labels[:, t][masks[:, t] > 0]).value
        for t, task in enumerate(tasks)
    }
    objective = sum(weights[task] * loss for task, loss in losses_of.items())
    return Validation(losses_of, aucs, objective)
