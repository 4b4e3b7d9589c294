"""Logs of a tiny ads product."""

import shutil

import pytest

from tests.ads import write_logs


@pytest.fixture(scope="session")
def logs(tmp_path_factory):
    return write_logs(tmp_path_factory.mktemp("ads"))


@pytest.fixture
def own(tmp_path, logs):
    """Logs that a test may break."""
    copy = tmp_path / "logs"
    shutil.copytree(logs, copy, ignore=shutil.ignore_patterns("oracle", "candidates"))
    return copy
