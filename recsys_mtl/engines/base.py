"""What an engine is: it maps a pure shard function over tasks, and decides nothing else."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from recsys_mtl.errors import RecsysError

T = TypeVar("T")
R = TypeVar("R")


class ShardFailedError(RecsysError):
    """A shard function raised something that is not an expected failure: a fault in our code."""


class RemoteError(Exception):
    """The traceback of a failure in another process, as text; the cause of what is raised."""


class Engine(Protocol):
    """Runs a shard function over tasks; use it as a context manager."""

    name: str

    def map(self, fn: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """Results in completion order.

        A worker that dies is replaced and its tasks run again, so `fn` must be idempotent. An
        application error is not retried: the first one ends the map.

        Args:
            fn: a top-level function.
            tasks: picklable values; a task's `index`, if it has one, names it in messages.

        Raises:
            RecsysError: of the class that `fn` raised, naming the shard.
            ShardFailedError: if `fn` raised anything else.
        """
        ...

    def close(self) -> None:
        """Stop the workers; a second call does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """A shard's result on its way back."""

    result: R


@dataclass(frozen=True, slots=True)
class Failed:
    """A shard's failure on its way back, already named."""

    error: RecsysError
    trace: str


def attempt(fn: Callable[[T], R], task: T, position: int) -> "Done[R] | Failed":
    """Run one shard; return its failure as a value, because arbitrary exceptions do not travel."""
    try:
        return Done(fn(task))
    except RecsysError as error:
        return Failed(_named(error, task, position), traceback.format_exc())
    except Exception as error:
        what = f"{_name(task, position)} failed: {type(error).__name__}: {error}"
        return Failed(ShardFailedError(what), traceback.format_exc())


def unwrap(outcome: "Done[R] | Failed") -> R:
    """The result of a shard, or its failure raised here with the remote traceback as cause."""
    if isinstance(outcome, Failed):
        raise outcome.error from RemoteError("\n" + outcome.trace)
    return outcome.result


def worker_name() -> str:
    """Who runs this code: `ray:<node>/<worker>` in a Ray task, else `local:<pid>`."""
    # A process without Ray loaded is no Ray worker; importing it here would cost 2 s.
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        context = ray.get_runtime_context()
        if context.get_task_id() is not None:
            return f"ray:{context.get_node_id()[:8]}/{context.get_worker_id()[:8]}"
    return f"local:{os.getpid()}"


def _name(task: object, position: int) -> str:
    index = getattr(task, "index", None)
    return f"shard {index if isinstance(index, int) else position}"


def _named(error: RecsysError, task: object, position: int) -> RecsysError:
    name = _name(task, position)
    if error.problems:
        return type(error)([replace(p, message=f"{p.message} ({name})") for p in error.problems])
    return type(error)(f"{name}: {error}")
