"""Sharded tables with a fused optimiser, by torchrec, also at world size 1.

The fused kernel updates a table inside the backward pass of its look-up, at a cost that
does not grow with the table. So nobody may run backward twice per step.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from fbgemm_gpu.split_table_batched_embeddings_ops_common import BoundsCheckMode
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import KernelConfig, TopologyFactory, TrainerConfig
from torchrec.distributed.types import EmbeddingModuleShardingPlan, ShardingPlan
from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward
from torchrec.optim.keyed import CombinedOptimizer
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from recsys_mtl.embeddings.state import load_plain_state, plain_state
from recsys_mtl.embeddings.tables import Embeddings
from recsys_mtl.errors import IntegrityError
from recsys_mtl.spec.pipeline import SparseOptim

ADAGRAD_EPS = 1e-8


class CpuEbcSharder(EmbeddingBagCollectionSharder):  # type: ignore[misc]  # untyped there
    """The stock sharder, which also lets a CPU table be split by rows."""

    def sharding_types(self, compute_device_type: str) -> list[str]:
        """Add `row_wise` to what torchrec offers on CPU."""
        types: list[str] = super().sharding_types(compute_device_type)
        return [*types, "row_wise"] if compute_device_type == "cpu" else types


def shard(
    embeddings: Embeddings, optim: SparseOptim, device: torch.device
) -> tuple[DistributedModelParallel, CombinedOptimizer]:
    """Shard the tables in place and give them their fused optimiser.

    Starts a process group of one, without a port, if none is running. Weights are kept;
    tables on `meta` get their initial weights. An id outside its table raises
    RuntimeError at the look-up, before any row has moved.

    Args:
        embeddings: not sharded yet; its collections are replaced.
        optim: row-wise Adagrad, g -> w -= lr * g / (sqrt(sum of mean(g^2)) + eps).
        device: of the sharded weights.

    Returns:
        The wrapped module, whose `state_dict` a distributed checkpoint stores, and the fused
        optimiser. Backward alone updates the tables; the optimiser's `step` applies a changed
        learning rate, and its `state_dict` belongs into a checkpoint.
    """
    if not dist.is_initialized():
        store = dist.HashStore()  # type: ignore[attr-defined]  # exported at run time only
        dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    on_meta = all(weight.is_meta for weight in embeddings.parameters())
    kept = {} if on_meta else plain_state(embeddings)
    # A new dictionary each time: torchrec writes into the one it gets.
    apply_optimizer_in_backward(
        RowWiseAdagrad, embeddings.parameters(), {"lr": optim.lr, "eps": ADAGRAD_EPS}
    )
    # Without FATAL the CPU kernel trains row 0 in place of an id out of range.
    sharder = CpuEbcSharder(fused_params={"bounds_check_mode": BoundsCheckMode.FATAL})
    dmp = DistributedModelParallel(
        embeddings, device=device, plan=_plan(embeddings, sharder, device), sharders=[sharder]
    )
    if kept:
        load_plain_state(dmp, kept)
    return dmp, dmp.fused_optimizer


def _plan(
    embeddings: Embeddings, sharder: CpuEbcSharder, device: torch.device
) -> ShardingPlan | None:
    world = dist.get_world_size()
    topology = TopologyFactory.create_topology(
        trainer_config=TrainerConfig(world_size=world, local_world_size=world),
        kernel_config=KernelConfig(compute_device=device.type),
    )
    planner = EmbeddingShardingPlanner(
        topology=topology,
        constraints=_constraints(embeddings.layout.tables),
        storage_reservation=FixedPercentageStorageReservation(percentage=0.0),
    )
    plan = planner.collective_plan(embeddings, [sharder], dist.group.WORLD)
    _check_fused(plan)
    return plan


def _constraints(tables: Iterable[str]) -> dict[str, ParameterConstraints]:
    # Left alone, the planner copies tiny tables to every rank: those get dense gradients and
    # other names in checkpoints.
    return {table: ParameterConstraints(sharding_types=["table_wise"]) for table in tables}


def _check_fused(plan: ShardingPlan) -> None:
    for module in plan.plan.values():
        assert isinstance(module, EmbeddingModuleShardingPlan)
        for table, sharding in module.items():
            if sharding.compute_kernel != EmbeddingComputeKernel.FUSED.value:
                raise IntegrityError(
                    f"table {table}: planned with kernel {sharding.compute_kernel!r}; only fused"
                    " tables train, please report this plan"
                )
