import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recsys_mtl.engines import LocalEngine
from recsys_mtl.engines.base import ShardFailedError
from recsys_mtl.engines.local import MAX_REBUILDS
from recsys_mtl.errors import DataError, TransientError

from .shards import (
    Task,
    always_killed,
    has_a_bug,
    killed_once,
    rejects_five,
    sleeps,
    square,
    stops_at_five,
    who,
    who_of_two,
)

DRIVER = """
import sys
sys.path.insert(0, sys.argv[1])
from recsys_mtl.engines import LocalEngine
from shards import Task, sleeps
if __name__ == "__main__":
    with LocalEngine(2) as engine:
        list(engine.map(sleeps, [Task(i, sys.argv[2]) for i in range(4)]))
"""


def tasks(count, folder=""):
    return [Task(i, str(folder)) for i in range(count)]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_gives_one_result_for_any_number_of_workers(workers):
    with LocalEngine(workers) as engine:
        assert sorted(engine.map(square, tasks(9))) == [(i, i * i) for i in range(9)]


def test_no_tasks_give_no_results_and_start_nothing():
    with LocalEngine(2) as engine:
        assert list(engine.map(square, [])) == []
    assert multiprocessing.active_children() == []


def test_one_worker_or_one_task_runs_in_this_process():
    with LocalEngine(1) as one, LocalEngine(2) as two:
        names = {name for name, _, _ in [*one.map(who, tasks(2)), *two.map(who, tasks(1))]}
    assert names == {f"local:{os.getpid()}"}


def test_workers_are_light_single_threaded_processes_and_stay_for_the_next_map(tmp_path):
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    with LocalEngine(2) as engine:
        first, second = [list(engine.map(who_of_two, tasks(6, folder))) for folder in folders]
    names = {name for name, _, _ in first}
    assert len(names) == 2
    assert f"local:{os.getpid()}" not in names
    assert {name for name, _, _ in second} == names
    threads = max(1, (os.cpu_count() or 1) // 2)
    assert {(omp, tuple(heavy)) for _, omp, heavy in first} == {(str(threads), ())}


def test_shards_of_killed_workers_run_again(tmp_path):
    with LocalEngine(2) as engine:
        assert sorted(engine.map(killed_once, tasks(12, tmp_path))) == list(range(12))
    assert len(list(tmp_path.iterdir())) == 4


def test_any_number_of_kills_is_survived_while_shards_finish_in_between(tmp_path):
    """13 kills, at most two per lost pool, so more pools are lost than may be lost in a row."""
    with LocalEngine(2) as engine:
        assert sorted(engine.map(killed_once, tasks(40, tmp_path))) == list(range(40))
    assert len(list(tmp_path.iterdir())) == 13 > 2 * MAX_REBUILDS


def test_a_shard_that_always_kills_its_worker_ends_the_map(tmp_path):
    with LocalEngine(2) as engine, pytest.raises(TransientError, match=r"lower ingest\.workers"):
        list(engine.map(always_killed, tasks(2, tmp_path)))
    assert MAX_REBUILDS + 1 <= (tmp_path / "starts").stat().st_size <= 2 * (MAX_REBUILDS + 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_rejected_shard_ends_the_map_and_names_itself(tmp_path, workers):
    with LocalEngine(workers) as engine, pytest.raises(DataError, match=r"hold 2 \(shard 5\)"):
        list(engine.map(stops_at_five, tasks(50, tmp_path)))
    starts = [p.name.split("-")[1] for p in tmp_path.iterdir()]
    assert starts.count("5") == 1
    assert len(starts) < 10


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_that_cannot_travel_still_names_its_shard(workers):
    with LocalEngine(workers) as engine:
        with pytest.raises(ShardFailedError, match="shard 5 failed: OddError: onetwo"):
            list(engine.map(has_a_bug, tasks(8)))


def test_an_engine_works_again_after_a_failure():
    with LocalEngine(2) as engine:
        with pytest.raises(DataError):
            list(engine.map(rejects_five, tasks(8)))
        assert sorted(engine.map(square, tasks(3))) == [(0, 0), (1, 1), (2, 4)]


def test_leaving_a_map_early_stops_its_workers_at_once(tmp_path):
    started = time.monotonic()
    with LocalEngine(2) as engine:
        results = engine.map(killed_once, [Task(0, str(tmp_path)), Task(2, str(tmp_path))])
        next(results)
        results.close()
        with pytest.raises(KeyboardInterrupt):
            stop_when_asleep(engine, tmp_path)
    assert time.monotonic() - started < 30
    assert multiprocessing.active_children() == []


def stop_when_asleep(engine, folder):
    """What Ctrl-C does while the driver waits for shards that sleep for a minute."""

    # Not by SIGINT itself, which a shell makes its background jobs ignore.
    def interrupt(*_):
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        list(engine.map(sleeps, tasks(4, folder)))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)


def is_running(pid):
    """Not gone, and not a zombie that nobody has reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_workers_end_with_a_killed_driver(tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    marks = tmp_path / "marks"
    marks.mkdir()
    driver = subprocess.Popen([sys.executable, script, Path(__file__).parent, marks])
    try:
        wait_until(lambda: len(list(marks.iterdir())) == 2)
    finally:
        driver.kill()
        driver.wait()
    pids = [int(p.name.removeprefix("pid-")) for p in marks.iterdir()]
    wait_until(lambda: not any(map(is_running, pids)))


def test_the_local_engine_never_imports_ray(tmp_path):
    script = tmp_path / "no_ray.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from recsys_mtl.engines import make_engine\n"
        "from recsys_mtl.spec.pipeline import IngestConfig\n"
        "from shards import Task, who\n"
        "if __name__ == '__main__':\n"
        "    with make_engine(IngestConfig(workers=2)) as engine:\n"
        "        loaded = [heavy for _, _, heavy in engine.map(who, [Task(0), Task(1)])]\n"
        "    print(loaded, 'ray' in sys.modules, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[[], []] False False"
