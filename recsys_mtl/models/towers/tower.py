"""What all towers are."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from torch import Tensor

from recsys_mtl.models.interface import BottomOutput

Out = TypeVar("Out")


class Tower(Protocol):
    """Turns task inputs into task representations; heads follow."""

    out_dim: int
    """D"""

    def __call__(self, bottom: BottomOutput) -> dict[str, Tensor]:
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
