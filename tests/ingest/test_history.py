"""Histories hold exactly the newest events strictly before a row, against a loop over events."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_mtl.ingest.history import EventIndex, build_index, key_hash
from recsys_mtl.spec.feature_spec import EventLog, Sequence

LOG = EventLog(key="user", time="t")
SEQUENCE = Sequence.model_validate(
    {
        "name": "clicks",
        "behaviour": "click",
        "max_len": 3,
        "events": {"log": "log", "where": {"column": "action", "equals": "click"}},
        "fields": [{"name": "video", "column": "video", "table": "video"}],
    }
)


def index(tmp_path, events, log=LOG, sequence=SEQUENCE):
    path = tmp_path / "index.arrow"
    build_index(path, [events], log, sequence)
    return EventIndex.open(path)


def histories(found, users, before, max_len):
    keys = key_hash(pa.array(users, pa.int64()), "user")
    offsets, indices = found.lookup(keys, before, max_len)
    return found.lists("video", offsets, indices).to_pylist()


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(0, 20), st.integers(0, 9), st.sampled_from(["click", "x"])
    ),
    max_size=40,
)
ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 21)), min_size=1, max_size=20)


@settings(max_examples=150, deadline=None)
@given(events=EVENTS, rows=ROWS, max_len=st.integers(1, 5))
def test_lookup_equals_a_loop_over_events(tmp_path_factory, events, rows, max_len):
    user, time, video, action = zip(*events, strict=True) if events else ((), (), (), ())
    table = pa.table(
        {
            "user": pa.array(user, pa.int64()),
            "t": pa.array(time, pa.int64()),
            "video": pa.array(video, pa.int64()),
            "action": pa.array(action, pa.string()),
        }
    )
    found = index(tmp_path_factory.mktemp("history"), table)
    users, times = zip(*rows, strict=True)
    got = histories(found, users, np.array(times), max_len)
    for (row_user, row_time), history in zip(rows, got, strict=True):
        known = [e for e in events if e[0] == row_user and e[1] < row_time and e[3] == "click"]
        expected = [e[2] for e in sorted(known, key=lambda e: e[1])][-max_len:]
        assert history == expected


def test_an_event_at_the_row_time_is_unknown_and_one_microsecond_before_is_known(tmp_path):
    table = pa.table({"user": [1, 1], "t": [99, 100], "video": [7, 8], "action": ["click"] * 2})
    found = index(tmp_path, table)
    assert histories(found, [1], np.array([100]), 3) == [[7]]
    assert histories(found, [1], np.array([101]), 3) == [[7, 8]]


def test_a_log_ordered_by_position_is_known_as_a_whole_newest_last(tmp_path):
    table = pa.table(
        {"user": [1, 1, 1], "p": [2, 0, 1], "video": [9, 7, 8], "action": ["click"] * 3}
    )
    found = index(tmp_path, table, EventLog(key="user", position="p"))
    assert histories(found, [1, 2], None, 2) == [[8, 9], []]


def test_timestamps_and_string_keys_are_understood(tmp_path):
    time = pa.array([datetime(2026, 3, 1, tzinfo=UTC)], pa.timestamp("ms", "UTC"))
    table = pa.table({"user": ["a"], "t": time, "video": ["v"], "action": ["click"]})
    found = index(tmp_path, table)
    offsets, indices = found.lookup(key_hash(pa.array(["a"]), "user"), np.array([2**60]), 3)
    assert found.lists("video", offsets, indices).to_pylist() == [["v"]]
    assert found.order.tolist() == [1772323200000000]
