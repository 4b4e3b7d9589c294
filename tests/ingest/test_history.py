"""Histories hold exactly the newest events strictly before a row, against a loop over events."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_mtl.errors import DataError
from recsys_mtl.ingest.history import EventIndex, event_columns, events_of, write_index
from recsys_mtl.ingest.times import known_before
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


def index(tmp_path, *files, log=LOG, sequence=SEQUENCE):
    path = tmp_path / "index.arrow"
    write_index(path, [events_of(table, log, sequence) for table in files])
    return EventIndex.open(path)


def clicks(user, time, video, action=None):
    action = ["click"] * len(user) if action is None else action
    return pa.table(
        {
            "user": pa.array(user, pa.int64()),
            "t": pa.array(time, pa.int64()),
            "video": pa.array(video, pa.int64()),
            "action": pa.array(action, pa.string()),
        }
    )


def histories(found, users, before, max_len):
    keys = found.hashes(pa.array(users), "user")
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
@given(
    events=EVENTS,
    rows=ROWS,
    max_len=st.integers(1, 5),
    cutoff=st.integers(0, 3),
    files=st.integers(1, 3),
)
def test_lookup_equals_a_loop_over_events(tmp_path_factory, events, rows, max_len, cutoff, files):
    cuts = [len(events) * i // files for i in range(files + 1)]
    tables = [
        clicks(*(zip(*part, strict=True) if part else [()] * 4))
        for part in (events[a:b] for a, b in zip(cuts[:-1], cuts[1:], strict=True))
    ]
    found = index(tmp_path_factory.mktemp("history"), *tables)
    users, times = zip(*rows, strict=True)
    before = known_before(np.array(times), cutoff)
    got = histories(found, users, before, max_len)
    for (row_user, row_time), history in zip(rows, got, strict=True):
        known = [
            e for e in events if e[0] == row_user and e[1] < row_time - cutoff and e[3] == "click"
        ]
        expected = [e[2] for e in sorted(known, key=lambda e: e[1])][-max_len:]
        assert history == expected


def test_the_cutoff_is_exact_to_the_microsecond(tmp_path):
    found = index(tmp_path, clicks([1, 1], [98, 99], [7, 8]))
    for row, expected in [(108, []), (109, [7]), (110, [7, 8])]:
        assert histories(found, [1], known_before(np.array([row]), 10), 3) == [expected]


def test_events_of_one_moment_keep_their_order_in_the_log(tmp_path):
    files = [clicks([1, 1, 1], [5, 5, 4], [1, 2, 3]), clicks([1, 1], [5, 4], [4, 5])]
    found = index(tmp_path, *files)
    assert histories(found, [1], np.array([9]), 9) == [[3, 5, 1, 2, 4]]


def test_a_log_ordered_by_position_is_known_as_a_whole_newest_last(tmp_path):
    table = pa.table(
        {"user": [1, 1, 1], "p": [2, 0, 1], "video": [9, 7, 8], "action": ["click"] * 3}
    )
    found = index(tmp_path, table, log=EventLog(key="user", position="p"))
    assert histories(found, [1, 2], None, 2) == [[8, 9], []]


def test_timestamps_and_string_keys_are_understood(tmp_path):
    time = pa.array([datetime(2026, 3, 1, tzinfo=UTC)], pa.timestamp("ms", "UTC"))
    table = pa.table({"user": ["a"], "t": time, "video": ["v"], "action": ["click"]})
    found = index(tmp_path, table)
    assert histories(found, ["a", "b"], np.array([2**60] * 2), 3) == [["v"], []]
    assert found.order.tolist() == [1772323200000000]


def test_events_without_a_key_or_a_time_are_left_out_and_rows_without_a_key_have_none(tmp_path):
    found = index(tmp_path, clicks([1, None, 1], [1, 1, None], [7, 8, 9]))
    rows = pa.array([1, None], pa.int64())
    assert histories(found, rows, np.array([9, 9]), 3) == [[7], []]


def test_a_log_without_events_keeps_the_type_of_its_fields(tmp_path):
    table = pa.table({"user": pa.array([1]), "t": [1], "video": ["v"], "action": ["like"]})
    found = index(tmp_path, table)
    offsets, indices = found.lookup(found.hashes(pa.array([1]), "user"), np.array([9]), 3)
    lists = found.lists("video", offsets, indices)
    assert (lists.type, lists.to_pylist()) == (pa.large_list(pa.string()), [[]])


def test_rows_and_log_with_keys_of_different_types_are_refused(tmp_path):
    found = index(tmp_path, clicks([1], [1], [7]))
    with pytest.raises(DataError, match=r"'user': holds string keys, but its event log int.*D033"):
        found.hashes(pa.array(["1"]), "user")


@pytest.mark.parametrize("name", ["user", "video"])
def test_files_of_a_log_with_different_types_are_refused(tmp_path, name):
    table = clicks([1], [1], [7])
    text = table.set_column(table.column_names.index(name), name, pa.array(["7"]))
    with pytest.raises(DataError, match=r"integers in some files and strings in others.*D033"):
        index(tmp_path, table, text)


def test_a_filter_that_does_not_fit_its_column_is_refused(tmp_path):
    table = clicks([1], [1], [7]).drop_columns("action").append_column("action", pa.array([1]))
    with pytest.raises(DataError, match=r"'action': holds int64, which never equals 'click'.*D001"):
        index(tmp_path, table)


def test_a_position_that_is_no_integer_is_refused(tmp_path):
    table = pa.table({"user": [1], "p": [0.5], "video": [9], "action": ["click"]})
    with pytest.raises(DataError, match=r"'p': holds double; a position is an integer.*D001"):
        index(tmp_path, table, log=EventLog(key="user", position="p"))


def test_only_columns_that_sequences_read_are_needed():
    assert event_columns(LOG, [SEQUENCE, SEQUENCE]) == ["user", "t", "video", "action"]
