"""What is odd in delivery logs but no error: it is counted, and days are local dates."""

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from recsys_mtl.artifacts.commit import read_table
from recsys_mtl.ingest import landmarks
from tests.ads import write_ads_pipeline
from tests.cli.creatives_input import DAY, END, all_days, edit_creatives, ingested, refused
from tests.cli.test_bad_input import invoke, set_column
from tests.faults.ad_victim import Unregistered
from tests.faults.test_ad_stage_kills import POLICY


def test_a_stop_before_the_first_delivery_is_no_stop_and_counted(tmp_path, own):
    def flag_launches(table, day):
        """Those that launch on the 6th had a row, flagged, on the 5th."""
        if day != date(2026, 3, 5):
            return table
        fresh = pq.read_table(own / "delivery/2026-03-06.parquet")
        fresh = fresh.filter(pc.equal(fresh["launched"], date(2026, 3, 6)))
        for name in ("impressions", "clicks", "conversions"):
            fresh = set_column(fresh, name, pa.array([0] * fresh.num_rows))
        flags = pa.array([True] * fresh.num_rows)
        days = pa.array([day] * fresh.num_rows)
        return pa.concat_tables(
            [table, set_column(set_column(fresh, "day", days), "stopped", flags)]
        )

    before, rows, _ = ingested(tmp_path / "before", own)
    assert before["flagged_too_early"] == 0
    all_days(own, flag_launches)
    after, again, _ = ingested(tmp_path / "after", own)
    assert after.pop("flagged_too_early") > 3
    assert {**after, "flagged_too_early": 0} == before
    assert again.equals(rows)


def test_stops_after_the_interval_are_not_seen_and_make_log_ends(tmp_path, own):
    end = date(2026, 3, 14)
    whole, _, _ = ingested(tmp_path / "whole", own)
    early, rows, live = ingested(tmp_path / "early", own, "--interval-end", str(end))
    last = pc.add_checked(pc.subtract(rows["day"].cast(pa.int32()), rows["landmark"]), rows["exit"])
    assert pc.max(last).as_py() < (end - date(1970, 1, 1)).days
    assert set(live["day"].to_pylist()) == {end}
    assert early["stopped.cut_out"] < whole["stopped.cut_out"]
    # Days from the interval's end on are not even read.
    for path in (own / "delivery").glob("2026-03-1[4-6].parquet"):
        path.write_bytes(b"")
    again, same, _ = ingested(tmp_path / "again", own, "--interval-end", str(end))
    assert again == early and same.equals(rows)


def test_landmarks_after_the_exit_are_no_rows_and_counted(tmp_path, own):
    counts, rows, _ = ingested(tmp_path, own)
    assert counts["absent.stopped"] > 100
    assert pc.all(pc.less_equal(rows["landmark"], rows["exit"])).as_py()
    assert pc.all(pc.less_equal(rows["entry"], rows["exit"])).as_py()
    told = sum(n for name, n in counts.items() if name.split(".")[0] in ("stopped", "censored"))
    assert told == counts["rows"]


@pytest.mark.parametrize("mode", ["none", "paper", "smoothed", "ratio"])
def test_a_click_rate_without_impressions_has_a_weight(tmp_path, own, mode):
    _, rows, _ = ingested(tmp_path, own, pipeline=edit_creatives(ctr_weight=mode))
    unseen = rows.filter(pc.equal(rows["impressions"], 0))
    assert unseen.num_rows > 20
    weights = unseen["ctr_weight"].to_numpy()
    assert np.isfinite(weights).all() and (weights > 0).all()
    assert mode not in ("none", "paper") or (weights == 1).all()


# Days are local dates.


@pytest.mark.parametrize(
    ("moment", "last"),
    [
        ("2026-03-13T15:59:59Z", "2026-03-12"),
        ("2026-03-13T16:00:00Z", "2026-03-13"),
        ("2026-03-14T15:59:59Z", "2026-03-13"),
    ],
)
def test_an_interval_ends_at_a_local_midnight_and_so_do_landmark_days(tmp_path, own, moment, last):
    def shanghai(p):
        p["data"]["utc_offset"] = "8h"

    _, rows, live = ingested(tmp_path, own, "--interval-end", moment, pipeline=shanghai)
    assert live["day"][0].as_py() == date.fromisoformat(last) + timedelta(days=1)
    for table in (rows, live):
        local = table["time"].cast(pa.int64()).to_numpy() + 8 * 3_600_000_000
        days = table["day"].cast(pa.int32()).to_numpy().astype(np.int64)
        assert (local == days * 86_400_000_000).all()


@pytest.mark.slow
def test_where_no_creative_is_alive_there_is_nothing_to_decide(tmp_path, own, monkeypatch):
    """All campaigns end three days before the log does: a model is trained, and scores nobody."""

    def ended(table, day):
        if day < END - timedelta(days=3):
            return table
        for name in ("impressions", "clicks", "conversions", "spend"):
            zero = pa.array([0] * table.num_rows, table[name].type)
            table = set_column(table, name, zero)
        return set_column(table, "status", pa.array(["ended"] * table.num_rows))

    all_days(own, ended)
    path = write_ads_pipeline(tmp_path, own)
    job = Unregistered.open(path, None, None, quiet=True)
    scores, _ = job.scored_creatives()
    table = read_table(scores.path("creatives.parquet"))
    assert table.num_rows == scores.meta["rows"] == 0
    assert {"creative", "day", "stop__7d", "stop__cut_out__7d", "age"} <= set(table.column_names)
    monkeypatch.setattr("recsys_mtl.cli.discontinue.Job", Unregistered)
    (tmp_path / "policy.yaml").write_text(POLICY)
    result = invoke("discontinue", path, "--policy", tmp_path / "policy.yaml", "--quiet")
    assert result.exit_code == 99, result.output
    assert "no creative is alive" in result.output
    assert not (tmp_path / "out" / "ad_creatives" / "decisions").exists()


def test_a_log_that_changes_while_it_is_read(tmp_path, own, monkeypatch):
    """Its rows would stand under the fingerprint of others."""
    read_log = landmarks.read_log

    def slowly(daily, file_format):
        log = read_log(daily, file_format)
        pq.write_table(pq.read_table(own / DAY).slice(1), own / DAY)
        return log

    monkeypatch.setattr(landmarks, "read_log", slowly)
    texts = ("a delivery log or side table changed while the run was reading it", "[D022]")
    refused(tmp_path, own, 3, *texts)
