"""Where heads start decides what a model says of ids that it has not seen."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from recsys_mtl.batches.assemble import to_batch
from tests.batches.encoded import make_layout, make_rows
from tests.training.small import make_learner

RATE, SEEN = 0.03, 8


def rows_of_users(num, users, seed):
    """Random rows of these users, whose clicks nothing explains."""
    rng = np.random.default_rng(seed)
    rows = make_rows(num, seed)
    changed = {
        "user_id": rng.choice(users, num),
        "label__click": (rng.random(num) < RATE).astype(np.float32),
        "mask__click": np.ones(num, bool),
    }
    for name, values in changed.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(values))
    return rows


def rate_of_new_users(seed, start_at_base_rate):
    """Mean prediction for users of whom training had no row."""
    learner = make_learner(seed=seed)
    layout = make_layout()
    train = rows_of_users(64 * 60, np.arange(1, SEEN), seed)
    if start_at_base_rate:
        whole = to_batch(train, layout)
        learner.start_at_base_rates([(whole.labels, whole.masks)])
    for first in range(0, len(train), 64):
        learner.step(to_batch(train.slice(first, 64), layout))
    new = to_batch(rows_of_users(2_000, np.arange(SEEN, 20), seed + 100), layout)
    learner.model.eval()
    with torch.no_grad():
        return learner.model(new)[:, 0].sigmoid().mean().item()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_new_ids_are_predicted_at_the_base_rate_only_if_heads_start_there(seed):
    """From 1/2, the users that are there share the way down, and others stay higher."""
    assert rate_of_new_users(seed, start_at_base_rate=False) > 1.5 * RATE
    assert 0.75 * RATE < rate_of_new_users(seed, start_at_base_rate=True) < 1.25 * RATE
