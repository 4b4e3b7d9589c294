"""Engine on processes of this machine; the default."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from types import TracebackType
from typing import Any, Self, TypeVar

from recsys_mtl.engines.base import Done, Failed, attempt, unwrap
from recsys_mtl.errors import TransientError

T = TypeVar("T")
R = TypeVar("R")
MAX_REBUILDS = 5
"""Pools lost in a row, without one shard finished in between, before the engine gives up."""
_IN_FLIGHT_PER_WORKER = 2


class LocalEngine:
    """Spawned worker processes; inline when one worker or one task makes processes pointless.

    Args:
        workers: processes at most.
    """

    name = "local"

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def map(self, fn: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """Results in completion order; see `Engine.map`."""
        if self._workers == 1 or len(tasks) <= 1:
            for position, task in enumerate(tasks):
                yield unwrap(attempt(fn, task, position))
            return
        finished = False
        try:
            for outcome in self._outcomes(fn, tasks):
                yield unwrap(outcome)
            finished = True
        finally:
            if not finished:
                self._kill()

    def close(self) -> None:
        """Stop the workers."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._kill() if error is not None else self.close()

    def _outcomes(self, fn: Callable[[T], R], tasks: Sequence[T]) -> Iterator["Done[R] | Failed"]:
        waiting = list(range(len(tasks)))[::-1]
        running: dict[Future[Done[R] | Failed], int] = {}
        rebuilds = 0
        while waiting or running:
            try:
                self._fill(fn, tasks, waiting, running)
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                # Finished shards first: a pool that breaks fails the others in the same breath.
                for future in sorted(done, key=lambda f: f.exception() is not None):
                    outcome = future.result()
                    del running[future]
                    rebuilds = 0
                    yield outcome
            except BrokenProcessPool:
                waiting += sorted(running.values(), reverse=True)
                running.clear()
                self._kill()
                rebuilds += 1
                if rebuilds > MAX_REBUILDS:
                    raise _workers_die(len(waiting)) from None

    def _fill(
        self,
        fn: Callable[[T], R],
        tasks: Sequence[T],
        waiting: list[int],
        running: dict[Future["Done[R] | Failed"], int],
    ) -> None:
        pool = self._started()
        while waiting and len(running) < _IN_FLIGHT_PER_WORKER * self._workers:
            future = pool.submit(attempt, fn, tasks[waiting[-1]], waiting[-1])
            running[future] = waiting.pop()

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            threads = max(1, (os.cpu_count() or 1) // self._workers)
            self._pool = ProcessPoolExecutor(
                self._workers,
                multiprocessing.get_context("spawn"),
                _start_worker,
                (threads,),
            )
        return self._pool

    def _kill(self) -> None:
        """Stop the workers now; a shard cut short is redone by the next run."""
        if self._pool is None:
            return
        # Python 3.14 has kill_workers(); before, the pool's own table is the only list of them.
        workers: list[Any] = list((self._pool._processes or {}).values())
        for worker in workers:
            worker.kill()
        self._pool.shutdown(cancel_futures=True)
        self._pool = None


def _start_worker(threads: int) -> None:
    # Before numpy, pyarrow or torch are loaded by the first shard function.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A driver killed by SIGKILL must not leave workers that write beside its rerun."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _workers_die(left: int) -> TransientError:
    return TransientError(
        f"local workers were killed {MAX_REBUILDS + 1} times in a row without finishing a shard;"
        f" {left:,} shards are left. Most often memory ran out: lower ingest.workers or"
        " ingest.shard_rows, then rerun; finished shards are kept."
    )
