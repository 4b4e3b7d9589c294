"""Initial weights of a table: a function of the seed and the table's name, not of build order."""

import hashlib
import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

MAX_SCALE = 0.05


def table_init(name: str, seed: int) -> Callable[[Tensor], Tensor]:
    """Filler of one table's weights, as torchrec's `init_fn`.

    Uniform in +-min(0.05, sqrt(1 / rows)); row 0 (missing) starts at 0. Equal for
    a plain and a sharded table, and whatever other tables there are.

    Args:
        name: of the table.
        seed: of the run.
    """
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return partial(_fill, seed=int.from_bytes(digest[:8], "little") >> 1)


def _fill(weight: Tensor, seed: int) -> Tensor:
    scale = min(MAX_SCALE, math.sqrt(1 / weight.shape[0]))
    generator = torch.Generator(device=weight.device).manual_seed(seed)
    with torch.no_grad():
        weight.uniform_(-scale, scale, generator=generator)
        weight[0] = 0.0
    return weight
