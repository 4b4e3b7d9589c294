import torch

from recsys_mtl.embeddings.joint import Slots, bag_slots, join, part, pool, sequence_mask
from recsys_mtl.spec.layout import Bag


def int32(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def test_mask_puts_the_newest_event_last() -> None:
    assert sequence_mask(int32(1, 3, 0)).int().tolist() == [[0, 0, 1], [1, 1, 1], [0, 0, 0]]


def test_mask_has_a_position_even_without_events() -> None:
    assert sequence_mask(int32(0, 0)).tolist() == [[False], [False]]


def blocks() -> dict[str, list[Slots]]:
    return {
        "video": [bag_slots(torch.tensor([5, 6])), Slots(torch.tensor([7]), int32(0, 1))],
        "topic": [bag_slots(torch.tensor([8, 9]))],
    }


def test_blocks_of_a_table_follow_each_other_and_are_padded_with_empty_bags() -> None:
    kjt = join(blocks())
    assert kjt.keys() == ["video", "topic"]
    assert kjt.values().tolist() == [5, 6, 7, 8, 9]
    assert kjt.lengths().tolist() == [1, 1, 0, 1, 1, 1, 0, 0]


def test_parts_are_the_blocks_without_padding() -> None:
    rows = torch.tensor([[1.0, 10, 20], [2, 11, 21], [3, 12, 22], [4, 13, 23]])
    (first, second), (third,) = part(rows, [1, 2], blocks())
    assert first.tolist() == [[1], [2]]
    assert second.tolist() == [[3], [4]]
    assert third.tolist() == [[10, 20], [11, 21]]


def test_pooling_adds_or_averages_and_an_empty_bag_is_zero() -> None:
    rows = torch.tensor([[1.0, 2], [3, 6], [5, 7]])
    lengths = int32(2, 0, 1)
    added = pool(rows, Bag("b", "t", "sum", is_list=True), lengths)
    averaged = pool(rows, Bag("b", "t", "mean", is_list=True), lengths)
    assert added.tolist() == [[4, 8], [0, 0], [5, 7]]
    assert averaged.tolist() == [[2, 4], [0, 0], [5, 7]]


def test_rows_of_an_id_feature_are_its_bags() -> None:
    rows = torch.tensor([[1.0], [2.0]])
    assert pool(rows, Bag("b", "t", "sum", is_list=False), int32(1, 1)) is rows
