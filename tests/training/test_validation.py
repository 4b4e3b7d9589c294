"""Validation loss and AUC."""

import numpy as np
import pytest
import torch

from recsys_mtl.batches.reader import EncodedShards
from recsys_mtl.metrics.auc import auc
from recsys_mtl.training import validation
from recsys_mtl.training.validation import validate
from tests.training.small import changed, make_learner, make_shards, state_of

WEIGHTS = {"click": 1.0, "buy": 3.0}


@pytest.fixture
def shards(tmp_path):
    manifest = make_shards(tmp_path / "shards")
    return EncodedShards(manifest, make_learner().layout)


@pytest.fixture
def whole(shards):
    """All validation rows as one batch."""
    (batch,) = shards.batches("valid", 1000)
    return batch


def test_losses_over_uneven_batches_are_those_of_all_rows_at_once(shards, whole, monkeypatch):
    learner = make_learner()
    with torch.no_grad():
        expected, _ = learner.losses(whole)
    monkeypatch.setattr(validation, "_BATCH_ROWS", 7)
    found = validate(learner, shards, WEIGHTS)
    assert list(found.losses) == ["click", "buy"]
    assert list(found.losses.values()) == pytest.approx(expected.tolist(), rel=1e-6)
    assert found.objective == pytest.approx(float(expected[0] + 3 * expected[1]), rel=1e-6)


def test_auc_counts_observed_rows_only(shards, whole):
    learner = make_learner()
    found = validate(learner, shards, WEIGHTS)
    with torch.no_grad():
        log_p, _ = learner.model.predict_log_probs(whole)
    for t, task in enumerate(("click", "buy")):
        observed = whole.masks[:, t].numpy() > 0
        assert 0 < np.count_nonzero(observed) < len(observed)
        direct = auc(log_p[:, t].numpy()[observed], whole.labels[:, t].numpy()[observed])
        assert found.aucs[task] == direct.value


def test_validation_changes_nothing_and_goes_back_to_training_mode(shards):
    learner = make_learner(dropout=0.5)
    before, random = state_of(learner), torch.get_rng_state()
    first, second = (validate(learner, shards, WEIGHTS) for _ in range(2))
    assert first == second
    assert changed(before, state_of(learner)) == []
    assert torch.equal(random, torch.get_rng_state())
    assert learner.model.training
