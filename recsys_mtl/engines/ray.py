"""Engine on Ray workers; Ray schedules the shards of our plan and nothing else."""

import logging
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from recsys_mtl.engines.base import attempt, unwrap

T = TypeVar("T")
R = TypeVar("R")
OBJECT_STORE_BYTES = 200_000_000
"""Tasks and results are paths and counts; rows never travel through Ray."""
_IN_FLIGHT_PER_WORKER = 2


class RayEngine:
    """Ray tasks, one CPU each; Ray is started at the first map unless it already runs.

    Args:
        workers: CPUs that Ray gives to shards at most.
    """

    name = "ray"

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._is_owner = False

    def map(self, fn: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """Results in completion order; see `Engine.map`."""
        ray = self._started()
        # Ray pickles `attempt` by reference, and a lost worker is a system failure to it: retried.
        remote = ray.remote(attempt).options(num_cpus=1, max_retries=-1, retry_exceptions=False)
        waiting = list(enumerate(tasks))[::-1]
        running: list[Any] = []
        try:
            while waiting or running:
                while waiting and len(running) < _IN_FLIGHT_PER_WORKER * self._workers:
                    position, task = waiting.pop()
                    running.append(remote.remote(fn, task, position))
                done, running = ray.wait(running, num_returns=1)
                yield unwrap(ray.get(done[0]))
        finally:
            for reference in running:
                ray.cancel(reference)

    def close(self) -> None:
        """Stop Ray if this engine started it."""
        if self._is_owner:
            import ray

            ray.shutdown()
            self._is_owner = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _started(self) -> Any:
        import ray

        if not ray.is_initialized():
            ray.init(
                address="local",
                num_cpus=self._workers,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
            self._is_owner = True
        return ray
