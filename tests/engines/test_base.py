import os

import pytest

from recsys_mtl.engines import LocalEngine, RayEngine, make_engine, worker_name
from recsys_mtl.engines.base import Done, RemoteError, ShardFailedError, attempt, unwrap
from recsys_mtl.errors import DataError, Problem, TransientError
from recsys_mtl.spec.pipeline import IngestConfig

from .shards import Task, has_a_bug, rejects_five, square


def test_a_result_comes_back_as_it_is():
    assert unwrap(attempt(square, Task(3), 0)) == (3, 9)
    assert attempt(square, Task(3), 0) == Done((3, 9))


def test_an_expected_failure_keeps_its_class_problem_and_way_out_and_names_the_shard():
    with pytest.raises(DataError) as caught:
        unwrap(attempt(rejects_five, Task(5), 0))
    assert caught.value.problems == [
        Problem("log/2.parquet: column 'x'", "17 rows hold 2 (shard 5)", "Map it.", "D005")
    ]
    assert isinstance(caught.value.__cause__, RemoteError)
    assert "in rejects_five" in str(caught.value.__cause__)


def test_a_failure_without_a_located_problem_names_the_shard_by_position():
    def held(task):
        raise TransientError("the disk is full")

    with pytest.raises(TransientError, match="shard 2: the disk is full"):
        unwrap(attempt(held, "no index", 2))


def test_an_unexpected_failure_names_the_shard_and_the_exception():
    with pytest.raises(ShardFailedError, match="shard 5 failed: OddError: onetwo") as caught:
        unwrap(attempt(has_a_bug, Task(5), 0))
    assert caught.value.exit_code == 1


def test_worker_name_outside_ray_is_the_process():
    assert worker_name() == f"local:{os.getpid()}"


@pytest.mark.parametrize(("engine", "kind"), [("local", LocalEngine), ("ray", RayEngine)])
def test_make_engine_follows_the_configuration(engine, kind):
    made = make_engine(IngestConfig(engine=engine))
    assert isinstance(made, kind)
    assert made.name == engine
