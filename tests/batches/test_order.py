import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl.batches.order import Buffer, RowGroup, Shuffle, order_within, plan_epoch

GROUPS = [RowGroup("a", 0, 5), RowGroup("a", 1, 0), RowGroup("b", 0, 3), RowGroup("b", 1, 4)]


def test_without_shuffle_each_group_is_a_buffer_in_file_order() -> None:
    a, _, b, c = GROUPS
    expected = [Buffer(0, 0, (a,)), Buffer(1, 5, (b,)), Buffer(2, 8, (c,))]
    assert plan_epoch(GROUPS, None) == expected
    assert order_within(expected[2], None).tolist() == [0, 1, 2, 3]


@given(
    rows=st.lists(st.integers(0, 9), max_size=30),
    seed=st.integers(0, 99),
    capacity=st.integers(1, 40),
)
def test_buffers_hold_every_wanted_group_once(rows: list[int], seed: int, capacity: int) -> None:
    groups = [RowGroup("f", i, n) for i, n in enumerate(rows)]
    buffers = plan_epoch(groups, Shuffle(seed, 0, capacity))
    held = [group for buffer in buffers for group in buffer.groups]
    assert sorted(held, key=lambda g: g.index) == [g for g in groups if g.rows]
    assert all(b.rows >= capacity for b in buffers[:-1])
    assert all(b.rows - b.groups[-1].rows < capacity for b in buffers)
    assert [b.first_row for b in buffers] == np.cumsum([0, *(b.rows for b in buffers)])[
        :-1
    ].tolist()


def test_order_depends_on_seed_epoch_and_buffer_only() -> None:
    buffer = Buffer(1, 100, (RowGroup("f", 3, 50),))
    order = order_within(buffer, Shuffle(1, 2)).tolist()
    assert sorted(order) == list(range(50)) != order
    assert order == order_within(Buffer(1, 7, (RowGroup("g", 0, 50),)), Shuffle(1, 2, 9)).tolist()
    others = (
        order_within(buffer, Shuffle(2, 2)),
        order_within(buffer, Shuffle(1, 3)),
        order_within(Buffer(2, 100, buffer.groups), Shuffle(1, 2)),
    )
    assert all(other.tolist() != order for other in others)


def test_row_groups_are_permuted_across_shards() -> None:
    groups = [RowGroup(f, i, 1) for f in "abcd" for i in range(8)]
    (buffer,) = plan_epoch(groups, Shuffle(0, 0, 1000))
    assert len({group.file for group in buffer.groups[:8]}) > 1
