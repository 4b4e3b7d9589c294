"""Two sources as one stream: order, completeness, resumption."""

from dataclasses import dataclass

import pytest

from recsys_mtl.batches.assemble import to_batch
from recsys_mtl.batches.joint import JointShards
from tests.batches.encoded import make_layout, make_rows


@dataclass
class Numbered:
    """Shards whose batches are their names."""

    name: str
    num_rows: int

    def rows(self, split):
        return self.num_rows

    def num_batches(self, split, batch_rows):
        return -(-self.num_rows // batch_rows)

    def batches(self, split, batch_rows, *, shuffle=None, start_batch=0):
        for i in range(start_batch, self.num_batches(split, batch_rows)):
            yield f"{self.name}{i}"


def stream(joint, start=0):
    return list(joint.batches("train", 10, start_batch=start))


def test_each_batch_of_both_comes_once_in_its_order_and_spread_evenly():
    joint = JointShards(Numbered("a", 60), Numbered("b", 8), second_rows=4)
    assert joint.num_batches("train", 10) == 8
    assert joint.rows("train") == 68
    assert stream(joint) == ["a0", "a1", "a2", "b0", "a3", "a4", "a5", "b1"]


@pytest.mark.parametrize(("first", "second"), [(60, 8), (13, 40), (10, 0), (0, 9), (7, 7)])
def test_a_later_start_gives_the_rest(first, second):
    joint = JointShards(Numbered("a", first), Numbered("b", second), second_rows=3)
    whole = stream(joint)
    assert len(set(whole)) == len(whole) == joint.num_batches("train", 10)
    for start in range(len(whole) + 1):
        assert stream(joint, start) == whole[start:]


def test_what_only_another_source_has_is_missing():
    """Id 0 for one id per row, nothing in lists and histories, number 0, label masked."""
    layout = make_layout()
    own = make_layout()
    object.__setattr__(own, "bags", tuple(b for b in layout.bags if b.name in ("hour", "saved")))
    object.__setattr__(own, "sequences", layout.sequences[1:])
    object.__setattr__(own, "dense", ("price",))
    object.__setattr__(own, "tasks", layout.tasks[:1])
    rows = make_rows(5)
    whole, part = to_batch(rows, layout), to_batch(rows, layout, own)
    bags, expected = part.bags.to_dict(), whole.bags.to_dict()
    for name in ("hour", "saved"):
        assert bags[name].values().equal(expected[name].values())
    assert bags["user_id"].values().tolist() == [0] * 5
    assert bags["user_id"].lengths().tolist() == [1] * 5
    assert bags["liked_topics"].lengths().tolist() == [0] * 5
    assert part.sequences["clicks"].lengths().sum() == 0
    assert part.sequences["buys"].values().equal(whole.sequences["buys"].values())
    assert part.dense[:, 0].tolist() == [0] * 5
    assert part.dense[:, 1].equal(whole.dense[:, 1])
    assert part.masks[:, 0].equal(whole.masks[:, 0])
    assert part.masks[:, 1].tolist() == [0] * 5
    assert part.survival is None
