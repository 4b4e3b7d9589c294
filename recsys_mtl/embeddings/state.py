"""Weights of the tables as plain tensors, the same from a sharded and an unsharded module."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchrec.distributed.model_parallel import DistributedModelParallel

from recsys_mtl.embeddings.tables import Embeddings
from recsys_mtl.errors import IntegrityError, Problem


def plain_state(module: Embeddings | DistributedModelParallel) -> dict[str, Tensor]:
    """Copy the full weights of every table.

    Args:
        module: as built, or as `shard` returned it at world size 1.

    Returns:
        Table name to float32[rows, E], on CPU, in the order of the layout.

    Raises:
        IntegrityError: if only a part of a table is in this process.
    """
    weights = {table: owner.weight.detach() for table, owner in _owners(module).items()}
    _check(module, {table: tuple(weight.shape) for table, weight in weights.items()})
    return {table: weight.to("cpu", copy=True) for table, weight in weights.items()}


def load_plain_state(
    module: Embeddings | DistributedModelParallel, tables: Mapping[str, Tensor]
) -> None:
    """Put weights into a module, sharded or not; tables on `meta` take the tensors themselves.

    Args:
        module: as for `plain_state`.
        tables: as `plain_state` gave them: exactly the module's tables, float32.

    Raises:
        IntegrityError: if names or shapes differ; nothing is changed then.
    """
    _check(module, {table: tuple(weight.shape) for table, weight in tables.items()})
    for table, owner in _owners(module).items():
        if owner.weight.is_meta:
            owner.weight = nn.Parameter(tables[table])
        else:
            with torch.no_grad():
                owner.weight.copy_(tables[table])


def unwrapped(module: Embeddings | DistributedModelParallel) -> Embeddings:
    """The embeddings inside of what `shard` returned, for their layout and `output_hook`."""
    if isinstance(module, Embeddings):
        return module
    inner: Embeddings = module.module
    return inner


def _owners(module: Embeddings | DistributedModelParallel) -> dict[str, nn.EmbeddingBag]:
    """The module that holds each table's `weight`, in the order of the layout."""
    inner = unwrapped(module)
    owners: dict[str, nn.EmbeddingBag] = {}
    for collection in (inner.bags, inner.sequence_bags):
        owners |= dict(collection.embedding_bags.items()) if collection is not None else {}
    return {table: owners[table] for table in inner.layout.tables}


def _check(
    module: Embeddings | DistributedModelParallel, found: dict[str, tuple[int, ...]]
) -> None:
    layout = unwrapped(module).layout
    expected = {name: (t.num_embeddings, t.dim) for name, t in layout.tables.items()}
    problems = [
        Problem(
            f"table {table}",
            f"the weights have shape {found.get(table, 'none')}, the spec says"
            f" {expected.get(table, 'none')}",
            "Use weights trained with this feature spec, all in one process.",
        )
        for table in sorted(expected.keys() | found.keys())
        if expected.get(table) != found.get(table)
    ]
    if problems:
        raise IntegrityError(problems)
