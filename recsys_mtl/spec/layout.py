"""What a spec compiles to: the columns of an encoded shard and the inputs of a model."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from recsys_mtl.spec.feature_spec import (
    BinaryLabel,
    FeatureSpec,
    NumberFeature,
    SurvivalLabel,
    Table,
    VectorFeature,
)

ROW_ID = "key__row_id"
GROUP = "key__group"
TIME = "key__time"
SPLIT = "key__split"

SPLITS = ("train", "valid", "test")
"""Names of the values 0, 1, 2 of the split column; rows outside have -1."""


@dataclass(frozen=True, slots=True)
class Bag:
    """A pooled id input: column `name`, int64 or `list<int64>`."""

    name: str
    table: str
    pooling: Literal["sum", "mean"]
    is_list: bool


@dataclass(frozen=True, slots=True)
class SequenceInput:
    """A behaviour sequence; `fields` maps column `<sequence>__<field>` to its table."""

    name: str
    behaviour: str
    max_len: int
    fields: dict[str, str]
    targets: dict[str, str]
    """Column `<sequence>__<field>` to the bag that target attention compares it with."""


@dataclass(frozen=True)
class Layout:
    """Fixed order of everything a model reads or predicts.

    `bags` holds the bags of tables that no sequence reads first, then the bags
    of tables that sequences read (`num_plain_bags` of the former).
    """

    tables: dict[str, Table]
    bags: tuple[Bag, ...]
    num_plain_bags: int
    dense: tuple[str, ...]
    sequences: tuple[SequenceInput, ...]
    tasks: tuple[BinaryLabel, ...]
    survival: SurvivalLabel | None = None

    @cached_property
    def task_names(self) -> tuple[str, ...]:
        """Binary tasks in the order of `labels[B, T]`."""
        return tuple(t.name for t in self.tasks)

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        """Everything that is predicted and has a loss: the binary tasks, then survival."""
        return self.task_names if self.survival is None else (*self.task_names, self.survival.name)

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """Index of each task's parent, -1 without."""
        return tuple(
            -1 if t.parent is None else self.task_names.index(t.parent) for t in self.tasks
        )

    @cached_property
    def sequence_tables(self) -> tuple[str, ...]:
        """Tables read by a sequence, in declaration order."""
        read = {table for s in self.sequences for table in s.fields.values()}
        return tuple(t for t in self.tables if t in read)


def label_column(task: str) -> str:
    """Encoded column of a label, float32."""
    return f"label__{task}"


def mask_column(task: str) -> str:
    """Encoded column of a label's mask, bool: observed, not null, mature."""
    return f"mask__{task}"


def vector_columns(feature: VectorFeature) -> list[str]:
    """Encoded columns of a vector's elements, float32 each."""
    return [f"{feature.name}__{k}" for k in range(feature.dim)]


def missing_column(feature: str) -> str:
    """Encoded column of a number's missing indicator, float32."""
    return f"{feature}__missing"


SURVIVAL_COLUMNS = ("entry", "exit", "event", "weight")


def survival_column(name: str, part: str) -> str:
    """Encoded column of a survival label; `part` is one of `SURVIVAL_COLUMNS`.

    entry and exit int32 days; event int8, 0 where censored, else 1 + the number of its cause;
    weight float32.
    """
    return f"survival__{name}__{part}"


def outcome_columns(layout: Layout) -> list[str]:
    """Encoded columns of labels, masks and the survival label."""
    names = [column(task) for task in layout.task_names for column in (label_column, mask_column)]
    if layout.survival is not None:
        names += [survival_column(layout.survival.name, part) for part in SURVIVAL_COLUMNS]
    return names


def compile_layout(spec: FeatureSpec, *sources: str) -> Layout:
    """Lay out the inputs of one source, or of all inputs of several, in file order."""
    visible = [f for f in spec.features if any(f in spec.features_of(s) for s in sources)]
    histories = [q for q in spec.sequences if any(q in spec.sequences_of(s) for s in sources)]
    sequences = tuple(
        SequenceInput(
            s.name,
            s.behaviour,
            s.max_len,
            {f"{s.name}__{f.name}": f.table for f in s.fields},
            {f"{s.name}__{f.name}": f.target for f in s.fields if f.target is not None},
        )
        for s in histories
    )
    read_by_sequences = {table for s in sequences for table in s.fields.values()}
    bags: list[Bag] = []
    dense: list[str] = []
    for f in visible:
        if f.kind == "id":
            bags.append(Bag(f.name, f.table, "sum", is_list=False))
        elif f.kind == "id_list":
            bags.append(Bag(f.name, f.table, f.pooling, is_list=True))
        elif f.kind == "vector":
            dense += vector_columns(f)
        elif f.table is not None:
            bags.append(Bag(f.name, f.table, "sum", is_list=False))
        if isinstance(f, NumberFeature):
            dense += [f.name] if f.table is None else []
            dense += [missing_column(f.name)] if f.missing.indicator else []
    plain = [b for b in bags if b.table not in read_by_sequences]
    shared = [b for b in bags if b.table in read_by_sequences]
    used = {b.table for b in bags} | read_by_sequences
    return Layout(
        tables={name: t for name, t in spec.tables.items() if name in used},
        bags=(*plain, *shared),
        num_plain_bags=len(plain),
        dense=tuple(dense),
        sequences=sequences,
        tasks=tuple(label for s in sources for label in spec.sources[s].labels),
        survival=next(filter(None, (spec.sources[s].survival for s in sources)), None),
    )
