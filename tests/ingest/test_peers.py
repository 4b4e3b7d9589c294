from datetime import timedelta
from math import log

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_mtl.ingest.peers import PEERS, Peers
from recsys_mtl.ingest.survival import LandmarkRules, landmark_rows
from tests.ingest.delivery_days import log_of, on
from tests.ingest.test_survival import RULES, random_log, random_texts

FLAG = LandmarkRules(landmarks=(1, 2, 3, 5), stop_source="flag", age_of_wear_out=4)


def with_genres(table):
    genres = pa.array([f"g{creative % 3}" for creative in table["creative"].to_pylist()])
    return table.set_column(table.schema.get_field_index("genre"), "genre", genres)


def told_day(own, seen, last_day, rules):
    """Day at whose end the stop could be told first, one day at a time."""
    run = 0
    for i in range((last_day - seen).days + 1):
        day = seen + timedelta(i)
        row = own.get(day, {})
        is_flagged = row.get("stopped") and row["status"] != "policy"
        if rules.stop_source != "silence" and is_flagged:
            return day
        newest = own[max(known for known in own if known <= day)]
        silent = not row.get("impressions") and newest["status"] == "active"
        run = run + 1 if silent else 0
        if rules.stop_source != "flag" and run == rules.silent_days:
            return day
    return None


class Loops:
    """The definition of the columns, one creative-day at a time."""

    def __init__(self, table, rules, as_of):
        lines = [line for line in table.to_pylist() if line["day"] <= as_of]
        days = [line["day"] for line in lines]
        self.delivered, self.stops = [], []
        for creative in {line["creative"] for line in lines}:
            own = {line["day"]: line for line in lines if line["creative"] == creative}
            shown = sorted(day for day in own if own[day]["impressions"])
            if not shown:
                continue
            launched, first = own[min(own)]["launched"], min(own)
            start = launched if launched is not None and launched < min(days) else shown[0]
            is_known = first != min(days) or launched is not None
            told = told_day(own, shown[0], max(days), rules) if is_known else None
            kind = {name: own[first][name] for name in ("creative", "campaign", "advertiser")}
            for day in shown:
                age = (day - start).days + 1
                early = is_known and age < rules.age_of_wear_out and (told is None or day <= told)
                counts = {name: own[day][name] for name in ("impressions", "clicks")}
                genre = own[first]["genre"]
                line = {"day": day, "age": age if early else None, "genre": genre}
                self.delivered.append({**kind, **line, **counts})
            if told is not None:
                age = (max(day for day in shown if day <= told) - start).days + 1
                if age < rules.age_of_wear_out:
                    self.stops.append({**kind, "day": told, "age": age})
        for line in self.delivered:
            line["clicks_due"] = line["impressions"] * self._rate(line)
            line["stops_due"] = 0 if line["age"] is None else self._hazard(line)

    def _rate(self, line):
        same = [
            x for x in self.delivered if x["genre"] == line["genre"] and x["day"] <= line["day"]
        ]
        clicks, impressions = (sum(x[name] for x in same) for name in ("clicks", "impressions"))
        return clicks * 10**6 // impressions

    def _hazard(self, line):
        chances, stops = (
            sum(x["age"] == line["age"] and x["day"] <= line["day"] for x in events)
            for events in (self.delivered, self.stops)
        )
        return stops * 10**6 // chances

    def of(self, row):
        """The four columns of a row."""
        before = [line for line in self.delivered if line["day"] < row["day"]]
        others = [line for line in before if line["creative"] != row["creative"]]
        own = [line for line in before if line["creative"] == row["creative"]]
        kin = [line for line in others if line["advertiser"] == row["advertiser"]]
        campaign = [line for line in others if line["campaign"] == row["campaign"]]
        stops = sum(
            x["advertiser"] == row["advertiser"]
            and x["creative"] != row["creative"]
            and x["day"] < row["day"]
            for x in self.stops
        )
        mean = sum(x["impressions"] for x in before) / max(len(before), 1)
        shown = sum(x["impressions"] for x in campaign) / max(mean, 1)
        ratios = [
            log((sum(x["clicks"] for x in lines) + 3) / (_sum(lines, "clicks_due") + 3))
            for lines in (own, kin)
        ]
        stop_ratio = log((stops + 3) / (_sum(kin, "stops_due") + 3))
        return [*ratios, stop_ratio, log((shown + 1) / (len(campaign) + 1))]


def _sum(lines, name):
    return sum(line[name] for line in lines) / 10**6


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9).map(random_log).map(with_genres), RULES, st.integers(5, 25))
def test_columns_are_those_of_a_loop_over_days(table, rules, as_of):
    rows = landmark_rows(table, rules, on(as_of)).table
    found = Peers.of(table, rules, on(as_of)).beside(rows)
    assert found.column_names == [*rows.column_names, *PEERS]
    assert found.select(rows.column_names).equals(rows)
    loops = Loops(table, rules, on(as_of))
    for row in found.to_pylist():
        assert [row[name] for name in PEERS] == pytest.approx(loops.of(row), abs=1e-12)


def test_an_advertiser_whose_creatives_are_stopped_early_stands_out():
    texts = ["d" * 20] + [".F" if i % 2 else ".ddddddd" for i in range(20)] + ["." * 9 + "dddd"] * 2
    rows = landmark_rows(log_of(texts), FLAG, on(20)).table
    found = Peers.of(log_of(texts), FLAG, on(20)).beside(rows).to_pylist()
    ratio = {row["row_id"]: row["advertiser_stop_ratio"] for row in found}
    # Of 20 first days 10 brought a stop, all of them one advertiser's; of either 5 were due.
    assert ratio["21@1"] == pytest.approx(log((0 + 3) / (5 + 3)))
    assert ratio["22@1"] == pytest.approx(log((10 + 3) / (5 + 3)))


def test_silence_is_no_stop_before_it_has_lasted():
    texts = ["." + "d" * 15, ".d", "....d", ".....d", "......d"]
    texts = ["d" * 15] + [x for text in texts for x in (text, ".ddddddddd")]
    rules = LandmarkRules(landmarks=(1,), stop_source="silence", age_of_wear_out=4)
    rows = landmark_rows(log_of(texts), rules, on(15)).table
    found = Peers.of(log_of(texts), rules, on(15)).beside(rows).to_pylist()
    odd = {row["day"]: row["advertiser_stop_ratio"] for row in found if row["advertiser"] == 1}
    # The one-day creative's third silent day is the fifth of the log.
    assert odd[on(5)] == 0
    assert odd[on(6)] > 0.1


def test_what_comes_later_changes_no_column_of_a_row():
    cutoff, rules = 14, LandmarkRules(landmarks=(1, 2, 3, 5, 8), age_of_wear_out=4)
    pasts = [text[: cutoff - 1] for text in random_texts(0)]
    seen, stops = [], []
    for salt in (1, 2):
        futures = [text[cutoff - 1 :] for text in random_texts(salt)]
        texts = ["d" * 25] + [p + f for p, f in zip(pasts, futures, strict=True)]
        table = with_genres(log_of(texts, salt=lambda day, salt=salt: salt * (day >= cutoff)))
        rows = Peers.of(table, rules, on(25)).beside(landmark_rows(table, rules, on(25)).table)
        stops.append(rows["stopped"].to_pylist())
        kept = rows.filter(pa.compute.less(rows["day"], on(cutoff)))
        seen.append({row["row_id"]: [row[name] for name in PEERS] for row in kept.to_pylist()})
    both = seen[0].keys() & seen[1].keys()
    assert len(both) > 50
    assert stops[0] != stops[1]
    assert all(seen[0][key] == seen[1][key] for key in both)
    assert len({tuple(seen[0][key]) for key in both}) > 50


def test_rows_of_the_day_after_the_log_know_all_of_it():
    table = log_of(["d" * 9, ".dd0F", "..dddd"])
    rows = landmark_rows(table, FLAG, on(9)).table
    day = pa.array([on(10)] * rows.num_rows)
    rows = rows.set_column(rows.column_names.index("day"), "day", day)
    loops = Loops(table, FLAG, on(9))
    for row in Peers.of(table, FLAG, on(9)).beside(rows).to_pylist():
        assert [row[name] for name in PEERS] == pytest.approx(loops.of(row), abs=1e-12)
