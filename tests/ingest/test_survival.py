import random
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recsys_mtl.errors import DataError
from recsys_mtl.ingest.survival import COLUMNS, LandmarkRules, landmark_rows
from tests.ingest.delivery_days import log_of, loop_rows, on

RULES = st.builds(
    LandmarkRules,
    landmarks=st.lists(st.integers(1, 9), unique=True, min_size=1, max_size=4).map(tuple),
    silent_days=st.integers(1, 3),
    stop_source=st.sampled_from(["flag", "silence", "either"]),
    horizon=st.sampled_from([4, 8, 16, 30]),
    age_of_wear_out=st.just(4),
    max_history=st.integers(1, 5),
)
STATIC = ["campaign", "advertiser", "genre"]
COUNTED = ["impressions", "clicks", "conversions", "spend", "daily_impressions", "daily_clicks"]


def random_log(seed):
    """Eight creatives, whose first days, launches and order of rows are random as well."""
    draw = random.Random(seed)
    texts, launched = [], []
    for _ in range(8):
        head = draw.choice(["", ".", "...", "0", "p", "f", ".00p"])
        text = head + "".join(draw.choices("d.0pPebxXYgfF", [20, 6, 3, *[1] * 10], k=14))
        delivered = [day for day, letter in enumerate(text, 1) if letter in "dPFY"]
        launch = draw.choice([None, -4, 1, 3])
        texts.append(text)
        launched.append(launch if launch is None else min([launch, *delivered]))
    log = log_of(texts, launched)
    return log.take(pa.array(draw.sample(range(log.num_rows), log.num_rows)))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**9).map(random_log), RULES, st.integers(5, 25))
@example(log_of(["dddd...pp000", ".d.p.000dd", ".dP000"], [-2, None, None]), LandmarkRules(), 18)
def test_rows_are_those_of_a_loop_over_days(log, rules, as_of):
    built = landmark_rows(log, rules, on(as_of))
    rows, counts = loop_rows(log, rules, on(as_of))
    found = built.table.to_pylist()
    assert built.table.column_names == list(COLUMNS)
    assert [{**row, "time": row["time"].date()} for row in found] == rows
    assert {name: n for name, n in built.counts.items() if n} == counts
    assert all(row["entry"] <= row["exit"] for row in found)


def follow(text, landmark=1, length=20, **rules):
    """(entry, exit, cause or reason) of one row whose log of `length` days another ad fills."""
    log = log_of(["d" * length, text])
    built = landmark_rows(log, LandmarkRules(landmarks=(landmark,), **rules), on(length))
    labels = built.table.select(["entry", "exit", "cause", "censored_by"]).to_pylist()
    if labels:
        label = labels[0]
        return label["entry"], label["exit"], label["cause"] or label["censored_by"]
    return next(name for name in built.counts if name.startswith("absent"))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("..ddd", (1, 3, "cut_out")),
        (".ddd..dddd", (1, 9, "cut_out")),
        (".ddddddddd", (1, 9, "cut_out")),
        (".dddddddddd", (1, 10, "wear_out")),
        (".dd00p", (1, 4, "pause")),
        (".ddpppddd", (1, 2, "pause")),
        (".ddPd", (1, 3, "pause")),
        (".dde", (1, 2, "campaign_end")),
        (".ddb", (1, 2, "budget")),
        (".ddx", (1, 2, "policy")),
        (".ddX", (1, 2, "policy")),
        (".ddY", (1, 3, "policy")),
        (".dd.FFdddd", (1, 4, "cut_out")),
        (".ddgdd", (1, 3, "cut_out")),
        (".ddpgdd", (1, 2, "pause")),
        # Once a pause is over and nothing follows, the creative was stopped before it.
        (".ddppp0", (1, 2, "cut_out")),
    ],
)
def test_a_row_leaves_by_its_stop_or_its_interruption(text, label):
    assert follow(text) == label


def test_a_stop_is_what_the_source_says():
    text = ".ddd...ddddF"
    assert follow(text, stop_source="silence") == (1, 3, "cut_out")
    assert follow(text, stop_source="flag") == (1, 11, "wear_out")
    assert follow(text, stop_source="either") == (1, 3, "cut_out")
    assert follow(text, silent_days=4) == (1, 11, "wear_out")
    assert follow(".dddd", stop_source="flag") == (1, 19, "log_end")


@pytest.mark.parametrize(
    ("delivered", "source", "label"),
    [
        (16, "silence", (1, 16, "wear_out")),
        (17, "silence", (1, 16, "log_end")),
        (19, "either", (1, 16, "log_end")),
        (19, "flag", (1, 19, "log_end")),
    ],
)
def test_the_last_silent_days_of_a_log_prove_nothing(delivered, source, label):
    assert follow("." + "d" * delivered, stop_source=source) == label


def test_flags_on_the_last_days_wait_until_silence_could_tell_as_well():
    text = "." + "d" * 17 + "F"
    assert follow(text, stop_source="flag") == (1, 18, "wear_out")
    assert follow(text, stop_source="either") == (1, 16, "log_end")
    assert follow(text, length=22, stop_source="either") == (1, 18, "wear_out")


def test_horizon_is_the_first_age_that_is_not_followed():
    assert follow("." + "d" * 19, horizon=8) == (1, 7, "horizon")
    assert follow(".ddddddd", horizon=8) == (1, 7, "cut_out")
    assert follow(".dddddddd", horizon=8) == (1, 7, "horizon")
    assert follow("." + "d" * 19, landmark=8, horizon=8) == "absent.horizon"


@pytest.mark.parametrize(
    ("landmark", "label"),
    [
        (1, (1, 2, "pause")),
        (3, "absent.pause"),
        (6, (6, 9, "cut_out")),
        (9, (9, 9, "cut_out")),
        (10, "absent.stopped"),
        (30, "absent.stopped"),
    ],
)
def test_landmarks_after_a_pause_are_followed_anew_and_those_after_a_stop_do_not_exist(
    landmark, label
):
    assert follow(".ddpppdddd", landmark) == label
    assert follow("..." + "d" * 17, 30) == "absent.log_end"


def test_a_creative_in_a_log_from_its_first_day_needs_its_launch():
    texts = ["ddddddd.....", "ppddd.......", "." + "d" * 11]
    rules = LandmarkRules(landmarks=(1, 3, 7, 10))
    unknown = landmark_rows(log_of(texts), rules, on(12))
    assert set(unknown.table["creative"].to_pylist()) == {2}
    assert unknown.counts["unknown_start"] == 2
    # Launched 5 days before the log: its first day is age 6, day 3 is age 8.
    known = landmark_rows(log_of(texts, [-4, -4, None]), rules, on(12))
    columns = ["row_id", "entry", "exit", "cause", "impressions", "daily_clicks"]
    late = known.table.filter(pa.compute.less(known.table["creative"], 2)).select(columns)
    found = {row.pop("row_id"): tuple(row.values())[:3] for row in late.to_pylist()}
    assert found == {
        "0@1": (6, 12, "wear_out"),
        "0@3": (6, 12, "wear_out"),
        "0@7": (7, 12, "wear_out"),
        "0@10": (10, 12, "wear_out"),
        "1@1": (8, 10, "wear_out"),
        "1@3": (8, 10, "wear_out"),
        "1@7": (8, 10, "wear_out"),
        "1@10": (10, 10, "wear_out"),
    }
    assert known.counts["late_entry"] == 5
    assert known.counts["cut_history"] == 6
    # Days of age 6 to 9 are in the log; what came before is not told as zeros.
    assert [len(row) for row in late["daily_clicks"].to_pylist()].count(4) == 2


def test_features_are_sums_and_buckets_of_the_days_before():
    days = [on(d) for d in (1, 2, 3, 5, 6)]
    log = log_of(["d.......", ".dd.dd"])
    numbers = {
        "impressions": [9, 1, 1000, 8, 5],
        "clicks": [0, 0, 3, 8, 1],
        "conversions": [7, 1, 2, 4, 8],
        "spend": [9.0, 0.5, 0.25, 1.0, 2.0],
        "planned_end": [None, on(40), None, on(30), on(50)],
    }
    assert log["day"].to_pylist() == days
    for name, values in numbers.items():
        place = log.schema.get_field_index(name)
        log = log.set_column(place, name, pa.array(values, log.schema.field(name).type))
    rules = LandmarkRules(landmarks=(1, 2, 3, 5), max_history=3, stop_source="flag")
    rows = {r["landmark"]: r for r in landmark_rows(log, rules, on(6)).table.to_pylist()}
    first, second, third, fifth = (rows[a] for a in (1, 2, 3, 5))
    assert [first[c] for c in COUNTED] == [0, 0, 0, 0.0, [], []]
    assert [second[c] for c in COUNTED] == [1, 0, 1, 0.5, [1], [0]]
    assert [third[c] for c in COUNTED] == [1001, 3, 3, 0.75, [1, 10], [0, 2]]
    assert [fifth[c] for c in COUNTED] == [1009, 11, 7, 1.75, [10, 0, 4], [2, 0, 4]]
    assert [rows[a]["planned_end"] for a in (1, 2, 3, 5)] == [39, 39, None, 29]
    assert [fifth[c] for c in ("row_id", "day")] == ["1@5", on(6)]
    assert fifth["time"].isoformat() == f"{on(6)}T00:00:00+00:00"


def random_texts(seed, ads=60, length=25):
    rng = np.random.default_rng(seed)
    texts = rng.choice(list("dddddddddddd..0pF"), (ads, length))
    texts[rng.random((ads, length)).cumsum(1) < 3] = "."
    return ["".join(text) for text in texts]


def test_what_comes_after_a_landmark_changes_no_feature_of_its_row():
    cutoff, rules = 14, LandmarkRules(landmarks=(1, 2, 3, 5, 8), stop_source="flag")
    pasts = [text[: cutoff - 1] for text in random_texts(0)]
    futures = [[text[cutoff - 1 :] for text in random_texts(seed)] for seed in (1, 2)]
    seen = []
    for salt, future in enumerate(futures):
        texts = ["d" * 25] + [p + f for p, f in zip(pasts, future, strict=True)]
        log = log_of(texts, salt=lambda day, salt=salt: salt * (day >= cutoff))
        table = landmark_rows(log, rules, on(25)).table
        seen.append({(r["row_id"], r["day"]): r for r in table.to_pylist()})
    both = [key for key in seen[0].keys() & seen[1].keys() if key[1] <= on(cutoff)]
    labels = [[(rows[key]["exit"], rows[key]["stopped"]) for key in both] for rows in seen]
    assert len(both) > 50
    assert labels[0] != labels[1]
    for key in both:
        assert all(seen[0][key][c] == seen[1][key][c] for c in COUNTED)
        if key[1] < on(cutoff) or not key[0].endswith("@1"):
            assert all(seen[0][key][c] == seen[1][key][c] for c in [*STATIC, "planned_end"])


def test_what_comes_after_as_of_changes_nothing():
    log, rules = log_of(random_texts(3)), LandmarkRules(landmarks=(1, 2, 5))
    kept = pa.compute.less_equal(log["day"], on(15))
    known = landmark_rows(log, rules, on(15))
    later = log.filter(pa.compute.invert(kept)).to_pylist()
    for row in later:
        row |= {"impressions": -1, "status": "?", "creative": None, "launched": date.max}
    broken = pa.concat_tables([pa.Table.from_pylist(later * 2, log.schema), log.filter(kept)])
    for other in (log.filter(kept), broken):
        again = landmark_rows(other, rules, on(15))
        assert again.table.equals(known.table)
        assert again.counts == known.counts
    assert known.table.num_rows > 50


def test_every_creative_is_told_of_once_at_every_landmark():
    built = landmark_rows(log_of(random_texts(4)), LandmarkRules(), on(20))
    known = built.counts["creatives"] - built.counts["never_delivered"]
    known -= built.counts["unknown_start"]
    parts = {"stopped": 0, "censored": 0, "absent": 0}
    for name, number in built.counts.items():
        if "." in name:
            parts[name.split(".")[0]] += number
    assert sum(parts.values()) == 5 * known
    assert parts["stopped"] + parts["censored"] == built.counts["rows"] == built.table.num_rows
    assert min(parts.values()) > 0


def test_days_without_any_row_are_counted():
    text = ".ddddd...ddd"
    assert landmark_rows(log_of(["d" + text[1:]]), LandmarkRules(), on(12)).counts == {
        "creatives": 1,
        "cut_history": 0,
        "days_without_rows": 3,
        "flagged_too_early": 0,
        "late_entry": 0,
        "never_delivered": 0,
        "resumed_after_stop": 0,
        "rows": 0,
        "unknown_start": 1,
    }
    again = landmark_rows(log_of(["d...........", text]), LandmarkRules((1,)), on(12)).counts
    assert (again["resumed_after_stop"], again["stopped.cut_out"]) == (1, 1)


def test_ids_may_be_numbers_or_strings():
    log = log_of(["d" * 9, ".ddd"])
    names = pa.array([f"ad {c}" for c in log["creative"].to_pylist()])
    for ids in (names, names.dictionary_encode(), names.cast(pa.large_string())):
        table = landmark_rows(log.set_column(0, "creative", ids), LandmarkRules(), on(9)).table
        assert table["row_id"].to_pylist() == ["ad 1@1", "ad 1@3"]


def test_flags_cannot_be_read_from_a_log_without_them():
    log = log_of(["d" * 9, ".ddd"]).drop_columns(["stopped", "launched", "planned_end"])
    with pytest.raises(DataError, match="'stopped': not in the data, but stop_source is flag"):
        landmark_rows(log, LandmarkRules(stop_source="flag"), on(9))
    (row, _) = landmark_rows(log, LandmarkRules(), on(9)).table.to_pylist()
    assert (row["exit"], row["cause"], row["planned_end"]) == (3, "cut_out", None)


def constant_hazard_log(source, hazard=0.1, closing=0.03, ads=10_000, length=40):
    """Ads launched before and during a log, stopped or closed at constant rates."""
    rng = np.random.default_rng(0)
    launch = rng.integers(-40, length, ads)
    stop = launch + rng.geometric(hazard, ads) - 1
    close = launch + rng.geometric(closing, ads)
    last = np.minimum(stop, close - 1)
    ad, day = np.divmod(np.arange(ads * length), length)
    closes = (day == close[ad]) & (stop[ad] >= day)
    told = ((launch[ad] <= day) & (day <= last[ad])) | closes
    ad, day, closes = ad[told], day[told], closes[told]
    first = np.datetime64("2026-03-01")
    columns = {
        "creative": ad,
        **{name: ad // 10 for name in STATIC},
        "day": pa.array(first + day).cast(pa.date32()),
        "impressions": 9 * ~closes,
        **{name: 0 * ad for name in ("clicks", "conversions", "spend")},
        "status": np.where(closes, "ended", "active"),
        "launched": pa.array(first + launch[ad]).cast(pa.date32()),
    }
    if source == "flag":
        columns["stopped"] = pa.array((day == stop[ad]) & ~closes)
    return pa.table(columns), date(2026, 3, 1) + timedelta(length - 1)


@pytest.mark.parametrize("source", ["flag", "silence"])
def test_exposure_from_entry_recovers_a_known_hazard_and_exposure_from_birth_does_not(source):
    log, as_of = constant_hazard_log(source)
    table = landmark_rows(log, LandmarkRules((1,), stop_source=source), as_of).table
    entry, exit_ = (table[c].to_numpy().astype(np.int64) for c in ("entry", "exit"))
    stops = table["stopped"].to_numpy().sum()
    days = (exit_ - entry + 1).sum()
    error = np.sqrt(0.1 * 0.9 / days)
    assert abs(stops / days - 0.1) < 3 * error
    assert stops / exit_.sum() < 0.1 - 6 * error


def test_an_ad_group_comes_along_where_the_log_tells_it():
    """It is that of the creative's first row; null is nobody's."""
    log = log_of(["ddd", ".dd"], [1, None])
    assert "ad_group" not in landmark_rows(log, LandmarkRules(), on(3)).table.column_names
    groups = {0: ["a", "b", "b"], 1: [None, "c"]}
    column = [groups[row["creative"]].pop(0) for row in log.to_pylist()]
    told = log.append_column("ad_group", pa.array(column, pa.string()))
    table = landmark_rows(told, LandmarkRules((1, 3), stop_source="flag"), on(3)).table
    rows = [(row["row_id"], row["ad_group"]) for row in table.to_pylist()]
    assert rows == [("0@1", "a"), ("1@1", None), ("0@3", "a")]
