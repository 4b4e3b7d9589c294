"""One trained bundle for all tests of the registry."""

import shutil

import pytest

from recsys_mtl.cli.stages import Job
from tests.conftest import write_pipeline


@pytest.fixture(scope="session")
def job(tmp_path_factory, feed):
    """A pipeline that was trained and bundled."""
    path = write_pipeline(tmp_path_factory.mktemp("registry"), feed)
    done = Job.open(path, None, None, quiet=True)
    assert done.bundle.dir.is_dir()
    return done


@pytest.fixture
def bundle_copy(job, tmp_path):
    """A copy of the bundle that a test may break."""
    copy = tmp_path / "bundle"
    shutil.copytree(job.bundle.dir, copy)
    return copy
