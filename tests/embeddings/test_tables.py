import pyarrow as pa
import pytest
import torch
from torch import Tensor

from recsys_mtl.batches.assemble import to_batch
from recsys_mtl.embeddings.state import load_plain_state
from recsys_mtl.embeddings.tables import Embeddings
from recsys_mtl.spec.layout import Layout
from tests.batches.encoded import make_batch, make_layout, make_rows


def counting() -> Embeddings:
    """Row r of every table is [r, r/10, r/100, r/1000]."""
    layout = make_layout()
    embeddings = Embeddings(layout)
    scale = torch.tensor([1.0, 0.1, 0.01, 0.001])
    load_plain_state(
        embeddings,
        {n: torch.arange(t.num_embeddings)[:, None] * scale for n, t in layout.tables.items()},
    )
    return embeddings


def first(x: Tensor) -> list:
    return x[..., 0].tolist()


def rows_with(**lists: list[list[int]]) -> pa.Table:
    rows = make_rows(2)
    for name, values in lists.items():
        position = rows.schema.names.index(name)
        rows = rows.set_column(position, name, pa.array(values, rows.schema.types[position]))
    return rows


def test_bags_are_pooled_as_declared() -> None:
    rows = rows_with(liked_topics=[[1, 5], []], saved=[[2, 4, 9], []], video_id=[8, 0])
    embedded = counting()(to_batch(rows, make_layout()))
    assert list(embedded.bags) == ["user_id", "liked_topics", "hour", "topic", "video_id", "saved"]
    assert first(embedded.bags["liked_topics"]) == [3, 0]
    assert first(embedded.bags["saved"]) == [5, 0]
    assert first(embedded.bags["video_id"]) == [8, 0]
    assert first(embedded.bags["user_id"]) == rows.column("user_id").to_pylist()


def test_sequences_are_left_padded_with_exact_zeros() -> None:
    rows = rows_with(
        clicks__video=[[3], [4, 5, 6]], clicks__genre=[[7], [8, 9, 10]], buys__video=[[], [2]]
    )
    embedded = counting()(to_batch(rows, make_layout()))
    clicks = embedded.sequences["clicks"]
    assert clicks.mask.tolist() == [[False, False, True], [True, True, True]]
    assert first(clicks.fields["clicks__video"]) == [[0, 0, 3], [4, 5, 6]]
    assert first(clicks.fields["clicks__genre"]) == [[0, 0, 7], [8, 9, 10]]
    assert clicks.fields["clicks__video"][0, :2].eq(0).all()
    buys = embedded.sequences["buys"]
    assert first(buys.fields["buys__video"]) == [[0], [2]]
    assert buys.mask.tolist() == [[False], [True]]


def test_missing_values_and_padding_differ() -> None:
    """Id 0 is a trained row, padding is not."""
    embeddings = counting()
    load_plain_state(
        embeddings,
        {n: torch.ones(t.num_embeddings, t.dim) for n, t in embeddings.layout.tables.items()},
    )
    rows = rows_with(buys__video=[[0, 0], [0]])
    buys = embeddings(to_batch(rows, make_layout())).sequences["buys"]
    assert first(buys.fields["buys__video"]) == [[1, 1], [0, 1]]


def test_rows_do_not_depend_on_their_batch() -> None:
    embeddings, layout, rows = Embeddings(make_layout(), seed=2), make_layout(), make_rows(12)
    whole = embeddings(to_batch(rows, layout))
    for i in range(12):
        alone = embeddings(to_batch(rows.slice(i, 1), layout))
        for name, bag in whole.bags.items():
            torch.testing.assert_close(alone.bags[name][0], bag[i])
        for name, events in whole.sequences.items():
            for field, e in events.fields.items():
                mine = alone.sequences[name].fields[field][0]
                width = min(e.shape[1], len(mine))
                torch.testing.assert_close(mine[-width:], e[i, -width:])


def test_hook_sees_the_output_of_each_collection_in_training_only() -> None:
    embeddings, seen = Embeddings(make_layout()), []
    embeddings.output_hook = lambda values: seen.append(values)
    with torch.no_grad():
        embeddings(make_batch(4))
    assert seen == []
    embeddings(make_batch(4))
    plain, joint = seen
    assert plain.shape == (4, 16)
    assert joint.shape[1] == 8
    assert plain.requires_grad and joint.requires_grad


@pytest.mark.parametrize("kept", ["numbers", "plain bags", "sequences"])
def test_a_layout_may_lack_kinds_of_input(kept: str) -> None:
    full = make_layout()
    bags = full.bags[:4] if kept == "plain bags" else ()
    layout = Layout(
        tables={
            name: table
            for name, table in full.tables.items()
            if kept == ("sequences" if name in ("video", "genre") else "plain bags")
        },
        bags=bags,
        num_plain_bags=len(bags),
        dense=full.dense,
        sequences=full.sequences if kept == "sequences" else (),
        tasks=full.tasks,
    )
    embedded = Embeddings(layout)(make_batch(3, layout=layout))
    assert list(embedded.bags) == [bag.name for bag in bags]
    assert list(embedded.sequences) == [s.name for s in layout.sequences]
    assert embedded.dense.shape == (3, 2)
