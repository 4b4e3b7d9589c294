"""Ingest as a stage: accounts, equal bytes for every engine and after every kill, idempotence."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from recsys_mtl.artifacts.lock import stage_lock
from recsys_mtl.artifacts.manifest import open_artifact
from recsys_mtl.artifacts.receipts import read_receipt
from recsys_mtl.engines import LocalEngine
from recsys_mtl.errors import DataError, IntegrityError, RecsysError, TransientError
from recsys_mtl.ingest import assemble, job, shards
from recsys_mtl.ingest.job import ingest, resolve_inputs

from .worlds import (
    DAYS,
    ROWS,
    day_name,
    edit,
    encoded,
    hashes,
    ingested,
    load,
    users_table,
    with_value,
    write_feed,
    write_files,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A feed of 8 shards; read-only."""
    return write_feed(tmp_path_factory.mktemp("many"), row_group=ROWS // 2)


def by(workers, engine="local"):
    def change(p):
        p["ingest"] |= {"workers": workers, "engine": engine, "shard_rows": ROWS // 2}

    return change


def artifact(folder: Path) -> dict[str, str]:
    return hashes(folder / "out" / "tiny" / "ingest")


@pytest.fixture(scope="module")
def undisturbed(many, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    ingested(folder, many, by(1))
    files = artifact(folder)
    assert len([f for f in files if f.endswith("-of-00008.parquet")]) == 8
    return files


def test_two_workers_write_the_bytes_of_one(many, undisturbed, tmp_path):
    ingested(tmp_path, many, by(2))
    assert artifact(tmp_path) == undisturbed


@pytest.mark.slow
def test_ray_writes_the_bytes_of_one_local_worker(many, undisturbed, tmp_path):
    manifest = ingested(tmp_path, many, by(2, "ray"))
    assert artifact(tmp_path) == undisturbed
    assert '"worker": "ray:' in (manifest.dir / "timing.jsonl").read_text()


KILLED = """
import os, signal, sys
from pathlib import Path
from recsys_mtl.ingest.job import ingest
from recsys_mtl.spec.load import load_pipeline

def progress(done, total, **numbers):
    if done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    ingest(load_pipeline(Path(sys.argv[1])), None, progress)
"""


@pytest.mark.parametrize("moment", random.Random(7).sample(range(8, 17), 3))
def test_killed_with_two_workers_and_rerun_with_one(many, undisturbed, tmp_path, moment):
    """Of 16 steps 8 are scans and 8 encoded shards; the other worker is amid one."""
    (tmp_path / "killed.py").write_text(KILLED)
    pipeline = write_files(tmp_path, many, by(2))
    command = [sys.executable, tmp_path / "killed.py", pipeline, str(moment)]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not any(name.endswith("MANIFEST.json") for name in artifact(tmp_path))
    ingested(tmp_path, many, by(1))
    assert artifact(tmp_path) == undisturbed


def test_rows_do_not_depend_on_the_size_of_shards(many, undisturbed, tmp_path):
    small = encoded(ingested(tmp_path / "small", many, by(1)))
    large = encoded(ingested(tmp_path / "large", many))
    assert small.equals(large)


def test_a_rerun_does_only_the_shards_that_are_missing(many, tmp_path, monkeypatch):
    manifest = ingested(tmp_path, many, by(1))
    before = artifact(tmp_path)
    (manifest.dir / "MANIFEST.json").unlink()
    (manifest.dir / "part-00002-of-00008.json").unlink()
    data = (manifest.dir / "part-00005-of-00008.parquet").read_bytes()
    (manifest.dir / "part-00005-of-00008.parquet").write_bytes(data[:-9] + b"x" + data[-8:])
    redone = []

    def watched(task, ctx, fit):
        redone.append(task.index)
        return assemble.encode_rows(task, ctx, fit)

    monkeypatch.setattr(shards, "encode_rows", watched)
    ingested(tmp_path, many, by(1))
    assert redone == [2, 5]
    assert artifact(tmp_path) == before


class Backwards(LocalEngine):
    """Finishes the last shard first."""

    def map(self, fn, tasks):
        yield from super().map(fn, tasks[::-1])


def test_the_order_in_which_shards_finish_does_not_matter(many, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "make_engine", lambda config: Backwards(1))
    ingested(tmp_path, many, by(1))
    assert artifact(tmp_path) == undisturbed


def test_receipts_that_do_not_add_up_to_the_plan_stop_the_run(many, tmp_path, monkeypatch):
    def forgetful(*arguments):
        return real(*arguments)[:-1]

    real = job._encode
    monkeypatch.setattr(job, "_encode", forgetful)
    with pytest.raises(IntegrityError, match="240 rows are planned, but the receipts hold 210 in"):
        ingested(tmp_path, many, by(1))
    assert list(tmp_path.rglob("MANIFEST.json")) == []


@pytest.mark.parametrize(
    "section",
    [
        {"split": {"valid": "1d", "test": "1d", "embargo": "1h"}},
        {"ingest": {"shard_rows": 90, "reject_budget": 0.1}},
        {"ingest": {"shard_rows": ROWS, "reject_budget": 0.2}},
    ],
    ids=["split", "shard_rows", "reject_budget"],
)
def test_every_setting_that_decides_bytes_is_in_the_run_key(many, tmp_path, section):
    first = ingested(tmp_path, many)
    assert ingested(tmp_path, many, lambda p: p["ingest"].update(workers=2)).dir == first.dir
    assert ingested(tmp_path, many, lambda p: p.update(section)).dir != first.dir


def test_the_window_is_in_the_run_key(many, tmp_path):
    def flat(p):
        p.pop("split")
        p["data"]["rows"] = {"path": "rows/*.parquet"}

    ends = [ingested(tmp_path, many, flat, end=day_name(day)) for day in (DAYS, DAYS + 1)]
    assert ends[0].dir != ends[1].dir


def test_a_published_key_is_returned_at_once(many, tmp_path, monkeypatch):
    first = ingested(tmp_path, many)
    monkeypatch.setattr(job, "make_engine", lambda config: pytest.fail("nothing is to be done"))
    assert ingested(tmp_path, many) == first


def test_accounts_are_exact_and_outside_rows_are_kept(tmp_path):
    feed = write_feed(tmp_path / "feed")
    first = feed / "rows" / f"{day_name(0)}.parquet"
    for row, column in [(3, "user_id"), (8, "ts"), (9, "ts")]:
        edit(first, with_value(column, row, None))

    def embargo(p):
        p["split"]["embargo"] = "6h"

    manifest = ingested(tmp_path, feed, embargo)
    meta = manifest.meta
    assert (meta["rows_in"], meta["rows_out"], meta["rows_quarantined"]) == (240, 237, 3)
    by_split = {name: part["rows"] for name, part in meta["splits"].items()}
    assert sum(by_split.values()) == 237
    assert by_split["outside"] > 0
    receipts = [read_receipt(manifest.dir, i, DAYS) for i in range(DAYS)]
    assert [r.rows_in for r in receipts] == [ROWS] * DAYS
    for name, rows in by_split.items():
        assert sum(r.counts[name] for r in receipts) == rows
    name = f"quarantine/part-00000-of-{DAYS:05d}.parquet"
    assert pq.read_table(manifest.path(name)).to_pylist() == [
        {"row_id": 3, "row": 3, "reason": "no user_id"},
        {"row_id": 8, "row": 8, "reason": "no ts"},
        {"row_id": 9, "row": 9, "reason": "no ts"},
    ]
    ids = set(encoded(manifest)["key__row_id"].to_pylist())
    assert ids == set(range(240)) - {3, 8, 9}


def test_a_row_that_gets_lost_on_the_way_stops_the_run(many, tmp_path, monkeypatch):
    def lossy(*arguments):
        assembled, rows = assemble.encode_rows(*arguments)
        return assembled, rows.slice(1)

    monkeypatch.setattr(shards, "encode_rows", lossy)
    with pytest.raises(IntegrityError, match=r"30 rows came in, but 29 went out"):
        ingested(tmp_path, many, by(1))
    assert list(tmp_path.rglob("MANIFEST.json")) == []


def test_rows_are_sorted_by_time_and_id_within_a_shard(many, tmp_path):
    manifest = ingested(tmp_path, many, by(1))
    for entry in manifest.files:
        if entry.path.startswith("part-") and entry.rows:
            table = pq.read_table(manifest.dir / entry.path)
            keys = np.lexsort((table["key__row_id"].to_numpy(), table["key__time"].to_numpy()))
            assert keys.tolist() == list(range(table.num_rows))


def test_the_sample_holds_assembled_test_rows_of_as_many_shards_as_needed(many, tmp_path):
    manifest = ingested(tmp_path, many, by(1))
    sample = pq.read_table(manifest.path("sample.parquet"))
    assert sample["rid"].to_pylist() == list(range(3 * ROWS, 4 * ROWS))
    assert {"user_id", "users.city", "clicks__item", "key__split", "click"} <= set(
        sample.column_names
    )


def test_meta_says_what_the_artifact_was_made_from(many, tmp_path):
    loaded = load(tmp_path, many)
    inputs = resolve_inputs(loaded, None)
    meta = ingest(loaded, None).meta
    assert meta["data_fp"] == inputs.data_fp
    assert meta["interval"] == inputs.interval.as_json()
    assert meta["splits"]["train"]["max_time_us"] < meta["splits"]["valid"]["min_time_us"]
    assert meta["splits"]["valid"]["max_time_us"] < meta["splits"]["test"]["min_time_us"]


@pytest.mark.parametrize(
    "name", ["users.parquet", f"log/{day_name(2)}.parquet", f"rows/{day_name(2)}.parquet"]
)
def test_an_input_that_changes_during_the_run_is_refused(tmp_path, name):
    feed = write_feed(tmp_path / "feed")

    def progress(done, total, **numbers):
        if done == total:
            edit(feed / name, lambda t: t.slice(1))

    with pytest.raises(DataError, match=r"changed while the run was reading it.*D022"):
        ingest(load(tmp_path / "p", feed), None, progress)
    assert list((tmp_path / "p").rglob("MANIFEST.json")) == []


def test_a_side_table_that_changed_gives_other_shards_in_one_process(tmp_path):
    feed = write_feed(tmp_path / "feed")
    before = ingested(tmp_path / "p", feed)
    edit(feed / "users.parquet", lambda t: users_table().slice(0, 8))
    after = ingested(tmp_path / "p", feed)
    assert before.dir != after.dir
    cities = [encoded(m)["city"].to_pylist() for m in (before, after)]
    assert (cities[0].count(0), cities[1].count(0) > 0) == (0, True)


def test_a_second_run_of_one_key_is_told_to_wait(many, tmp_path):
    manifest = ingested(tmp_path, many)
    with stage_lock(manifest.dir), pytest.raises(TransientError, match="another run is writing it"):
        ingested(tmp_path, many)


def test_progress_counts_every_shard_twice(many, tmp_path):
    steps = []
    ingest(load(tmp_path, many, by(1)), None, lambda *a, **n: steps.append((*a, n["step"])))
    assert [s[0] for s in steps] == list(range(1, 17))
    assert {s[1] for s in steps} == {16}
    assert [s[2] for s in steps] == ["fit"] * 8 + ["encode"] * 8


def test_working_files_are_gone_after_success_and_failure(many, tmp_path):
    manifest = ingested(tmp_path / "a", many)
    assert not (manifest.dir / "_events").exists()
    assert open_artifact(manifest.dir) == manifest
    feed = write_feed(tmp_path / "feed")
    edit(feed / "rows" / f"{day_name(1)}.parquet", with_value("click", 0, 7))
    with pytest.raises(RecsysError):
        ingested(tmp_path / "b", feed)
    left = [p for p in (tmp_path / "b" / "out").rglob("*") if p.is_file()]
    assert [p.suffix for p in left] == [".lock"]


def test_csv_rows_give_the_encoding_of_parquet_rows(tmp_path):
    feed = write_feed(tmp_path / "feed")
    before = encoded(ingested(tmp_path / "a", feed))
    for path in (feed / "rows").glob("*.parquet"):
        table = pq.read_table(path)
        table = table.set_column(3, "ts", table["ts"].cast(pa.int64()))
        csv.write_csv(table, path.with_suffix(".csv"))

    def as_csv(p):
        p["data"]["rows"] = {"path": "rows/{date}.csv", "format": "csv"}

    after = encoded(ingested(tmp_path / "b", feed, as_csv))
    assert after.equals(before)
