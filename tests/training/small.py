"""A pipeline and encoded shards so small that a training run takes a second."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import torch

from recsys_mtl.artifacts.commit import write_table
from recsys_mtl.artifacts.manifest import Manifest, publish
from recsys_mtl.embeddings.state import plain_state
from recsys_mtl.spec.model_config import ConcatBottomConfig, HeadConfig, MMoEConfig, ModelConfig
from recsys_mtl.spec.pipeline import (
    CheckpointConfig,
    DenseOptim,
    EarlyStop,
    NanGuard,
    Objectives,
    SparseOptim,
    TrainingConfig,
)
from recsys_mtl.training.learner import Learner
from tests.batches.encoded import make_layout, make_rows

TRAIN_ROWS, VALID_ROWS, BATCH_ROWS = 150, 40, 16
STEPS_PER_EPOCH = 10


def settings(**changes) -> TrainingConfig:
    """Three epochs of ten steps with a checkpoint every four."""
    given = {
        "seed": 5,
        "batch_rows": BATCH_ROWS,
        "epochs": 3,
        "shuffle_rows": 64,
        "threads": 1,
        "dense": DenseOptim(lr=0.01),
        "sparse": SparseOptim(lr=0.05),
        "early_stop": EarlyStop(every_steps=5, patience=100),
        "checkpoint": CheckpointConfig(every_steps=4, keep=2),
        "nan_guard": NanGuard(max_skipped=2, per_steps=100),
    }
    return TrainingConfig(**{**given, **changes})


def make_loaded(home: Path, *, dropout: float = 0.2, **training) -> SimpleNamespace:
    """What training reads of a loaded pipeline. Dropout makes the random state matter."""
    torch.set_num_threads(1)
    model = ModelConfig(
        bottom=ConcatBottomConfig(attention_hidden=4, dropout=dropout),
        tower=MMoEConfig(num_experts=2, expert_dim=8),
        head=HeadConfig(hidden=(4,)),
    )
    pipeline = SimpleNamespace(
        name="small",
        model=model,
        objectives=Objectives(),
        training=settings(**training),
        creatives=None,
    )
    source = SimpleNamespace(keys=SimpleNamespace(time="time"))
    return SimpleNamespace(
        pipeline=pipeline,
        layout=make_layout(),
        home=home,
        spec=SimpleNamespace(sources={"feed": source}),
    )


def make_learner(**changes) -> Learner:
    loaded = make_loaded(Path(), **{"dropout": 0.0, **changes})
    return Learner(loaded.pipeline, loaded.layout)


def make_shards(directory: Path, num_train: int = TRAIN_ROWS, num_valid: int = VALID_ROWS):
    """Publish two shards of random rows; labels are noise, so longer training overfits."""
    rows = make_rows(num_train + num_valid)
    split = np.repeat(np.array([0, 1], np.int8), (num_train, num_valid))
    index = rows.schema.get_field_index("key__split")
    rows = rows.set_column(index, "key__split", pa.array(split))
    return publish_shards(directory, rows)


def publish_shards(directory: Path, rows: pa.Table) -> Manifest:
    directory.mkdir(parents=True)
    half = rows.num_rows // 2
    parts = (rows.slice(0, half), rows.slice(half))
    entries = [write_table(directory / f"part-{i}.parquet", part) for i, part in enumerate(parts)]
    codes = rows.column("key__split").to_numpy()
    times = rows.column("key__time").to_numpy()
    splits = {}
    for code, name in enumerate(("train", "valid", "test")):
        own = times[codes == code]
        latest = int(own.max()) if len(own) else None
        splits[name] = {"rows": len(own), "max_time_us": latest}
    prints = {name: name for name in ("run_key", "data_fp", "fit_fp", "spec_fp", "input_fp")}
    return publish(directory, entries, {**prints, "source": "feed", "splits": splits})


def state_of(learner: Learner) -> dict[str, torch.Tensor]:
    """Every number that training changes: weights and the states of both optimisers."""
    state = {f"dense.{k}": v for k, v in learner.model.dense_part.state_dict().items()}
    state |= {f"table.{k}": v for k, v in plain_state(learner.tables).items()}
    for index, moments in learner.dense.state_dict()["state"].items():
        state |= {f"adam.{index}.{k}": v for k, v in moments.items()}
    for name, fused in learner.fused.state_dict()["state"].items():
        for key, value in fused.items():
            state[f"fused.{name}.{key}"] = value.local_shards()[0].tensor
    return {k: v.detach().clone() for k, v in state.items()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> list[str]:
    """Names whose bits differ."""
    assert before.keys() == after.keys()
    return [name for name in before if not torch.equal(before[name], after[name])]


def silent(done: int, total: int, **numbers) -> None:
    pass
