"""A small layout with every kind of input, and encoded rows for it."""

import numpy as np
import pyarrow as pa

from recsys_mtl.batches.assemble import to_batch
from recsys_mtl.batches.batch import Batch
from recsys_mtl.spec.feature_spec import BinaryLabel, HashIds, Table
from recsys_mtl.spec.layout import Bag, Layout, SequenceInput


def table(buckets: int, dim: int = 4) -> Table:
    return Table(dim=dim, ids=HashIds(kind="hash", buckets=buckets, seed=1))


def make_layout(topic_dim: int = 4) -> Layout:
    """Plain tables user, hour and topic; video and genre are read by sequences, video by bags too.

    The order of tables is neither that of the bags nor that of the sequence fields.
    """
    return Layout(
        tables={
            "user": table(20),
            "genre": table(12),
            "video": table(30),
            "hour": table(24),
            "topic": table(9, topic_dim),
        },
        bags=(
            Bag("user_id", "user", "sum", is_list=False),
            Bag("liked_topics", "topic", "mean", is_list=True),
            Bag("hour", "hour", "sum", is_list=False),
            Bag("topic", "topic", "sum", is_list=False),
            Bag("video_id", "video", "sum", is_list=False),
            Bag("saved", "video", "mean", is_list=True),
        ),
        num_plain_bags=4,
        dense=("age", "price"),
        sequences=(
            SequenceInput(
                "clicks",
                "click",
                6,
                {"clicks__video": "video", "clicks__genre": "genre"},
                {"clicks__video": "video_id"},
            ),
            SequenceInput("buys", "buy", 3, {"buys__video": "video"}, {}),
        ),
        tasks=(
            BinaryLabel(name="click", column="click"),
            BinaryLabel(name="buy", column="buy", parent="click"),
        ),
    )


def make_rows(num: int, seed: int = 0, layout: Layout | None = None) -> pa.Table:
    """Random encoded rows with `key__row_id` 0, 1, ...; empty lists occur."""
    layout = layout or make_layout()
    rng = np.random.default_rng(seed)
    lengths = {s.name: rng.integers(0, s.max_len + 1, num) for s in layout.sequences}
    columns: dict[str, object] = {
        "key__row_id": np.arange(num),
        "key__group": rng.integers(0, 5, num),
        "key__time": rng.integers(0, 10**6, num),
        "key__split": rng.integers(-1, 3, num).astype(np.int8),
    }

    def ids(name: str, count: int) -> np.ndarray:
        return rng.integers(0, layout.tables[name].num_embeddings, count)

    for bag in layout.bags:
        columns[bag.name] = ids(bag.table, num)
        if bag.is_list:
            columns[bag.name] = lists(rng.integers(0, 4, num), lambda n, t=bag.table: ids(t, n))
    for s in layout.sequences:
        for field, name in s.fields.items():
            columns[field] = lists(lengths[s.name], lambda n, t=name: ids(t, n))
    for name in layout.dense:
        columns[name] = rng.normal(size=num).astype(np.float32)
    for name in layout.task_names:
        columns[f"label__{name}"] = rng.integers(0, 2, num).astype(np.float32)
        columns[f"mask__{name}"] = rng.random(num) < 0.8
    return pa.table(columns)


def lists(lengths: np.ndarray, ids) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, ids(int(offsets[-1])).astype(np.int64))


def make_batch(num: int, seed: int = 0, layout: Layout | None = None) -> Batch:
    layout = layout or make_layout()
    return to_batch(make_rows(num, seed, layout), layout)


def assert_equal_batches(a: Batch, b: Batch) -> None:
    """Equal ids, numbers, labels and keys, bit for bit."""
    for x, y in ((a.bags, b.bags), *((a.sequences[s], b.sequences[s]) for s in a.sequences)):
        assert x.keys() == y.keys()
        assert x.values().tolist() == y.values().tolist()
        assert x.lengths().tolist() == y.lengths().tolist()
    for name in ("dense", "labels", "masks", "weights", "group", "time"):
        assert getattr(a, name).tolist() == getattr(b, name).tolist(), name
    assert a.row_id.to_pylist() == b.row_id.to_pylist()
