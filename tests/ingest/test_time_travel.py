"""No time travel: what happens later changes nothing about earlier rows."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.ingest.job import ingest

from .worlds import DAY, DAYS, FIRST, ITEMS, USERS, encoded, load, write_feed

LAST = (FIRST + DAYS) * DAY


def randomise_from(time_us: int, rng):
    """A change that gives everything at `time_us` and later other values, and other later times."""

    def change(table: pa.Table) -> pa.Table:
        times = table["ts"].cast(pa.int64()).to_numpy()
        late = times >= time_us
        new = {
            "user_id": rng.integers(0, USERS, len(times)),
            "item_id": rng.integers(0, ITEMS, len(times)),
            "ts": rng.integers(time_us, LAST, len(times)),
            "price": rng.normal(size=len(times)),
            "click": np.ones(len(times), np.int8),
            "buy": rng.integers(0, 2, len(times)).astype(np.int8),
            "action": np.where(rng.random(len(times)) < 0.5, "click", "other"),
        }
        for name in set(new) & set(table.column_names):
            old = times if name == "ts" else table[name].to_numpy(zero_copy_only=False)
            values = pa.array(np.where(late, new[name], old)).cast(table.schema.field(name).type)
            table = table.set_column(table.column_names.index(name), name, values)
        return table

    return change


def rewrite(feed, change):
    for folder in ("rows", "log"):
        for path in sorted((feed / folder).glob("*.parquet")):
            pq.write_table(change(pq.read_table(path)), path)


@pytest.mark.parametrize("seed", range(4))
def test_encoded_rows_do_not_depend_on_what_comes_later(tmp_path, seed):
    """The moment lies in validation or test, so that the fit on train rows is of the past too."""
    rng = np.random.default_rng(seed)
    feed = write_feed(tmp_path / "feed")
    moment = int(rng.integers((FIRST + 2) * DAY, LAST - DAY // 4))
    before = encoded(ingest(load(tmp_path / "a", feed), None))
    rewrite(feed, randomise_from(moment, rng))
    after = encoded(ingest(load(tmp_path / "b", feed), None))
    early = before["key__time"].to_numpy() < moment
    assert 0 < early.sum() < before.num_rows
    assert after.filter(pa.array(early)).equals(before.filter(pa.array(early)))
    late = pa.array(~early)
    assert not after.filter(late)["clicks__item"].equals(before.filter(late)["clicks__item"])


def test_an_event_one_cutoff_before_a_row_is_unknown_and_one_microsecond_earlier_known(tmp_path):
    feed = write_feed(tmp_path / "feed")
    row_time = (FIRST + 3) * DAY + 7

    def move_first_row(table):
        times = table["ts"].cast(pa.int64()).to_numpy().copy()
        times[0] = row_time
        users = table["user_id"].to_numpy().copy()
        users[0] = 1_000
        table = table.set_column(
            table.column_names.index("ts"), "ts", pa.array(times, pa.timestamp("us", "UTC"))
        )
        return table.set_column(table.column_names.index("user_id"), "user_id", pa.array(users))

    path = sorted((feed / "rows").glob("*.parquet"))[-1]
    pq.write_table(move_first_row(pq.read_table(path)), path)
    row_id = pq.read_table(path)["rid"][0].as_py()
    lengths = []
    for i, event_time in enumerate([row_time - 1_000_000, row_time - 1_000_001]):
        event = pa.table(
            {
                "user_id": [1_000],
                "item_id": [1],
                "ts": pa.array([event_time], pa.timestamp("us", "UTC")),
                "action": ["click"],
            }
        )
        log = sorted((feed / "log").glob("*.parquet"))[-1]
        original = pq.read_table(log)
        pq.write_table(pa.concat_tables([original, event]), log)
        rows = encoded(ingest(load(tmp_path / str(i), feed), None)).to_pylist()
        pq.write_table(original, log)
        lengths += [len(r["clicks__item"]) for r in rows if r["key__row_id"] == row_id]
    assert lengths == [0, 1]
