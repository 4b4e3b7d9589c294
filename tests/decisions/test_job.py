"""Decisions as an artifact: the same inputs are decided once, and days build on each other."""

import json
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from recsys_mtl.artifacts.commit import read_table, write_table
from recsys_mtl.artifacts.manifest import open_artifact
from recsys_mtl.decisions.job import (
    DECISIONS,
    PAGE,
    POLICY,
    VALUE,
    Decided,
    Input,
    publish_decisions,
)
from recsys_mtl.errors import DataError, IntegrityError, NothingToDoError
from tests.decisions.world import BAD, DAY, LABEL, life, live, policy


@pytest.fixture
def publish(tmp_path):
    known = pa.table(
        {
            "row_id": [f"r{i}" for i in range(40)],
            "entry": np.full(40, 3),
            "exit": np.full(40, 5),
            "event": np.full(40, 1),
            "stop__cut_out__7d": np.full(40, 0.8),
            "stop__wear_out__7d": np.full(40, 0.1),
        }
    )
    rows = pa.table({"row_id": known["row_id"], "genre": ["games"] * 40})
    window = life("a", (0, 3), BAD, stopped=True)
    tables = {"validation": known, "test": known.slice(0, 35), "landmarks": rows, "days": window}
    for name, table in tables.items():
        write_table(tmp_path / f"{name}.parquet", table)

    def run(day=0, rules=None, table=None, sha="s", **shas):
        table = live([0.9, 0.1], day=DAY + timedelta(days=day)) if table is None else table
        path = tmp_path / "creatives.parquet"
        write_table(path, table)
        rules = rules or policy(keep_live=0)
        inputs = {n: Input(tmp_path / f"{n}.parquet", shas.get(n, "v")) for n in tables}
        decided = Decided(rules, LABEL, "3", Input(path, f"{sha}{day}"), **inputs)
        return publish_decisions(tmp_path / "out", "ads", decided)

    return run


def actions(manifest):
    table = read_table(manifest.path(DECISIONS), ["creative", "action"])
    return dict(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))


def test_the_artifact_holds_table_page_and_resolved_policy(publish):
    found = publish()
    assert found.meta["day"] == "2026-05-01" and found.meta["mode"] == "shadow"
    assert found.meta["counts"] == {"stop": 0, "prepare_replacement": 0, "watch": 2, "keep": 0}
    record = json.loads(found.path(POLICY).read_text())
    assert record["policy"]["evidence"]["prior_impressions"] == 100
    cut_out, wear_out = record["thresholds"]
    assert (cut_out["value"], cut_out["validation"]["rows"], cut_out["test"]["rows"]) == (
        0.8,
        40,
        35,
    )
    assert (wear_out["value"], wear_out["best"]) == (None, 0.0)
    assert cut_out["in_words"].startswith("cut-out: counts from a probability of 0.800 on.")
    value = json.loads(found.path(VALUE).read_text())
    assert value["genres"]["cut_out"]["games"]["precision"] == 1.0
    assert value["replay"]["stop"]["stopped"] == 1 and value["replay"]["days_spared"] == 3
    assert value["sentences"][0] in found.path(PAGE).read_text()
    assert "ads: creatives on 2026-05-01" in found.path(PAGE).read_text()


def test_equal_inputs_are_decided_once(publish):
    first = publish()
    stamp = first.path(DECISIONS).stat().st_mtime_ns
    again = publish()
    assert again == first and again.path(DECISIONS).stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    "change",
    [{"rules": policy("act", keep_live=0)}, {"sha": "t"}, {"validation": "w"}, {"days": "w"}],
)
def test_the_key_covers_policy_and_inputs(publish, change):
    assert publish().dir != publish(**change).dir


def test_days_in_a_row_build_on_each_other_and_a_rerun_repeats_them(publish):
    first, second = publish(0), publish(1)
    assert actions(first)["c0"] == "watch" and actions(second)["c0"] == "stop"
    assert second.meta["previous"] == first.sha
    assert publish(1) == second and publish(0) == first


def test_a_missing_day_breaks_the_row(publish):
    publish(0)
    third = publish(2)
    assert third.meta["previous"] is None and actions(third)["c0"] == "watch"


def test_a_changed_policy_of_yesterday_changes_today(publish):
    publish(0)
    before = publish(1)
    publish(0, rules=policy("act", keep_live=0))
    assert publish(1).dir != before.dir


def test_a_pointer_to_something_else_is_noticed(publish):
    found = publish(0)
    other = publish(0, sha="t")
    pointer = found.dir.parent / "2026-05-01.json"
    for path in other.dir.iterdir():
        path.write_bytes((found.dir / path.name).read_bytes())
    assert open_artifact(other.dir).sha == found.sha and pointer.is_file()
    with pytest.raises(IntegrityError, match="points to other decisions"):
        publish(1)


def test_nobody_alive_and_two_days_are_refused(publish):
    with pytest.raises(NothingToDoError, match="no creative is alive"):
        publish(table=live([0.9]).slice(0, 0))
    both = pa.concat_tables([live([0.9]), live([0.9], day=DAY + timedelta(days=1))])
    with pytest.raises(DataError, match="rows of 2 days"):
        publish(table=both)
