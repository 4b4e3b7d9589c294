"""Rules of the feature spec across fields (S010 to S042).

They read plain values, not the parsed model, so that they run on whatever is
there even when some field failed to parse.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any, TypeGuard

from recsys_mtl.errors import Problem
from recsys_mtl.spec.feature_spec import ASSIGN
from recsys_mtl.spec.suggest import did_you_mean
from recsys_mtl.spec.yaml_nodes import Document, Loc

Fault = tuple[Loc, str, str, str]
"""Location, code, what is wrong, what to do."""
Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class View:
    """Tolerant access to a feature spec's values: what has the wrong shape is skipped."""

    values: Values

    def named(self, *keys: str) -> dict[str, Values]:
        """Blocks of a mapping, e.g. sources or tables, that are mappings themselves."""
        return mapping_of(self.values, *keys)

    def listed(self, key: str) -> Iterator[tuple[Loc, Values]]:
        """Blocks of a top-level list with their locations."""
        yield from list_of(self.values, (), key)

    def labels(self) -> Iterator[tuple[str, Loc, Values]]:
        """(source, location, label) of every label."""
        for name, source in self.named("sources").items():
            for loc, label in list_of(source, ("sources", name), "labels"):
                yield name, loc, label

    def sequence_fields(self) -> Iterator[tuple[Loc, Values, Values]]:
        """(location of the field, sequence, field)."""
        for loc, sequence in self.listed("sequences"):
            for field_loc, field in list_of(sequence, loc, "fields"):
                yield field_loc, sequence, field

    def sources_of(self, block: Values) -> dict[str, Values]:
        """Sources that see a feature or sequence."""
        sources, chosen = self.named("sources"), block.get("sources")
        if not isinstance(chosen, list):
            return sources
        return {name: source for name, source in sources.items() if name in chosen}


def mapping_of(values: Values, *keys: str) -> dict[str, Values]:
    """Mappings below `keys`, without those of another shape."""
    here: Any = values
    for key in keys:
        here = here.get(key) if isinstance(here, dict) else None
    return {k: v for k, v in here.items() if isinstance(v, dict)} if isinstance(here, dict) else {}


def list_of(values: Values, loc: Loc, key: str) -> Iterator[tuple[Loc, Values]]:
    """Mappings in the list `values[key]` with their locations."""
    items = values.get(key)
    for i, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict):
            yield (*loc, key, i), item


def check_spec(document: Document) -> list[Problem]:
    """All cross-field problems of a feature spec, in file order."""
    view = View(document.values)
    return located(document, [fault for rule in RULES for fault in rule(view)])


def located(document: Document, faults: list[Fault]) -> list[Problem]:
    """Problems at their lines."""
    return [Problem(document.where(loc), text, fix, code) for loc, code, text, fix in faults]


def unique_names(view: View) -> Iterator[Fault]:
    """S010: names of features, sequences and labels are unique together."""
    seen: set[str] = set()
    blocks = [*view.listed("features"), *view.listed("sequences")]
    for loc, block in [*blocks, *((loc, label) for _, loc, label in view.labels())]:
        name = block.get("name")
        if isinstance(name, str) and name in seen:
            yield (*loc, "name"), "S010", f"name {name!r} stands twice", "Rename one."
        seen.add(str(name))


def tables_exist_and_are_used(view: View) -> Iterator[Fault]:
    """S011: every referenced table exists, every declared one is used."""
    tables = view.named("tables")
    users = [*view.listed("features"), *((loc, f) for loc, _, f in view.sequence_fields())]
    used = set()
    for loc, block in users:
        table = block.get("table")
        used.add(table)
        if isinstance(table, str) and table not in tables:
            hint = did_you_mean(table, tables)
            yield (*loc, "table"), "S011", f"unknown table {table!r}{hint}", ""
    for name in tables:
        if name not in used:
            fix = "Remove it, or name it in a feature."
            yield ("tables", name), "S011", f"table {name!r} is never used", fix


def bucketize_has_its_table(view: View) -> Iterator[Fault]:
    """S013: bucketize iff table; last step; increasing; the table's range fits."""
    for loc, feature in view.listed("features"):
        if feature.get("kind") != "number":
            continue
        steps = [s for _, s in list_of(feature, loc, "transform")]
        places = [i for i, s in enumerate(steps) if "bucketize" in s]
        if places:
            at = (*loc, "transform", places[0])
            if places != [len(steps) - 1]:
                yield at, "S013", "bucketize must be the last step", "Move it to the end."
            yield from _edges_fit(view, feature, loc, steps[places[0]]["bucketize"])
        elif "table" in feature:
            fix = "Remove `table`, or end the transform with bucketize."
            yield (*loc, "table"), "S013", "a number has a table only with bucketize", fix


def _edges_fit(view: View, feature: Values, loc: Loc, edges: Any) -> Iterator[Fault]:
    table = feature.get("table")
    if table is None:
        yield loc, "S013", "bucketize needs a table", "Add `table`, of kind range."
    if "fill" in (feature.get("missing") or {}):
        text = "a bucketised number's missing value is id 0"
        yield (*loc, "missing"), "S013", text, "Remove `missing.fill`."
    if not isinstance(edges, list) or not all(isinstance(e, int | float) for e in edges):
        return
    if any(a >= b for a, b in pairwise(edges)):
        yield (*loc, "transform"), "S013", "boundaries must increase", "Sort them, drop repeats."
    ids = mapping_of(view.values, "tables", str(table)).get("ids", {})
    if ids and (ids.get("kind") != "range" or ids.get("size") != len(edges) + 1):
        text = f"{len(edges)} boundaries need a table of kind range with size {len(edges) + 1}"
        yield ("tables", str(table), "ids"), "S013", text, "Change `ids`."


def steps_are_sound(view: View) -> Iterator[Fault]:
    """S014: one operation per step, finite ordered clips, positive std, log1p above -1."""
    for loc, feature in view.listed("features"):
        low: float | None = None
        for at, step in list_of(feature, loc, "transform"):
            if len(step) != 1:
                yield at, "S014", f"a step has one operation, found {len(step)}", "Split it."
            clip, zscore = step.get("clip"), step.get("zscore")
            if _is_pair(clip):
                if not clip[0] < clip[1]:
                    yield at, "S014", f"clip needs low < high, found {clip}", "Swap them."
                low = clip[0]
            if _is_pair(zscore) and not zscore[1] > 0:
                yield at, "S014", "the standard deviation must be positive", "Or write `fit`."
            if step.get("log1p") and (low is None or low <= -1):
                fix = "Put `{clip: [0, ...]}` before it."
                yield at, "S014", "log1p needs an earlier clip with low > -1", fix


def _is_pair(value: Any) -> TypeGuard[list[float]]:
    return isinstance(value, list) and [isinstance(v, int | float) for v in value] == [True, True]


def labels_do_not_leak(view: View) -> Iterator[Fault]:
    """S020, S021, S022: no input reads a label, its observed column, the row id or the time."""
    banned = {name: _banned_columns(source) for name, source in view.named("sources").items()}
    inputs = [(loc, f, f) for loc, f in view.listed("features")]
    inputs += [(loc, f, s) for loc, s, f in view.sequence_fields() if "events" not in s]
    for loc, block, owner in inputs:
        column = str(block.get("column") or block.get("name"))
        for source in view.sources_of(owner):
            if column in banned[source]:
                code, why = banned[source][column]
                at = (*loc, "column") if "column" in block else loc
                yield at, code, f"column {column!r} {why} of source {source!r}", "Remove it."


def _banned_columns(source: Values) -> dict[str, tuple[str, str]]:
    """Columns that no input may read: (code, what the column is)."""
    keys = source.get("keys") or {}
    labels = [label for _, label in list_of(source, (), "labels")]
    observed = [_observed_column(label) for label in labels]
    return {
        **{
            str(keys[k]): ("S022", f"is keys.{k}")
            for k in ("row_id", "time")
            if keys.get(k) not in (None, ASSIGN)
        },
        **{str(c): ("S021", "says when a label is observed") for c in observed if c},
        **{str(b.get("column")): ("S020", f"is label {b.get('name')!r}") for b in labels},
    }


def parents_form_chains(view: View) -> Iterator[Fault]:
    """S030: parents exist in the same source, without cycles; `observed` is not the parent."""
    for name, source in view.named("sources").items():
        labels = {str(b.get("name")): b for _, b in list_of(source, (), "labels")}
        for loc, label in list_of(source, ("sources", name), "labels"):
            parent = label.get("parent")
            if parent is None:
                continue
            at, own = (*loc, "parent"), str(label.get("name"))
            if parent not in labels:
                hint = did_you_mean(str(parent), set(labels) - {own})
                yield at, "S030", f"unknown label {parent!r} in source {name!r}{hint}", ""
            elif _is_in_cycle(own, labels):
                yield at, "S030", f"the parents of {own!r} form a cycle", "Break it."
            elif _observed_column(label) == labels[parent].get("column"):
                text = (
                    "observed only where the parent is 1: the entire-space chain would learn "
                    "the conditional rate"
                )
                yield (*loc, "observed"), "S030", text, "Remove `observed`; `parent` is enough."


def _observed_column(label: Values) -> Any:
    return mapping_of(label).get("observed", {}).get("column")


def _is_in_cycle(name: str, labels: dict[str, Values]) -> bool:
    seen, above = {name}, str(labels[name].get("parent"))
    while above in labels and above not in seen:
        seen.add(above)
        above = str(labels[above].get("parent"))
    return above in seen


def split_is_ordered(view: View) -> Iterator[Fault]:
    """S040: valid before test; a time split needs a time; a column split needs a validation."""
    split = view.named().get("split", {})
    valid, test = split.get("valid_from"), split.get("test_from")
    if isinstance(valid, date) and isinstance(test, date) and not valid < test:
        yield ("split", "test_from"), "S040", f"{test} is not after valid_from {valid}", ""
    if split.get("policy") == "column" and ("valid" in split) == ("valid_fraction" in split):
        yield ("split",), "S040", "give either `valid` or `valid_fraction`", ""
    for name, source in view.named("sources").items():
        if split.get("policy") == "time" and not source.get("keys", {}).get("time"):
            fix = "Add keys.time, or split by a column."
            yield ("sources", name, "keys"), "S040", "a split by time needs keys.time", fix


def sequences_are_fed_one_way(view: View) -> Iterator[Fault]:
    """S042: from a log that exists, or from list columns with times where a cutoff is set."""
    for loc, sequence in view.listed("sequences"):
        events = sequence.get("events")
        if not isinstance(events, dict):
            if "cutoff" in sequence and "time" not in sequence:
                yield (*loc, "cutoff"), "S042", "a cutoff needs `time`", "Name the list of times."
            continue
        if "time" in sequence:
            text = "`time` is for list columns; a log has its own"
            yield (*loc, "time"), "S042", text, "Remove it."
        log = events.get("log")
        for name, source in view.sources_of(sequence).items():
            logs = mapping_of(source, "events")
            if log not in logs:
                hint = did_you_mean(str(log), logs)
                yield (
                    (*loc, "events", "log"),
                    "S042",
                    f"source {name!r} has no log {log!r}{hint}",
                    "",
                )
            elif logs[str(log)].get("time") and not source.get("keys", {}).get("time"):
                text = f"source {name!r} has no keys.time to compare event times with"
                yield (*loc, "events"), "S042", text, "Add keys.time."


def event_logs_have_one_order(view: View) -> Iterator[Fault]:
    """S043: a behaviour log is ordered by time or by position."""
    for name, source in view.named("sources").items():
        for log, block in mapping_of(source, "events").items():
            if ("time" in block) == ("position" in block):
                loc: Loc = ("sources", name, "events", log)
                yield loc, "S043", "give either `time` or `position`", ""


def references_exist(view: View) -> Iterator[Fault]:
    """S011: joined columns, targets and source names point at something."""
    features = {str(f.get("name")): f for _, f in view.listed("features")}
    for loc, block in [*view.listed("features"), *view.listed("sequences")]:
        for i, name in enumerate(block.get("sources") or ()):
            if name not in view.named("sources"):
                hint = did_you_mean(str(name), view.named("sources"))
                yield (*loc, "sources", i), "S011", f"unknown source {name!r}{hint}", ""
    for loc, feature in view.listed("features"):
        side, dot, _ = str(feature.get("column") or "").partition(".")
        for name, source in view.sources_of(feature).items() if dot else ():
            sides = {str(j.get("side")) for _, j in list_of(source, (), "joins")}
            if side not in sides:
                text = f"source {name!r} joins no side table {side!r}{did_you_mean(side, sides)}"
                yield (*loc, "column"), "S011", text, ""
    for loc, _, field in view.sequence_fields():
        target = field.get("target")
        if target is None:
            continue
        feature = features.get(str(target), {})
        if feature.get("kind") != "id" or feature.get("table") != field.get("table"):
            same = [n for n, f in features.items() if f.get("table") == field.get("table")]
            text = f"target {target!r} is not an id feature on table {field.get('table')!r}"
            yield (*loc, "target"), "S011", text + did_you_mean(str(target), same), ""


RULES: tuple[Callable[[View], Iterator[Fault]], ...] = (
    unique_names,
    tables_exist_and_are_used,
    references_exist,
    bucketize_has_its_table,
    steps_are_sound,
    labels_do_not_leak,
    parents_form_chains,
    split_is_ordered,
    sequences_are_fed_one_way,
    event_logs_have_one_order,
)
