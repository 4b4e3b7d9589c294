import pytest
import torch
from torch.testing import assert_close

from recsys_mtl.batches.assemble import to_batch
from recsys_mtl.embeddings.shard import shard
from recsys_mtl.embeddings.state import load_plain_state, plain_state
from recsys_mtl.models.model import MultiTaskModel, build_model
from recsys_mtl.objectives.losses import task_losses
from recsys_mtl.spec.model_config import MMoEConfig, ModelConfig, SharedBottomConfig
from recsys_mtl.spec.pipeline import SparseOptim
from tests.batches.encoded import make_batch, make_layout, make_rows

CPU, META = torch.device("cpu"), torch.device("meta")
TOWERS = [SharedBottomConfig(hidden=(8,), dim=4), MMoEConfig(num_experts=2, expert_dim=4)]


def made(seed: int = 1, device: torch.device = CPU, **config: object) -> MultiTaskModel:
    return build_model(make_layout(), ModelConfig(**config), seed, device)


def trained(steps: int = 3, **config: object) -> MultiTaskModel:
    model = made(device=META, **config)
    model.embeddings, _ = shard(model.embeddings, SparseOptim(lr=0.1), CPU)
    dense = torch.optim.AdamW(model.dense_part.parameters(), lr=0.01)
    for step in range(steps):
        batch = make_batch(32, seed=step)
        losses, _ = task_losses(model(batch), batch, model.parents, "product")
        dense.zero_grad()
        losses.sum().backward()
        dense.step()
    return model.eval()


@pytest.mark.parametrize("tower", TOWERS)
def test_logits_depend_on_the_seed_alone(tower: object) -> None:
    batch = make_batch(8)
    torch.manual_seed(5)
    first = made(tower=tower)(batch)
    torch.manual_seed(6)
    assert torch.equal(made(tower=tower)(batch), first)
    assert not torch.allclose(made(seed=2, tower=tower)(batch), first)


def test_building_leaves_the_global_random_state() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    made()
    assert torch.rand(1) == expected


def test_a_sharded_model_equals_an_unsharded_one() -> None:
    model = made(device=META)
    model.embeddings, _ = shard(model.embeddings, SparseOptim(), CPU)
    assert_close(model(make_batch(9)), made()(make_batch(9)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("tower", TOWERS)
def test_exported_weights_serve_unsharded_with_the_same_logits(tower: object) -> None:
    model = trained(tower=tower)
    served = made(seed=99, device=META, tower=tower).eval()
    load_plain_state(served.embeddings, plain_state(model.embeddings))
    served.dense_part.load_state_dict(dict(model.dense_part.state_dict()))
    batch = make_batch(50, seed=9)
    assert_close(served(batch), model(batch), rtol=0, atol=1e-6)
    assert not torch.allclose(made(tower=tower)(batch), model(batch), atol=1e-3)


@pytest.mark.parametrize("tower", TOWERS)
def test_a_row_does_not_depend_on_the_others(tower: object) -> None:
    model, rows, layout = trained(tower=tower), make_rows(12, seed=4), make_layout()
    whole = model(to_batch(rows, layout))
    for i in range(12):
        alone = model(to_batch(rows.slice(i, 1), layout))
        assert_close(alone[0], whole[i], rtol=0, atol=1e-6)


def test_every_parameter_is_trained() -> None:
    model = made()
    batch = make_batch(64)
    losses, _ = task_losses(model(batch), batch, model.parents, "product")
    losses.sum().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_a_chained_label_is_never_likelier_than_its_parent() -> None:
    model, batch = made(), make_batch(20)
    log_p, log_not_p = model.predict_log_probs(batch)
    assert model.parents == (-1, 0)
    conditional = model(batch).sigmoid()
    assert_close(log_p.exp()[:, 1], conditional.prod(1))
    assert_close(log_p.exp() + log_not_p.exp(), torch.ones(20, 2))


def test_independent_labels_are_sigmoids() -> None:
    model, batch = made(chain="independent"), make_batch(20)
    assert model.parents == (-1, -1)
    assert_close(model.predict_log_probs(batch)[0].exp(), model(batch).sigmoid())
