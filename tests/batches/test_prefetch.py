import threading
from collections.abc import Iterator

import pytest

from recsys_mtl.batches.prefetch import prefetch


def test_items_come_in_order() -> None:
    assert list(prefetch(iter(range(100)), 2)) == list(range(100))
    assert list(prefetch(iter([]), 2)) == []


def test_an_error_comes_at_the_place_of_its_item() -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("broken shard")

    items = prefetch(source(), 2)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="broken shard"):
        next(items)


def test_it_runs_ahead_but_not_further_than_asked() -> None:
    made: list[int] = []
    third = threading.Event()

    def source() -> Iterator[int]:
        for i in range(10):
            made.append(i)
            if i == 2:
                third.set()
            yield i

    items = prefetch(source(), 2)
    assert next(items) == 0
    assert third.wait(5), "item 2 is made while item 0 is in use"
    items.close()
    assert made == [0, 1, 2]


def test_the_thread_ends_with_its_consumer() -> None:
    items = prefetch(iter(range(10)), 2)
    next(items)
    assert any(t.name.startswith("prefetch") for t in threading.enumerate())
    items.close()
    assert not any(t.name.startswith("prefetch") for t in threading.enumerate())
