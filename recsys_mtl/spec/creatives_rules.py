"""Rules of the `creatives` block, by itself and against its feature spec (P017, P019)."""

from collections.abc import Callable, Iterator

from recsys_mtl.spec.base import duration_us
from recsys_mtl.spec.model_config import TwoGridConfig
from recsys_mtl.spec.pipeline import CreativesConfig
from recsys_mtl.spec.suggest import did_you_mean
from recsys_mtl.spec.view import Fault, Values, View, list_of, mapping_of
from recsys_mtl.spec.yaml_nodes import Loc

CAUSES = ("cut_out", "wear_out")
"""Why a creative of a delivery log stops: early, or at an age at which it may be worn out."""


def check_creatives(pipeline: View, spec: View | None) -> list[Fault]:
    """All problems of the `creatives` block; without a spec those within the file."""
    faults = [] if spec is None else list(rows_have_one_origin(pipeline, spec))
    if "creatives" not in pipeline.values:
        return faults
    faults += [fault for rule in _WITHIN for fault in rule(pipeline)]
    if spec is None:
        return faults
    return faults + [fault for rule in _AGAINST_SPEC for fault in rule(pipeline, spec)]


def rows_have_one_origin(pipeline: View, spec: View) -> Iterator[Fault]:
    """P017: ad-level rows alone come from delivery logs, and need no block about other rows."""
    name = pipeline.get("data", "source")
    if name not in spec.named("sources"):
        return
    if "survival" not in spec.named("sources")[name]:
        required: tuple[Loc, ...] = (("data", "rows"), ("scoring",))
        for loc in required:
            if pipeline.get(*map(str, loc)) is None and not pipeline.is_faulty(loc):
                yield loc, "P017", "required, but absent", "Name the files of its rows."
    elif "creatives" not in pipeline.values:
        text = f"source {name!r} has a survival label, whose rows delivery logs make"
        yield ("data", "source"), "P017", text, f"Add `creatives` with source {name}."
    else:
        blocks: list[Loc] = [("data", key) for key in ("rows", "window", "sides", "events")]
        for loc in (*blocks, ("split",), ("scoring",), ("evaluation", "oracle")):
            if pipeline.get(*map(str, loc)):
                text = "has no effect: all rows are ad-level, of the block `creatives`"
                yield loc, "P017", text, "Remove it."


def delivery_is_daily(pipeline: View) -> Iterator[Fault]:
    """P017: a delivery log has one partition per day, which shows where it ends."""
    path = pipeline.get("creatives", "delivery", "path")
    if path is not None and "{date}" not in path:
        fix = "Put `{date}` in it."
        text = "a delivery log has daily files, and the path names no day"
        yield ("creatives", "delivery", "path"), "P017", text, fix


def landmarks_increase(pipeline: View) -> Iterator[Fault]:
    """P017: each landmark makes one row of a creative."""
    landmarks = list(pipeline.get("creatives", "landmarks") or (1,))
    if not pipeline.is_faulty(("creatives", "landmarks")) and landmarks != sorted(set(landmarks)):
        text = f"landmarks {landmarks} do not increase"
        yield ("creatives", "landmarks"), "P017", text, "Sort them, each once."


def parts_are_not_empty(pipeline: View) -> Iterator[Fault]:
    """P017: the test window holds a day, and some campaigns are left to train on."""
    if pipeline.is_faulty(("creatives",)):
        return
    test = pipeline.get("creatives", "test")
    if test is not None and duration_us(test) < duration_us("1d"):
        yield ("creatives", "test"), "P017", f"{test} holds no whole day", "Give at least 1d."
    given = mapping_of(pipeline.values).get("creatives", {})
    fields = CreativesConfig.model_fields
    shares = {k: given.get(k, fields[k].default) for k in ("valid_share", "test_share")}
    if sum(shares.values()) >= 1:
        loc: Loc = ("creatives", next(k for k in ("test_share", "valid_share") if k in given))
        text = "valid_share and test_share leave no campaign to train on"
        yield loc, "P017", text, "Let their sum be below 1."


def creatives_fit_the_spec(pipeline: View, spec: View) -> Iterator[Fault]:
    """P017: the ad-level source exists, has times, and predicts a survival label alone."""
    name, source = ad_level_source(pipeline, spec)
    loc: Loc = ("creatives", "source")
    if name is None or ("sources",) in spec.faulty:
        return
    if name not in spec.named("sources"):
        hint = did_you_mean(name, spec.named("sources"))
        yield loc, "P017", f"unknown source {name!r}{hint}", ""
        return
    if "survival" not in source or source.get("labels"):
        text = f"source {name!r} predicts other than a survival label alone"
        yield loc, "P017", text, "Declare `survival` and no `labels`."
    keys = mapping_of(source).get("keys")
    if keys is not None and keys.get("time") is None:
        text = f"source {name!r} does not say when its rows are; no test row may be from before a"
        yield loc, "P017", f"{text} training row", "Give it `keys.time: time`, which the rows have."
    sides = {j["side"] for _, j in list_of(source, ("sources", name), "joins") if "side" in j}
    given = set(pipeline.get("creatives", "sides") or {})
    for side in sorted(sides ^ given):
        text = f"{'no files for' if side in sides else 'it reads no'} {side!r}"
        yield ("creatives", "sides"), "P017", text, "List the side tables that it joins."


def two_grids_tell_causes_by_age(pipeline: View, spec: View) -> Iterator[Fault]:
    """P017: two grids know one stop, and two causes of it only by whether the short one is over."""
    hazard = pipeline.get("model", "hazard") or {}
    causes = list((ad_level_source(pipeline, spec)[1].get("survival") or {}).get("causes") or ())
    if hazard.get("kind") != "two_grids" or not causes:
        return
    end = (hazard.get("short") or TwoGridConfig().short)[-1]
    age = pipeline.get("creatives", "wear_out_age")
    age = CreativesConfig.model_fields["wear_out_age"].default if age is None else age
    if tuple(causes) != CAUSES or age != end:
        text = f"the short grid ends at day {end}, but causes are {', '.join(causes)}, the second "
        fix = f"Let it end at creatives.wear_out_age with causes [{', '.join(CAUSES)}], or name "
        yield ("model", "hazard"), "P017", f"{text}from day {age} on", f"{fix}none."


def causes_are_those_of_logs(pipeline: View, spec: View) -> Iterator[Fault]:
    """P017: a label by cause knows every cause that rows of delivery logs have."""
    name, source = ad_level_source(pipeline, spec)
    survival: Values = source.get("survival") or {}
    lacking = [cause for cause in CAUSES if cause not in survival.get("causes", ())]
    if name and "cause" in survival and lacking and not spec.is_faulty(("sources", name)):
        text = f"stops in a delivery log are {' or '.join(CAUSES)}, and source {name!r} knows no "
        fix = f"Declare `causes: [{', '.join(CAUSES)}]` there, or neither `cause` nor `causes`."
        yield ("creatives", "source"), "P017", text + " and no ".join(lacking), fix


def nothing_is_fitted_twice(pipeline: View, spec: View) -> Iterator[Fault]:
    """P019: what is fitted on the rows of one source is not read by the other."""
    names = [pipeline.get("data", "source"), pipeline.get("creatives", "source")]
    known = spec.named("sources")
    if names[0] == names[1] or any(name not in known for name in names):
        return
    both = set(names)
    loc: Loc = ("creatives", "source")
    for table in _vocabularies(spec):
        readers = [b for b in _readers(spec) if b[1].get("table") == table]
        if both <= {name for block, _ in readers for name in spec.sources_of(block)}:
            text = f"both sources read table {table!r}, whose vocabulary is fitted on one's rows"
            fix = "Give it `ids: {kind: hash, ...}`, or `sources` to what reads it."
            yield loc, "P019", text, fix
    for _, feature in spec.listed("features"):
        fitted = any(step.get("zscore") == "fit" for step in _steps(feature))
        if fitted and both <= set(spec.sources_of(feature)):
            text = f"both sources read {feature.get('name')!r}, scaled as the rows of one are"
            yield loc, "P019", text, "Give `zscore: [mean, deviation]`, or `sources`."


def ad_level_source(pipeline: View, spec: View) -> tuple[str | None, Values]:
    """Name and block of the ad-level source."""
    name = pipeline.get("creatives", "source")
    return name, spec.named("sources").get(name, {}) if name else {}


def _vocabularies(spec: View) -> Iterator[str]:
    for name in spec.named("tables"):
        if spec.get("tables", name, "ids", "kind") == "vocab":
            yield name


def _readers(spec: View) -> Iterator[tuple[Values, Values]]:
    """(what has the sources, what has the table) of features and sequence fields."""
    yield from ((feature, feature) for _, feature in spec.listed("features"))
    yield from ((sequence, field) for _, sequence, field in spec.sequence_fields())


def _steps(feature: Values) -> list[Values]:
    return [step for step in feature.get("transform") or () if isinstance(step, dict)]


_WITHIN: tuple[Callable[[View], Iterator[Fault]], ...] = (
    delivery_is_daily,
    landmarks_increase,
    parts_are_not_empty,
)
_AGAINST_SPEC: tuple[Callable[[View, View], Iterator[Fault]], ...] = (
    creatives_fit_the_spec,
    two_grids_tell_causes_by_age,
    causes_are_those_of_logs,
    nothing_is_fitted_twice,
)
