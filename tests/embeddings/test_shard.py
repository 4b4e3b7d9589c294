import numpy as np
import pytest
import torch
from torch import Tensor
from torchrec.distributed.planner import ParameterConstraints

from recsys_mtl.batches.assemble import to_batch
from recsys_mtl.batches.batch import Batch
from recsys_mtl.embeddings import shard as shard_module
from recsys_mtl.embeddings.embedded import Embedded
from recsys_mtl.embeddings.shard import ADAGRAD_EPS, shard
from recsys_mtl.embeddings.state import plain_state, unwrapped
from recsys_mtl.embeddings.tables import Embeddings
from recsys_mtl.errors import IntegrityError
from recsys_mtl.spec.pipeline import SparseOptim
from tests.batches.encoded import make_batch, make_layout, make_rows

CPU, META = torch.device("cpu"), torch.device("meta")
LR = 0.1


def sharded(seed: int = 3, device: torch.device = META):
    return shard(Embeddings(make_layout(), seed, device), SparseOptim(lr=LR), CPU)


def outputs(embedded: Embedded) -> list[Tensor]:
    fields = [f for s in embedded.sequences.values() for f in s.fields.values()]
    return [*embedded.bags.values(), *fields]


def loss(embedded: Embedded, seed: int = 0) -> Tensor:
    """A smooth function of every output."""
    generator = torch.Generator().manual_seed(seed)
    return sum(
        ((x + torch.randn(x.shape[-1], generator=generator)) ** 2).mean() for x in outputs(embedded)
    )


class DenseReference:
    """Row-wise Adagrad in numpy on the dense gradients of unsharded tables."""

    def __init__(self, seed: int = 3) -> None:
        self.embeddings = Embeddings(make_layout(), seed)
        self.sums: dict[str, np.ndarray] = {}

    def step(self, batch: Batch) -> None:
        self.embeddings.zero_grad()
        loss(self.embeddings(batch)).backward()
        for name, weight in self.embeddings.named_parameters():
            grad = weight.grad.numpy().astype(np.float64)
            total = self.sums.get(name, 0) + (grad**2).mean(1)
            self.sums[name] = total
            update = LR * grad / (np.sqrt(total) + ADAGRAD_EPS)[:, None]
            weight.data.sub_(torch.from_numpy(np.where(grad == 0, 0, update)).float())


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_fused_steps_equal_rowwise_adagrad_on_dense_gradients() -> None:
    """Table video is read by two bags and two sequence fields: gradients of all uses add up."""
    dmp, _ = sharded()
    reference = DenseReference()
    start = plain_state(dmp)
    for step in range(5):
        batch = make_batch(16, seed=step)
        loss(dmp(batch)).backward()
        reference.step(batch)
        assert largest_difference(plain_state(dmp), plain_state(reference.embeddings)) < 1e-6
    moved = {name: (plain_state(dmp)[name] != w).any(1) for name, w in start.items()}
    assert all(rows.float().mean() > 0.5 for rows in moved.values())


def test_one_step_by_hand() -> None:
    """Gradient 2 in each of 4 columns: mean square 4, root 2, so every weight moves by lr."""
    dmp, _ = sharded()
    before = plain_state(dmp)["video"]
    batch = make_batch(1)
    (dmp(batch).bags["video_id"].sum() * 2).backward()
    moved = plain_state(dmp)["video"] - before
    row = int(batch.bags["video_id"].values())
    torch.testing.assert_close(moved[row], torch.full((4,), -LR))
    moved[row] = 0
    assert moved.abs().max() == 0


def test_sharded_forward_equals_unsharded() -> None:
    dmp, _ = sharded()
    plain = Embeddings(make_layout(), seed=3)
    for a, b in zip(outputs(dmp(make_batch(9))), outputs(plain(make_batch(9))), strict=True):
        assert torch.equal(a, b)


def test_weights_of_a_built_module_are_kept() -> None:
    built = Embeddings(make_layout(), seed=1)
    torch.nn.init.normal_(built.bags.embedding_bags["user"].weight)
    before = plain_state(built)
    assert largest_difference(plain_state(shard(built, SparseOptim(), CPU)[0]), before) == 0


@pytest.mark.parametrize("kind", ["table_wise", "row_wise"])
@pytest.mark.parametrize("column", ["topic", "video_id", "user_id"])
@pytest.mark.parametrize("excess", [0, 1, 1000, "negative"])
def test_an_id_outside_its_table_raises_and_moves_nothing(
    kind: str, column: str, excess: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_with(monkeypatch, dict.fromkeys(make_layout().tables, kind))
    dmp, _ = sharded()
    before = plain_state(dmp)
    rows, layout = make_rows(4), make_layout()
    table = next(b.table for b in layout.bags if b.name == column)
    bad = -1 if excess == "negative" else layout.tables[table].num_embeddings + excess
    position = rows.schema.names.index(column)
    values = [*rows.column(column).to_pylist()[:3], bad]
    batch = to_batch(rows.set_column(position, column, [values]), layout)
    with pytest.raises(RuntimeError, match=r"idx < num_rows|out of bounds"):
        loss(dmp(batch)).backward()
    assert largest_difference(plain_state(dmp), before) == 0


def plan_with(monkeypatch: pytest.MonkeyPatch, kinds: dict[str, str]) -> None:
    constraints = {t: ParameterConstraints(sharding_types=[k]) for t, k in kinds.items()}
    monkeypatch.setattr(shard_module, "_constraints", lambda tables: constraints)


def test_another_plan_permutes_keys_but_not_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = make_batch(8)
    usual, _ = sharded()
    expected = outputs(usual(batch))
    plan_with(
        monkeypatch, {**dict.fromkeys(make_layout().tables, "table_wise"), "topic": "row_wise"}
    )
    other, _ = sharded()
    order = other.module.bags(batch.bags.split([4, 2])[0]).keys()
    assert order != usual.module.bags(batch.bags.split([4, 2])[0]).keys()
    for a, b in zip(outputs(other(batch)), expected, strict=True):
        assert torch.equal(a, b)
    loss(usual(batch)).backward()
    loss(other(batch)).backward()
    assert largest_difference(plain_state(usual), plain_state(other)) < 1e-6


def test_tables_with_dense_gradients_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    plan_with(monkeypatch, dict.fromkeys(make_layout().tables, "data_parallel"))
    with pytest.raises(IntegrityError, match="kernel 'dense'"):
        sharded()


def test_a_second_model_in_the_process_is_independent() -> None:
    first, _ = sharded(seed=1)
    before = plain_state(first)
    second, _ = sharded(seed=1)
    loss(second(make_batch(8))).backward()
    assert largest_difference(plain_state(first), before) == 0
    assert largest_difference(plain_state(second), before) > 0


def test_a_zero_gradient_at_the_hook_leaves_tables_and_accumulators() -> None:
    dmp, fused = sharded()
    loss(dmp(make_batch(8))).backward()
    before, sums = plain_state(dmp), accumulators(fused)
    unwrapped(dmp).output_hook = lambda values: values.register_hook(torch.zeros_like)
    loss(dmp(make_batch(8))).backward()
    assert largest_difference(plain_state(dmp), before) == 0
    assert largest_difference(accumulators(fused), sums) == 0


def test_an_error_in_the_hook_stops_before_the_tables_move() -> None:
    dmp, _ = sharded()
    before = plain_state(dmp)

    def refuse(grad: Tensor) -> None:
        raise ArithmeticError("not finite")

    unwrapped(dmp).output_hook = lambda values: values.register_hook(refuse)
    with pytest.raises(ArithmeticError, match="not finite"):
        loss(dmp(make_batch(8))).backward()
    assert largest_difference(plain_state(dmp), before) == 0


def accumulators(fused) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": (value.local_tensor() if hasattr(value, "local_tensor") else value).clone()
        for name, state in fused.state_dict()["state"].items()
        for key, value in state.items()
    }


def test_a_changed_learning_rate_holds_from_the_next_step_of_the_optimiser() -> None:
    dmp, fused = sharded()
    for group in fused.param_groups:
        group["lr"] = 0.0
    fused.step()
    before = plain_state(dmp)
    loss(dmp(make_batch(8))).backward()
    assert largest_difference(plain_state(dmp), before) == 0


def test_a_layout_without_tables_can_be_sharded() -> None:
    full = make_layout()
    layout = type(full)({}, (), 0, full.dense, (), full.tasks)
    dmp, fused = shard(Embeddings(layout, 1, META), SparseOptim(), CPU)
    assert dmp(make_batch(2, layout=layout)).dense.shape == (2, 2)
    fused.step()
