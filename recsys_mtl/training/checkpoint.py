"""Checkpoints: everything a run needs to go on as if it had never stopped.

Tables and their fused optimiser are a torch.distributed.checkpoint directory, whose `.metadata` is
a pickle inside torch. It is read here only, and only after our own sha256 manifest has verified.
"""

import json
import logging
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save, save_file
from torch import Tensor
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed.checkpoint.state_dict_loader import load as load_sharded
from torch.distributed.checkpoint.state_dict_saver import save as save_sharded

from recsys_mtl.artifacts.commit import FileEntry, atomic_write, entry_of, make_dir, writing
from recsys_mtl.artifacts.manifest import open_artifact, publish
from recsys_mtl.embeddings.state import plain_state
from recsys_mtl.errors import IntegrityError, Problem, TransientError
from recsys_mtl.training.learner import Learner

logger = logging.getLogger(__name__)
_RNG = "rng"


@dataclass(slots=True)
class Progress:
    """Where a run stands, besides weights and optimiser states."""

    step: int = 0
    """Optimiser steps done; with the plan of epochs also the position in the data."""
    best_step: int | None = None
    best_objective: float | None = None
    bad_evaluations: int = 0
    """Evaluations since the best."""
    skipped: list[int] = field(default_factory=list)
    """Steps that were skipped lately because something was not finite."""
    num_skipped: int = 0
    """All steps that were skipped."""
    train: dict[str, list[list[float]]] = field(default_factory=dict)
    """Task to [step, loss] of sampled steps."""
    valid: dict[str, list[list[float]]] = field(default_factory=dict)
    """Task to [step, loss] of evaluations."""
    diagnostics: dict[str, list[list[float]]] = field(default_factory=dict)
    """Figure of an expert or gate to [step, value] of evaluations."""
    valid_auc: dict[str, list[list[float | None]]] = field(default_factory=dict)
    """Task to [step, AUC] of evaluations."""


def weight_files(learner: Learner, directory: Path) -> list[FileEntry]:
    """Write `dense.safetensors` and `tables/<table>.safetensors`; refuses what is not finite.

    Raises:
        IntegrityError: naming a tensor that holds NaN or infinity.
    """
    dense = {k: v.detach().clone() for k, v in learner.model.dense_part.state_dict().items()}
    tables = plain_state(learner.tables)
    _check_finite({**dense, **tables})
    make_dir(directory / "tables")
    entries = [_save(directory / "dense.safetensors", dense, directory)]
    for table, weight in tables.items():
        path = directory / "tables" / f"{table}.safetensors"
        entries.append(_save(path, {"weight": weight}, directory))
    return entries


def _save(path: Path, tensors: dict[str, Tensor], root: Path) -> FileEntry:
    atomic_write(path, save({k: v.contiguous() for k, v in tensors.items()}))
    return entry_of(path, root)


class Checkpoints:
    """The checkpoints of one run, below `directory`; the newest that verifies is resumed."""

    def __init__(self, directory: Path, keep: int) -> None:
        self._directory = directory
        self._keep = keep
        self._refused: list[Path] = []
        """Damaged ones that `load` passed over."""

    def save(self, learner: Learner, progress: Progress) -> None:
        """Write the state after `progress.step`; older ones are pruned, the best's weights kept.

        Raises:
            IntegrityError: if a weight or an optimiser state is not finite; nothing is written.
            TransientError: if the disk has not room for two of them.
        """
        sharded, dense = _sharded(learner), _dense(learner)
        tensors = {**dict(_local_shards(sharded)), **dense}
        _check_finite(tensors)
        self._check_room(sum(t.numel() * t.element_size() for t in tensors.values()))
        self._set_aside()
        target = self._directory / f"step-{progress.step:08d}"
        temporary = make_dir(self._directory / f".{target.name}.{uuid.uuid4().hex}")
        save_sharded(sharded, checkpoint_id=str(temporary / "sharded"))
        with writing(temporary / "dense.safetensors") as path:
            save_file(dense, path)
        atomic_write(temporary / "progress.json", json.dumps(asdict(progress)).encode())
        publish(temporary, _entries(temporary), {"step": progress.step})
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
        self._prune(progress)

    def save_best(self, learner: Learner, step: int) -> None:
        """Keep the weights of an evaluation that is the best so far."""
        target = self._best(step)
        publish(make_dir(target), weight_files(learner, target), {"step": step})

    def best_weights(self, step: int) -> Path:
        """Verified directory of `save_best`.

        Raises:
            IntegrityError: if it is absent or damaged.
        """
        return open_artifact(self._best(step)).dir

    def load(self, learner: Learner) -> Progress:
        """Restore the newest checkpoint that verifies; a fresh run starts at step 0.

        Raises:
            IntegrityError: if there are checkpoints, but none verifies.
        """
        self._refused = []
        for path in sorted(self._directory.glob("step-*"), reverse=True):
            try:
                self._verify(path)
            except IntegrityError as error:
                logger.error("checkpoint refused, trying the one before: %s", error)
                self._refused.append(path)
                continue
            logger.info("resuming checkpoint=%s", path.name)
            return _restore(path, learner)
        if self._refused:
            raise IntegrityError(
                Problem(
                    str(self._directory),
                    f"none of {len(self._refused)} checkpoints verifies",
                    "To train from the start use `recsys-mtl train --from-scratch`.",
                )
            )
        return Progress()

    def _verify(self, path: Path) -> None:
        """Check the sha256 of a checkpoint and of the best weights that it counts on."""
        open_artifact(path)
        best = _best_step(path)
        if best is not None:
            self.best_weights(best)

    def _set_aside(self) -> None:
        """Rename damaged checkpoints, so that they do not count among those that are kept."""
        for path in self._refused:
            aside = path.with_name(f"refused-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        self._refused = []

    def _check_room(self, size_bytes: int) -> None:
        free_bytes = shutil.disk_usage(self._directory).free
        if free_bytes < 2 * size_bytes:
            raise TransientError(
                Problem(
                    str(self._directory),
                    f"{free_bytes / 2**20:,.0f} MiB are free, two checkpoints need "
                    f"{2 * size_bytes / 2**20:,.0f} MiB",
                    "Free space, then rerun: training goes on from the last checkpoint.",
                )
            )

    def _best(self, step: int) -> Path:
        return self._directory / f"best-{step:08d}"

    def _prune(self, progress: Progress) -> None:
        steps = sorted(self._directory.glob("step-*"))
        kept = steps[-self._keep :]
        named = {_best_step(path) for path in kept} | {progress.best_step}
        bests = [p for p in self._directory.glob("best-*") if int(p.name[5:]) not in named]
        for path in [*steps[: -self._keep], *bests, *self._directory.glob(".step-*")]:
            shutil.rmtree(path, ignore_errors=True)


def _check_finite(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise IntegrityError(
                Problem(f"weights {name}", "not finite", "Lower the learning rates and rerun.")
            )


def _best_step(path: Path) -> int | None:
    best: int | None = json.loads((path / "progress.json").read_text())["best_step"]
    return best


def _entries(directory: Path) -> list[FileEntry]:
    files = sorted(p for p in directory.rglob("*") if p.is_file())
    return [entry_of(path, directory) for path in files]


def _sharded(learner: Learner) -> dict[str, Any]:
    return {"tables": learner.tables.state_dict(), "fused": learner.fused.state_dict()}


def _local_shards(state: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Name and local part of every sharded tensor of a nested state."""
    for name, value in state.items():
        if isinstance(value, Mapping):
            yield from _local_shards(value)
        elif isinstance(value, ShardedTensor):
            yield from ((name, shard.tensor) for shard in value.local_shards())


def _dense(learner: Learner) -> dict[str, Tensor]:
    """Dense weights, AdamW's moments and the random state, as one flat dictionary."""
    flat = {f"model.{k}": v for k, v in learner.model.dense_part.state_dict().items()}
    for index, state in learner.dense.state_dict()["state"].items():
        flat |= {f"optim.{index}.{k}": v for k, v in state.items()}
    flat[_RNG] = torch.get_rng_state()
    return {k: v.detach().clone().contiguous() for k, v in flat.items()}


def _restore(path: Path, learner: Learner) -> Progress:
    state = _sharded(learner)
    load_sharded(state, checkpoint_id=str(path / "sharded"))
    learner.tables.load_state_dict(state["tables"])
    learner.fused.load_state_dict(state["fused"])
    flat = load_file(path / "dense.safetensors")
    weights = {k.removeprefix("model."): v for k, v in flat.items() if k.startswith("model.")}
    learner.model.dense_part.load_state_dict(weights)
    optim = learner.dense.state_dict()
    for name, tensor in flat.items():
        if name.startswith("optim."):
            _, index, key = name.split(".", 2)
            optim["state"].setdefault(int(index), {})[key] = tensor
    learner.dense.load_state_dict(optim)
    torch.set_rng_state(flat[_RNG])
    return Progress(**json.loads((path / "progress.json").read_text()))
