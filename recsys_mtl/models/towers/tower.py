"""What all towers are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor

from recsys_mtl.models.interface import BottomOutput, Probe

Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class TowerInput:
    """What towers are built for; each takes what it reads."""

    dim: int
    """Width of x_t (D_in)."""
    num_tokens: int
    """Field tokens (F)."""
    tasks: tuple[str, ...]
    parents: tuple[int, ...]
    """Index of each task's parent in the funnel, -1 without."""
    groups: dict[str, tuple[str, ...]]
    """Task categories."""


class Tower(Protocol):
    """Turns task inputs into task representations; heads follow."""

    out_dim: int
    """D"""

    def __call__(self, bottom: BottomOutput, probe: Probe | None = None) -> dict[str, Tensor]:
        """Task name to f_t, float32[B, D]; no sigmoid inside."""
        ...


def evaluate_once(
    function: Callable[[Tensor], Out], inputs: Mapping[str, Tensor], tasks: Sequence[str]
) -> dict[str, Out]:
    """Apply a function to each task's input, once for inputs that are the same object."""
    done: dict[int, Out] = {}
    for task in tasks:
        x_t = inputs[task]
        if id(x_t) not in done:
            done[id(x_t)] = function(x_t)
    return {task: done[id(inputs[task])] for task in tasks}
