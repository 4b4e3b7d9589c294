"""One small feed and one bundle for the tests of a file."""

import pytest

from .feed import load_feed, make_bundle, make_feed


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    root = tmp_path_factory.mktemp("feed") / "data"
    make_feed(root)
    return root


@pytest.fixture(scope="module")
def bundle(feed, tmp_path_factory):
    return make_bundle(load_feed(feed, tmp_path_factory.mktemp("home")))
