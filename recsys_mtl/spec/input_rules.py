"""Rules of features, sequences and tables across fields (S010 to S014)."""

from collections.abc import Iterator
from itertools import chain, pairwise
from math import log1p
from typing import Any, TypeGuard

from recsys_mtl.spec.suggest import did_you_mean
from recsys_mtl.spec.view import Fault, Values, View, list_of, mapping_of
from recsys_mtl.spec.yaml_nodes import Loc


def names_are_unique(view: View) -> Iterator[Fault]:
    """S010: features, sequences and labels together; fields of a sequence; joins of a source."""
    together = [*view.listed("features"), *view.listed("sequences")]
    groups = [[*together, *((loc, label) for _, loc, label in view.labels())]]
    groups += [list(list_of(s, loc, "fields")) for loc, s in view.listed("sequences")]
    for group in groups:
        yield from _repeated(group, "name")
    for name, source in view.named("sources").items():
        yield from _repeated(list(list_of(source, ("sources", name), "joins")), "side")


def _repeated(blocks: list[tuple[Loc, Values]], key: str) -> Iterator[Fault]:
    seen: set[str] = set()
    for loc, block in blocks:
        name = block.get(key)
        if name in seen:
            yield (*loc, key), "S010", f"{key} {name!r} stands twice", "Rename one."
        if name is not None:
            seen.add(name)


def tables_exist_and_are_used(view: View) -> Iterator[Fault]:
    """S011: every referenced table exists, every declared one is used."""
    tables = set(view.get("tables") or {})
    used = set()
    for loc, block in _readers(view):
        table = block.get("table")
        used.add(table)
        if table is not None and table not in tables and ("tables",) not in view.faulty:
            yield (
                (*loc, "table"),
                "S011",
                f"unknown table {table!r}{did_you_mean(table, tables)}",
                "",
            )
    if any(loc[:1] in {("features",), ("sequences",)} and _hides_table(loc) for loc in view.faulty):
        return
    for name in view.get("tables") or {}:
        if name not in used and ("tables", name) not in view.faulty:
            fix = "Remove it, or name it in a feature."
            yield ("tables", name), "S011", f"table {name!r} is never used", fix


def _readers(view: View) -> Iterator[tuple[Loc, Values]]:
    yield from view.listed("features")
    yield from ((loc, field) for loc, _, field in view.sequence_fields())


def _hides_table(loc: Loc) -> bool:
    """Whether a refused value may have named a table: the table itself or a whole block."""
    return loc[-1] in ("table", "fields", "features", "sequences") or isinstance(loc[-1], int)


def references_exist(view: View) -> Iterator[Fault]:
    """S011: source names, joined columns and features with their own bounds point at something."""
    sources, features = view.named("sources"), [f.get("name") for _, f in view.listed("features")]
    for loc, block in chain(view.listed("features"), view.listed("sequences")):
        chosen = block.get("sources")
        for i, name in enumerate(chosen or ()):
            if name is not None and name not in sources:
                hint = did_you_mean(name, sources)
                yield (*loc, "sources", i), "S011", f"unknown source {name!r}{hint}", ""
        if chosen == []:
            fix = "Remove `sources` to serve all."
            yield (*loc, "sources"), "S011", "an empty list: no source would see it", fix
    for name in view.get("quality", "per_feature") or {}:
        if name not in features and not view.is_faulty(("features",)):
            hint = did_you_mean(name, [f for f in features if f])
            yield ("quality", "per_feature", name), "S011", f"unknown feature {name!r}{hint}", ""
    for name in sources:
        if all(name not in view.sources_of(f) for _, f in view.listed("features")):
            if not view.is_faulty(("features",)):
                fix = "Add one, or remove the source."
                yield ("sources", name), "S011", f"source {name!r} sees no feature", fix


def joined_columns_name_a_side(view: View) -> Iterator[Fault]:
    """S011: `<side>.<column>` names a side table that every source of the feature joins."""
    for loc, feature in view.listed("features"):
        side, dot, _ = feature.get("column", "").partition(".")
        for name, source in view.sources_of(feature).items() if dot else ():
            sides = {j["side"] for _, j in list_of(source, (), "joins") if "side" in j}
            if side not in sides:
                text = f"source {name!r} joins no side table {side!r}{did_you_mean(side, sides)}"
                yield (*loc, "column"), "S011", text, ""


def targets_share_the_table(view: View) -> Iterator[Fault]:
    """S011: `target` names an id feature on the field's table, seen by the same sources."""
    ids = {
        f["name"]: f for _, f in view.listed("features") if f.get("kind") == "id" and "name" in f
    }
    for loc, sequence, field in view.sequence_fields():
        target, table = field.get("target"), field.get("table")
        if target is None or table is None:
            continue
        feature = ids.get(target, {})
        if feature.get("table") != table:
            hint = did_you_mean(target, [n for n, f in ids.items() if f.get("table") == table])
            text = f"target {target!r} is not an id feature on table {table!r}{hint}"
            yield (*loc, "target"), "S011", text, ""
            continue
        for name in set(view.sources_of(sequence)) - set(view.sources_of(feature)):
            text = f"source {name!r} sees the sequence but not its target {target!r}"
            yield (*loc, "target"), "S011", text, "Change `sources` of one of them."


def bucketize_has_its_table(view: View) -> Iterator[Fault]:
    """S013: bucketize iff table; last step; increasing; the table's range fits."""
    for loc, feature in view.listed("features"):
        if feature.get("kind") != "number":
            continue
        steps = [step for _, step in list_of(feature, loc, "transform")]
        places = [i for i, step in enumerate(steps) if "bucketize" in step]
        if places:
            at = (*loc, "transform", places[0])
            if places != [len(steps) - 1]:
                yield at, "S013", "bucketize is not the last step", "Move it to the end."
            yield from _edges_fit(view, feature, loc, steps[places[0]]["bucketize"])
        elif "table" in feature and not view.is_faulty((*loc, "transform")):
            fix = "Remove `table`, or end the transform with bucketize."
            yield (*loc, "table"), "S013", "a number has a table only with bucketize", fix


def _edges_fit(view: View, feature: Values, loc: Loc, edges: list[Any]) -> Iterator[Fault]:
    table = feature.get("table")
    if table is None and (*loc, "table") not in view.faulty:
        yield loc, "S013", "bucketize needs a table", "Add `table`, of kind range."
    if feature.get("missing", {}).get("fill", 0) != 0:
        text = "a bucketised number's missing value is id 0"
        yield (*loc, "missing"), "S013", text, "Remove `missing.fill`."
    if not all(isinstance(edge, int | float) for edge in edges):
        return
    if any(a >= b for a, b in pairwise(edges)):
        yield (*loc, "transform"), "S013", "boundaries must increase", "Sort them, drop repeats."
    ids = mapping_of(view.values, "tables", str(table)).get("ids", {})
    size = len(edges) + 1
    fits = ids.get("kind", "range") == "range" and ids.get("size", size) == size
    if not fits and not view.is_faulty(("tables", str(table), "ids")):
        text = f"{len(edges)} boundaries need a table of kind range with size {size}"
        yield ("tables", str(table), "ids"), "S013", text, "Change `ids`."


def steps_are_sound(view: View) -> Iterator[Fault]:
    """S014: one operation per step, ordered clips, positive deviations, log1p above -1."""
    for loc, feature in view.listed("features"):
        low: float | None = None
        for at, step in list_of(feature, loc, "transform"):
            if len(step) != 1 and not view.is_faulty(at):
                text = f"a step has one operation, found {len(step)}"
                yield at, "S014", text, "Write one per list item."
            clip, zscore = step.get("clip"), step.get("zscore")
            if _is_pair(clip):
                if not clip[0] < clip[1]:
                    yield at, "S014", f"clip needs low < high, found {clip}", "Swap them."
                low = clip[0]
            if zscore is not None:
                low = None
            if _is_pair(zscore) and not zscore[1] > 0:
                text = f"zscore needs a deviation above 0, found {zscore[1]}"
                yield at, "S014", text, "Change it, or write `zscore: fit`."
            if "log1p" in step:
                if (low is None or low <= -1) and not view.is_faulty((*loc, "transform")):
                    fix = "Put `{clip: [0, ...]}` before it."
                    yield at, "S014", "log1p needs an earlier clip with low > -1", fix
                low = log1p(low) if low is not None and low > -1 else None


def _is_pair(value: Any) -> TypeGuard[list[float]]:
    return isinstance(value, list) and [isinstance(v, int | float) for v in value] == [True, True]
