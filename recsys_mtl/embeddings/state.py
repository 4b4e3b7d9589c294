"""Weights of the tables as plain tensors, the same from a sharded and an unsharded module."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor import ShardedTensor

from recsys_mtl.errors import IntegrityError, Problem


def plain_state(module: nn.Module) -> dict[str, Tensor]:
    """Copy the full weights of every table.

    Args:
        module: `Embeddings`, or what `shard` made of it (at world size 1).

    Returns:
        Table name to float32[rows, E], on CPU.
    """
    return {
        table: weight.detach().to("cpu", copy=True).contiguous()
        for table, _, weight in _weights(module)
    }


def load_plain_state(module: nn.Module, tables: Mapping[str, Tensor]) -> None:
    """Put weights into a module, sharded or not; tables on `meta` take the tensors themselves.

    Args:
        module: as for `plain_state`.
        tables: as `plain_state` gave them: exactly the module's tables.

    Raises:
        IntegrityError: if names or shapes differ; nothing is changed then.
    """
    weights = list(_weights(module))
    expected = {table: tuple(weight.shape) for table, _, weight in weights}
    found = {table: tuple(weight.shape) for table, weight in tables.items()}
    if expected != found:
        raise IntegrityError(_differences(expected, found))
    for table, owner, weight in weights:
        if weight.is_meta:
            owner.weight = nn.Parameter(tables[table].float())
        else:
            with torch.no_grad():
                weight.copy_(tables[table])


def _weights(module: nn.Module) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Name, owning module and full weight of each table."""
    inner = module.module if hasattr(module, "module") else module
    for collection in (inner.bags, inner.sequence_bags):
        if collection is None:
            continue
        state = collection.state_dict()
        for table, owner in collection.embedding_bags.items():
            weight = state[f"embedding_bags.{table}.weight"]
            yield table, owner, _whole(table, weight)


def _whole(table: str, weight: Tensor | ShardedTensor) -> Tensor:
    if not isinstance(weight, ShardedTensor):
        return weight
    shards = weight.local_shards()
    if len(shards) != 1 or shards[0].tensor.shape != weight.size():
        raise IntegrityError(
            f"table {table}: only a part of it is in this process; export from world size 1"
        )
    local: Tensor = shards[0].tensor
    return local


def _differences(
    expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]
) -> list[Problem]:
    return [
        Problem(
            f"table {table}",
            f"the weights have shape {found.get(table, 'none')}, the model has"
            f" {expected.get(table, 'none')}",
            "Use weights that were trained with this feature spec.",
        )
        for table in sorted(expected.keys() | found.keys())
        if expected.get(table) != found.get(table)
    ]
