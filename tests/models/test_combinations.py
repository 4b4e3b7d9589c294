"""Every bottom under every tower that reads what it gives."""

import pytest
import torch
from torch.testing import assert_close

from recsys_mtl.artifacts.sealed import canonical
from recsys_mtl.batches.assemble import to_batch
from recsys_mtl.embeddings.state import load_plain_state, plain_state
from recsys_mtl.errors import ConfigError
from recsys_mtl.models.model import MultiTaskModel, build_model
from recsys_mtl.objectives.losses import task_losses
from recsys_mtl.spec.model_config import (
    AitmConfig,
    ApemConfig,
    DtrnBottomConfig,
    HoMEConfig,
    MMoEConfig,
    ModelConfig,
    MultiTabConfig,
    PLEConfig,
    Routing,
    SharedBottomConfig,
    SingleTaskConfig,
)
from tests.batches.encoded import make_batch, make_layout, make_rows

TOWERS = {
    "single_task": SingleTaskConfig(hidden=(8,), dim=4),
    "shared_bottom": SharedBottomConfig(hidden=(8,), dim=4),
    "mmoe": MMoEConfig(num_experts=3, expert_dim=4),
    "mmoe*": MMoEConfig(num_experts=3, expert_dim=4, expert_style="bn_silu"),
    "sparse mmoe": MMoEConfig(num_experts=3, expert_dim=4, routing=Routing(top_k=2)),
    "cgc": PLEConfig(levels=1, num_shared=2, expert_dim=4),
    "ple*": PLEConfig(num_shared=2, expert_dim=4, expert_style="bn_silu"),
    "home": HoMEConfig(meta_dim=8, expert_dim=4),
    "aitm": AitmConfig(hidden=(8,), dim=4),
    "apem": ApemConfig(dim=8, inducing=2, squeeze=2, indicators=2),
    "multitab": MultiTabConfig(dim=8, heads=2, ff=16),
}
OVER_TOKENS = ("apem", "multitab")
CASES = [
    *((name, False) for name in TOWERS),
    *((name, True) for name in TOWERS if name not in OVER_TOKENS),
]


def made_config(name: str, has_own_inputs: bool, **config: object) -> ModelConfig:
    tasks = make_layout().task_names
    groups = {"rest": tasks[1:], "first": tasks[:1]}
    bottom = {"bottom": DtrnBottomConfig(dim=8, ff=8)} if has_own_inputs else {}
    config = {"tower": TOWERS[name], "task_groups": groups, **bottom, **config}
    return ModelConfig(**config)


def made(name: str, has_own_inputs: bool, **config: object) -> MultiTaskModel:
    return build_model(make_layout(), made_config(name, has_own_inputs, **config), seed=1)


def losses_of(model: MultiTaskModel, rows: int = 64) -> torch.Tensor:
    batch = make_batch(rows)
    losses, _ = task_losses(model(batch), batch, make_layout().parents, "product")
    return losses


@pytest.mark.parametrize(("name", "has_own_inputs"), CASES)
def test_it_learns(name: str, has_own_inputs: bool) -> None:
    model = made(name, has_own_inputs)
    dense = torch.optim.Adam(model.dense_part.parameters(), lr=0.01)
    before = losses_of(model).sum()
    for _ in range(30):
        dense.zero_grad()
        losses_of(model).sum().backward()
        dense.step()
    assert losses_of(model).sum() < before - 0.02


@pytest.mark.parametrize(("name", "has_own_inputs"), CASES)
def test_a_row_does_not_depend_on_the_others(name: str, has_own_inputs: bool) -> None:
    model, rows, layout = made(name, has_own_inputs), make_rows(9, seed=4), make_layout()
    losses_of(model)  # Running statistics that differ from their start.
    model.eval()
    whole = model(to_batch(rows, layout))
    parts = [model(to_batch(rows.slice(*part), layout)) for part in ((0, 1), (1, 5), (6, 3))]
    assert_close(torch.cat(parts), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "has_own_inputs"), CASES)
def test_folded_weights_serve_the_same_logits(name: str, has_own_inputs: bool) -> None:
    model = made(name, has_own_inputs)
    losses_of(model)
    expected = model.eval()(make_batch(20))
    model.dense_part.fold()
    config = made_config(name, has_own_inputs)
    read_back = ModelConfig.model_validate_json(canonical(config.model_dump(mode="json")))
    served = build_model(make_layout(), read_back, seed=2)
    served.dense_part.fold()
    served.dense_part.load_state_dict(model.dense_part.state_dict())
    load_plain_state(served.embeddings, plain_state(model.embeddings))
    assert_close(served.eval()(make_batch(20)), expected, rtol=0, atol=1e-6)


def test_sparse_routing_is_balanced_by_its_loss() -> None:
    model = made("sparse mmoe", False)
    assert model.dense_part.balance_loss is None
    losses_of(model)
    balance = model.dense_part.balance_loss
    assert balance is not None
    assert balance > 0
    model.eval()(make_batch(4))
    assert model.dense_part.balance_loss is None


def test_a_rank_above_the_input_is_refused() -> None:
    tower = HoMEConfig(feature_rank1=10_000)
    with pytest.raises(ConfigError, match=r"model.tower.feature_rank1: rank 10000 is larger"):
        made("home", False, tower=tower)
