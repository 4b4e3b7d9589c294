"""One Ray for the whole file: it takes seconds to start."""

import subprocess
import sys
from pathlib import Path

import pytest

from recsys_mtl.engines import LocalEngine, RayEngine, worker_name
from recsys_mtl.engines.base import ShardFailedError
from recsys_mtl.errors import DataError

from . import shards
from .shards import Task, has_a_bug, killed_once, square, stops_at_five, who_of_two

pytestmark = pytest.mark.slow


def tasks(count, folder=""):
    return [Task(i, str(folder)) for i in range(count)]


@pytest.fixture(scope="module")
def engine():
    # Ray workers do not get the path that pytest added to import this folder.
    root = Path(shards.__file__).parents[shards.__name__.count(".")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(root))
        with RayEngine(2) as started:
            yield started


def test_ray_gives_the_results_of_the_local_engine(engine):
    with LocalEngine(1) as local:
        assert sorted(engine.map(square, tasks(20))) == sorted(local.map(square, tasks(20)))


def test_no_tasks_give_no_results(engine):
    assert list(engine.map(square, [])) == []


def test_both_workers_name_themselves_and_have_one_thread(engine, tmp_path):
    seen = list(engine.map(who_of_two, tasks(8, tmp_path)))
    names = {name for name, _, _ in seen}
    assert len(names) == 2
    assert all(name.startswith("ray:") for name in names)
    assert {omp for _, omp, _ in seen} == {"1"}
    assert worker_name().startswith("local:")


def test_shards_of_killed_workers_run_again(engine, tmp_path):
    assert sorted(engine.map(killed_once, tasks(8, tmp_path))) == list(range(8))
    assert len(list(tmp_path.iterdir())) == 3


def test_a_rejected_shard_is_not_retried_and_names_itself(engine, tmp_path):
    with pytest.raises(DataError, match=r"17 rows hold 2 \(shard 5\)"):
        list(engine.map(stops_at_five, tasks(50, tmp_path)))
    starts = [p.name.split("-")[1] for p in tmp_path.iterdir()]
    assert starts.count("5") == 1
    assert len(starts) < 10


def test_an_exception_that_cannot_travel_still_names_its_shard(engine):
    with pytest.raises(ShardFailedError, match="shard 5 failed: OddError: onetwo"):
        list(engine.map(has_a_bug, tasks(8)))


def test_an_engine_that_did_not_start_ray_leaves_it_running(engine):
    assert list(engine.map(square, tasks(1))) == [(0, 0)]
    with RayEngine(2) as guest:
        assert list(guest.map(square, tasks(1))) == [(0, 0)]
    assert sys.modules["ray"].is_initialized()


def test_starting_and_stopping_ray_prints_nothing(tmp_path):
    script = tmp_path / "quiet.py"
    script.write_text(
        "from recsys_mtl.engines import RayEngine\n"
        "with RayEngine(1) as engine:\n"
        "    assert list(engine.map(str, [1, 2])) == ['1', '2']\n"
    )
    done = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")
