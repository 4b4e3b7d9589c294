"""Delivery logs written as one letter per day, and the definition of landmark rows as day loops."""

from collections import Counter
from datetime import date, timedelta
from itertools import count

import pyarrow as pa

FIRST = date(2026, 3, 1)
# status, delivers, is flagged
LETTERS = {
    "d": ("active", True, False),
    "0": ("active", False, False),
    "F": ("active", True, True),
    "f": ("active", False, True),
    "p": ("paused", False, False),
    "P": ("paused", True, False),
    "g": ("paused", False, True),
    "e": ("ended", False, False),
    "b": ("budget", False, False),
    "x": ("policy", False, False),
    "X": ("policy", False, True),
    "Y": ("policy", True, True),
}
REASON = {"paused": "pause", "ended": "campaign_end", "budget": "budget", "policy": "policy"}
SCHEMA = pa.schema(
    {
        "creative": pa.int64(),
        "campaign": pa.string(),
        "advertiser": pa.int64(),
        "genre": pa.string(),
        "day": pa.date32(),
        "impressions": pa.int64(),
        "clicks": pa.int64(),
        "conversions": pa.int64(),
        "spend": pa.float64(),
        "status": pa.string(),
        "stopped": pa.bool_(),
        "launched": pa.date32(),
        "planned_end": pa.date32(),
    }
)


def on(day: int) -> date:
    """Day `day` of the log; its first is 1."""
    return FIRST + timedelta(day - 1)


def creative_days(creative: int, text: str, launched: int | None = None, salt=lambda day: 0):
    """Rows of one creative; letter i is day i + 1, and `.` is no row. Quarters add up exactly."""
    for day, letter in enumerate(text, 1):
        if letter == ".":
            continue
        status, delivers, flagged = LETTERS[letter]
        mixed = 13 * creative + 7 * day * day + 5 * salt(day)
        shown = (1 + mixed % 50) * delivers
        plan = None if mixed % 4 == 0 else on(day + mixed % 9 - 2)
        yield {
            "creative": creative,
            "campaign": f"c{mixed % 3}",
            "advertiser": creative % 2,
            "genre": "game",
            "day": on(day),
            "impressions": shown,
            "clicks": shown // 3,
            "conversions": mixed % 3,
            "spend": mixed % 11 / 4,
            "status": status,
            "stopped": flagged,
            "launched": None if launched is None else on(launched),
            "planned_end": plan,
        }


def log_of(texts, launched=None, salt=lambda day: 0) -> pa.Table:
    rows = []
    for creative, text in enumerate(texts):
        rows += creative_days(creative, text, launched and launched[creative], salt)
    return pa.Table.from_pylist(rows, SCHEMA)


def loop_rows(log: pa.Table, rules, as_of: date) -> tuple[list[dict], dict[str, int]]:
    """The rows and the counts of creatives and rows, one day at a time."""
    lines = [line for line in log.to_pylist() if line["day"] <= as_of]
    for line in lines:
        line["stopped"] = line["stopped"] and line["status"] != "policy"
    days = [line["day"] for line in lines]
    rows, counts = [], Counter()
    for creative in {line["creative"] for line in lines}:
        own = {line["day"]: line for line in lines if line["creative"] == creative}
        counts["creatives"] += 1
        seen = min((day for day in own if own[day]["impressions"]), default=None)
        launched = own[min(own)]["launched"]
        if seen is None:
            counts["never_delivered"] += 1
            continue
        if min(own) == min(days) and launched is None:
            counts["unknown_start"] += 1
            continue
        start = launched if launched is not None and launched < min(days) else seen
        stop = _stop(own, seen, max(days), rules)
        flagged = rules.stop_source != "silence" and any(
            day < seen and own[day]["stopped"] for day in own
        )
        counts["flagged_too_early"] += flagged
        counts["resumed_after_stop"] += stop is not None and any(
            day > stop and own[day]["impressions"] for day in own
        )
        for landmark in rules.landmarks:
            mark = start + timedelta(landmark - 1)
            label, why = _label(own, start, max(seen, mark), stop, max(days), rules)
            counts[why] += 1
            if label is not None:
                features = _features(own, start, mark, min(days), rules.max_history)
                rows.append({"landmark": landmark, **label, **features})
                counts["late_entry"] += label["entry"] > landmark
                counts["cut_history"] += start < min(days) and landmark > 1
    counts["rows"] = len(rows)
    if days:
        span = (max(days) - min(days)).days + 1
        counts["days_without_rows"] = sum(on_day(min(days), i) not in days for i in range(span))
    rows.sort(key=lambda row: (row["time"], row["row_id"]))
    return rows, {name: n for name, n in counts.items() if n}


def on_day(first: date, index: int) -> date:
    return first + timedelta(index)


def _line(own, day):
    """The creative's newest row."""
    return own[max(known for known in own if known <= day)]


def _stop(own, seen, last_day, rules):
    flagged = silent = None
    delivered, run = seen, 0
    for i in range((last_day - seen).days + 1):
        day = on_day(seen, i)
        row = own.get(day)
        if row and row["stopped"] and flagged is None:
            flagged = day
        if row and row["impressions"]:
            delivered, run = day, 0
        elif _line(own, day)["status"] == "active":
            run += 1
            if run == rules.silent_days and silent is None:
                silent = delivered
        else:
            run = 0
    found = {"flag": [flagged], "silence": [silent], "either": [flagged, silent]}
    return min((day for day in found[rules.stop_source] if day is not None), default=None)


def _label(own, start, entry, stop, last_day, rules):
    """Label and count of a row; no label when nothing is left to follow."""
    if stop is not None and stop < entry:
        return None, "absent.stopped"
    maturity = 0 if rules.stop_source == "flag" else rules.silent_days
    exit_, stopped = None, False
    for i in count():
        day = on_day(entry, i)
        row, status = own.get(day, {}), _line(own, day)["status"]
        flagged = rules.stop_source != "silence" and row.get("stopped")
        if status != "active" and not row.get("impressions") and not flagged:
            why = REASON[status]
            break
        if (day - start).days + 1 >= rules.horizon:
            why = "horizon"
            break
        if (last_day - day).days < maturity:
            why = "log_end"
            break
        exit_, stopped = day, day == stop
        if stopped or status != "active":
            why = None if stopped else REASON[status]
            break
    if exit_ is None:
        return None, f"absent.{why}"
    age = (exit_ - start).days + 1
    cause = ("cut_out" if age < rules.age_of_wear_out else "wear_out") if stopped else None
    label = {
        "entry": (entry - start).days + 1,
        "exit": age,
        "stopped": int(stopped),
        "cause": cause,
        "censored_by": why,
    }
    return label, f"stopped.{cause}" if stopped else f"censored.{why}"


def _features(own, start, mark, first_day, max_history):
    before = [own[day] for day in sorted(own) if start <= day < mark]
    static = own[min(own)]
    plan = max((day for day in own if day < mark), default=min(own))
    planned_end = own[plan]["planned_end"]
    daily = {"impressions": [], "clicks": []}
    for back in range(max_history, 0, -1):
        day = mark - timedelta(back)
        if day >= start and day >= first_day:
            for name, history in daily.items():
                history.append(own.get(day, {}).get(name, 0).bit_length())
    names = ("creative", "campaign", "advertiser", "genre")
    return {
        "row_id": f"{static['creative']}@{(mark - start).days + 1}",
        **{name: static[name] for name in names},
        "day": mark,
        "time": mark,
        "planned_end": None if planned_end is None else (planned_end - start).days + 1,
        **{name: sum(r[name] for r in before) for name in ("impressions", "clicks", "conversions")},
        "spend": sum(r["spend"] for r in before),
        **{f"daily_{name}": history for name, history in daily.items()},
    }
