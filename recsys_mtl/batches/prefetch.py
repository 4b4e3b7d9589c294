"""Run an iterator ahead in a thread, so that loading overlaps with training."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

Item = TypeVar("Item")


def prefetch(items: Iterator[Item], ahead: int) -> Iterator[Item]:
    """Yield `items` in order while up to `ahead` more are made in one background thread.

    An error of the source is raised at the place of the item that failed. When the consumer
    stops early, the item in work is finished and the thread ends.

    Args:
        items: consumed by the thread only.
        ahead: items held at most, at least 1.
    """
    end = object()
    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        pending = deque(pool.submit(next, items, end) for _ in range(ahead))
        while (item := pending.popleft().result()) is not end:
            pending.append(pool.submit(next, items, end))
            yield cast(Item, item)
    finally:
        pool.shutdown(cancel_futures=True)
