"""Rules of labels, splits and histories across fields (S020 to S043)."""

from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

from recsys_mtl.spec.base import duration_us
from recsys_mtl.spec.feature_spec import ASSIGN
from recsys_mtl.spec.suggest import did_you_mean
from recsys_mtl.spec.view import Fault, Values, View, list_of, mapping_of
from recsys_mtl.spec.yaml_nodes import Loc


def inputs_do_not_leak(view: View) -> Iterator[Fault]:
    """S020, S021, S022: no input reads a label, its observed column, the row id or the time."""
    banned = {name: _banned_columns(source) for name, source in view.named("sources").items()}
    for at, owner, column in _input_columns(view):
        for source in view.sources_of(owner):
            if column in banned[source]:
                code, why = banned[source][column]
                fix = "Remove it, or read another column."
                yield at, code, f"column {column!r} of source {source!r} {why}", fix


def _input_columns(view: View) -> Iterator[tuple[Loc, Values, str]]:
    """(location, feature or sequence, column of the rows) of everything that a model reads."""
    blocks = [(loc, f, f) for loc, f in view.listed("features")]
    fields = [(loc, s, f) for loc, s, f in view.sequence_fields() if "events" not in s]
    for loc, owner, block in [*blocks, *fields]:
        if "column" in block:
            yield (*loc, "column"), owner, block["column"]
        elif "name" in block:
            yield (*loc, "name"), owner, block["name"]
    for loc, sequence in view.listed("sequences"):
        if "time" in sequence:
            yield (*loc, "time"), sequence, sequence["time"]


def _banned_columns(source: Values) -> dict[str, tuple[str, str]]:
    """Columns that no input may read: (code, what the column is)."""
    keys = source.get("keys", {})
    labels = [label for _, label in list_of(source, (), "labels")]
    own = {keys[k]: ("S022", f"is keys.{k}") for k in ("row_id", "time") if k in keys}
    own.pop(ASSIGN, None)
    observed = {
        _observed_column(b): ("S021", f"says when label {b.get('name')!r} is observed")
        for b in labels
    }
    observed.pop(None, None)
    survival = source.get("survival") or {}
    outcome = ("S020", f"is part of survival label {survival.get('name')!r}")
    columns = [survival.get(k) for k in ("entry", "exit", "event", "cause", "weight")]
    return (
        own
        | observed
        | {b.get("column", ""): ("S020", f"is label {b.get('name')!r}") for b in labels}
        | {column: outcome for column in columns if column}
    )


def _observed_column(label: Values) -> str | None:
    column: str | None = label.get("observed", {}).get("column")
    return column


def sources_have_labels(view: View) -> Iterator[Fault]:
    """S031: a source has something to predict; a survival label's parts fit together."""
    for name, source in view.named("sources").items():
        loc: Loc = ("sources", name)
        survival = source.get("survival")
        if view.is_faulty((*loc, "labels")) or view.is_faulty((*loc, "survival")):
            continue
        if not source.get("labels") and survival is None:
            text = f"source {name!r} has neither `labels` nor `survival`"
            yield (*loc, "labels"), "S031", text, "Declare what is to be predicted."
        if survival is None:
            continue
        at: Loc = (*loc, "survival")
        if ("cause" in survival) != bool(survival.get("causes")):
            fix = "Give both, or neither for one cause."
            yield at, "S031", "`cause` and `causes` belong together", fix
        horizons = list(survival.get("horizons", ()))
        if horizons != sorted(set(horizons)):
            text = f"horizons {horizons} do not increase"
            yield (*at, "horizons"), "S031", text, "Sort them, each once."


def parents_form_chains(view: View) -> Iterator[Fault]:
    """S030: parents exist in the same source, without cycles; `observed` is not the parent."""
    for name, source in view.named("sources").items():
        labels = {b["name"]: b for _, b in list_of(source, (), "labels") if "name" in b}
        for loc, label in list_of(source, ("sources", name), "labels"):
            parent, own = label.get("parent"), label.get("name")
            if parent is None:
                continue
            if parent not in labels:
                hint = did_you_mean(parent, set(labels) - {own})
                text = f"unknown label {parent!r} in source {name!r}{hint}"
                yield (*loc, "parent"), "S030", text, ""
            elif own is not None and _is_in_cycle(own, labels):
                text = f"the parents of {own!r} lead back to it"
                yield (*loc, "parent"), "S030", text, "Remove one `parent`."
            elif _observed_column(label) == labels[parent].get("column", ""):
                text = (
                    "observed only where the parent is: the entire-space chain would learn the "
                    "conditional rate"
                )
                yield (*loc, "observed"), "S030", text, "Remove `observed`; `parent` is enough."


def _is_in_cycle(name: str, labels: dict[str, Values]) -> bool:
    seen: set[str] = set()
    above = labels[name].get("parent")
    while above in labels and above not in seen and above != name:
        seen.add(above)
        above = labels[above].get("parent")
    return bool(above == name)


def split_is_ordered(view: View) -> Iterator[Fault]:
    """S040: valid before test; a time split needs a time; a column split needs a validation."""
    split = view.get("split") or {}
    valid, test = _date(split.get("valid_from")), _date(split.get("test_from"))
    if valid and test and not valid < test:
        text = f"test_from {test} is not after valid_from {valid}"
        yield ("split", "test_from"), "S040", text, "Swap or move them."
    if split.get("policy") == "column" and not view.is_faulty(("split",)):
        if ("valid" in split) == ("valid_fraction" in split):
            yield ("split",), "S040", "give exactly one of `valid` and `valid_fraction`", ""
        values = [split[k] for k in ("train", "valid", "test") if k in split]
        if len(set(values)) < len(values):
            yield ("split",), "S040", "two parts have the same value", "Use distinct values."
    if split.get("policy") == "time":
        for loc, _ in _without_time(view.named("sources"), view):
            fix = "Add keys.time, or split by a column."
            yield loc, "S040", "a split by time needs keys.time", fix


def _without_time(sources: dict[str, Values], view: View) -> Iterator[tuple[Loc, str]]:
    for name, source in sources.items():
        loc: Loc = ("sources", name, "keys")
        if "time" not in source.get("keys", {}) and not view.is_faulty(loc):
            yield loc, name


def _date(value: Any) -> date | None:
    """A date as the model reads it: YAML's own, quoted, or a midnight."""
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            return None
    return value if isinstance(value, date) else None


def histories_have_one_feed(view: View) -> Iterator[Fault]:
    """S042: from a log that exists, or from list columns with times where a cutoff is set."""
    for loc, sequence in view.listed("sequences"):
        if "events" in sequence:
            yield from _log_fits(view, loc, sequence)
        elif "time" in sequence:
            for _, name in _without_time(view.sources_of(sequence), view):
                text = f"source {name!r} has no keys.time to compare event times with"
                yield (*loc, "time"), "S042", text, "Add keys.time."
        elif _has_cutoff(sequence) and not view.is_faulty((*loc, "time")):
            fix = "Name the list column of event times."
            yield (*loc, "cutoff"), "S042", "a cutoff needs `time`", fix


def _has_cutoff(sequence: Values) -> bool:
    """Whether the cutoff is more than the default of nothing, be it absent or written."""
    cutoff: str = sequence.get("cutoff", "0s")
    return cutoff.lstrip("0")[:1].isdigit()


def _log_fits(view: View, loc: Loc, sequence: Values) -> Iterator[Fault]:
    if "time" in sequence:
        text = "`time` is for list columns; an event log has its own"
        yield (*loc, "time"), "S042", text, "Remove it, or remove `events`."
    log = sequence["events"].get("log")
    sources = view.sources_of(sequence) if log is not None else {}
    for name, source in sources.items():
        logs = source.get("events", {})
        if log not in logs:
            text = f"source {name!r} has no event log {log!r}{did_you_mean(log, logs)}"
            yield (*loc, "events", "log"), "S042", text, ""
        elif "position" in logs[log] and _has_cutoff(sequence):
            text = f"event log {log!r} of source {name!r} is ordered by position and has no times"
            yield (*loc, "cutoff"), "S042", text, "Remove the cutoff."


def event_logs_have_one_order(view: View) -> Iterator[Fault]:
    """S043: a log is ordered by time or by position, and its times have something to compare."""
    for name, source in view.named("sources").items():
        for log, block in mapping_of(source, "events").items():
            loc: Loc = ("sources", name, "events", log)
            if view.is_faulty(loc):
                continue
            if ("time" in block) == ("position" in block):
                yield loc, "S043", "give exactly one of `time` and `position`", ""
            elif "time" in block and any(_without_time({name: source}, view)):
                text = f"source {name!r} has no keys.time to compare event times with"
                yield (*loc, "time"), "S043", text, "Add keys.time, or order by `position`."


def late_labels(labels: list[tuple[Loc, Values]], embargo: str) -> Iterator[Fault]:
    """S041, a warning: labels that mature after the embargo straddle the split."""
    for loc, label in labels:
        if duration_us(label.get("maturity", "0s")) > duration_us(embargo):
            text = (
                f"label {label.get('name')!r} is final after {label['maturity']}, later than the "
                f"split's embargo of {embargo}"
            )
            yield (*loc, "maturity"), "S041", text, "Raise the embargo to the longest maturity."
