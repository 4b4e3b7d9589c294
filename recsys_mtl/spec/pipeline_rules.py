"""Rules of a pipeline file, by itself and against its feature spec (P010 to P018)."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo, available_timezones

from recsys_mtl.spec.base import Strict, duration_us
from recsys_mtl.spec.creatives_rules import ad_level_source, check_creatives
from recsys_mtl.spec.model_rules import check_model
from recsys_mtl.spec.pipeline import Floor, GateConfig, Margins
from recsys_mtl.spec.suggest import closest, did_you_mean
from recsys_mtl.spec.view import Fault, Values, View, list_of
from recsys_mtl.spec.yaml_nodes import Loc

_FITTING: dict[bool, dict[str, tuple[str, ...]]] = {
    False: {"margins": ("auc", "ne"), "floors": ("auc",)},
    True: {"margins": ("nll",), "floors": ("gain", "calibration")},
}
"""Bounds of the gate by whether the label is one of survival."""
_BLOCKS: dict[str, type[Strict]] = {"margins": Margins, "floors": Floor}
_SECRETS = {"password", "passwd", "pwd", "secret", "token", "access_key", "api_key", "sig"}


@dataclass(frozen=True)
class Pair:
    """What could be read of a pipeline file and of its spec."""

    pipeline: View
    spec: View

    @cached_property
    def name(self) -> str | None:
        """The pipeline's source, if the spec has it."""
        name = self.pipeline.get("data", "source")
        return name if name in (self.spec.get("sources") or {}) else None

    @cached_property
    def source(self) -> Values:
        """The source's block of the spec."""
        return self.spec.named("sources").get(self.name or "", {})

    @cached_property
    def tasks(self) -> list[str] | None:
        """Labels of the source, None when they are not all readable."""
        if self.name is None or self.spec.is_faulty(("sources", self.name, "labels")):
            return None
        return [label["name"] for _, label in list_of(self.source, (), "labels")]

    @cached_property
    def creatives(self) -> Values:
        """The block of the spec's ad-level source; empty without one."""
        return ad_level_source(self.pipeline, self.spec)[1]

    @cached_property
    def labels(self) -> list[Values]:
        """Everything that is predicted."""
        survival = self.creatives.get("survival")
        own = [label for _, label in list_of(self.source, (), "labels")]
        return own + ([survival] if isinstance(survival, dict) else [])

    @property
    def predicted(self) -> list[str]:
        """Names of the labels that can be read."""
        return [label["name"] for label in self.labels if "name" in label]

    @property
    def survival(self) -> str | None:
        """Name of the survival label."""
        name: str | None = (self.creatives.get("survival") or {}).get("name")
        return name

    @property
    def knows_survival(self) -> bool:
        """Whether the survival label can be named, if there is one."""
        has_none = self.pipeline.get("creatives") is None
        can_tell = not self.pipeline.is_faulty(("creatives",))
        return self.survival is not None or (has_none and can_tell)


def check_pipeline(pipeline: View, spec: View | None) -> list[Fault]:
    """All problems of a pipeline file across fields; without a spec those within the file."""
    pair = Pair(pipeline, spec or View({}))
    rules = _WITHIN if spec is None else (*_WITHIN, *_AGAINST_SPEC)
    faults = [fault for rule in rules for fault in rule(pair)]
    faults += check_creatives(pipeline, spec)
    return faults + check_model(pipeline, pair.labels if pair.tasks is not None else None)


def every_margin_has_a_bound(pair: Pair) -> Iterator[Fault]:
    """P013: an entry of `margins` sets at least one bound, and is not in `ungated` as well."""
    ungated = pair.pipeline.get("gate", "ungated") or []
    for task, margins in pair.pipeline.named("gate", "margins").items():
        loc: Loc = ("gate", "margins", task)
        if not margins and not pair.pipeline.is_faulty(loc):
            fix = "Set `auc` or `ne`, `nll` for a survival label."
            yield loc, "P013", "no margin is set", fix
        if task in ungated:
            at = ("gate", "ungated", ungated.index(task))
            text = f"task {task!r} has a margin in gate.margins as well"
            yield at, "P013", text, "Remove one of the two."


def schedule_can_be_parsed(pair: Pair) -> Iterator[Fault]:
    """P015: a cron line has five fields, a time zone exists; a policy needs creatives."""
    cron = pair.pipeline.get("schedule", "retrain", "cron")
    if cron is not None and len(cron.split()) != 5:
        text = f"a cron line has five fields, found {len(cron.split())} in {cron!r}"
        yield ("schedule", "retrain", "cron"), "P015", text, "For example `0 3 * * *`."
    zone = pair.pipeline.get("schedule", "retrain", "timezone")
    if zone not in (None, "UTC"):
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            best = closest(zone, available_timezones())
            text = f"unknown time zone {zone!r}" + (f", did you mean {best!r}?" if best else "")
            fix = "" if best else "For example Europe/Paris."
            yield ("schedule", "retrain", "timezone"), "P015", text, fix
    policy = pair.pipeline.get("schedule", "policy")
    if policy is not None and "creatives" not in pair.pipeline.values:
        text = "a policy decides about creatives, and the pipeline has none"
        yield ("schedule", "policy"), "P015", text, "Remove it, or declare `creatives`."


def files_hold_no_secrets(pair: Pair) -> Iterator[Fault]:
    """P016: no password or token in an address."""
    for loc in (("data", "root"), ("tracking", "uri")):
        text = pair.pipeline.get(*loc) or ""
        try:
            parts = urlsplit(text)
            secret = parts.password or _SECRETS & {k.lower() for k in parse_qs(parts.query)}
        except ValueError:
            continue
        if secret:
            fix = "Let the environment of the process supply it."
            yield loc, "P016", "the address holds a credential", fix


def split_fits_the_window(pair: Pair) -> Iterator[Fault]:
    """P011: validation and test have a length, and the window leaves days to train on."""
    split, window = pair.pipeline.get("split") or {}, pair.pipeline.get("data", "window")
    if pair.pipeline.is_faulty(("split",)) or pair.pipeline.is_faulty(("data", "window")):
        return
    for part in ("valid", "test"):
        if part in split and duration_us(split[part]) == 0:
            yield ("split", part), "P011", "a window of no length", "Give at least 1d."
    held_out = sum(duration_us(split.get(k, "0s")) for k in ("valid", "test", "embargo", "embargo"))
    if window is not None and duration_us(window) <= held_out:
        text = f"{window} are not longer than validation, test and embargoes together"
        yield ("data", "window"), "P011", text, "Lengthen the window."
    path = pair.pipeline.get("data", "rows", "path")
    if window is not None and path is not None and "{date}" not in path:
        fix = "Put `{date}` in data.rows.path, or remove the window."
        yield ("data", "window"), "P011", "a window needs daily partitions", fix


def source_exists(pair: Pair) -> Iterator[Fault]:
    """P010: `data.source` is a source of the spec."""
    name, known = pair.pipeline.get("data", "source"), pair.spec.get("sources") or {}
    if name is not None and pair.name is None and ("sources",) not in pair.spec.faulty:
        text = f"unknown source {name!r}{did_you_mean(name, known)}"
        yield ("data", "source"), "P010", text, ""


def files_match_the_source(pair: Pair) -> Iterator[Fault]:
    """P011: files for exactly the side tables and logs of the source; time for a timed split."""
    if pair.name is None or "survival" in pair.source:
        return
    where: Loc = ("sources", pair.name)
    sides = {j["side"] for _, j in list_of(pair.source, where, "joins") if "side" in j}
    for block, names in (("sides", sides), ("events", set(pair.source.get("events", {})))):
        given = set(pair.pipeline.get("data", block) or {})
        if pair.spec.is_faulty((*where, "joins" if block == "sides" else block)):
            continue
        unknown = sorted(given - names)
        meant = {closest(name, names - given) for name in unknown}
        for name in sorted(names - given - meant):
            fix = f"Add data.{block}.{name}: {{path: ...}}."
            yield ("data", block), "P011", f"no files for {name!r}, which the spec reads", fix
        for name in unknown:
            hint = did_you_mean(name, names - given)
            text = f"source {pair.name!r} reads no {name!r}{hint}"
            yield ("data", block, name), "P011", text, "" if hint else "Remove it."
    has_time = "time" in pair.source.get("keys", {}) or pair.spec.is_faulty((*where, "keys"))
    if pair.pipeline.get("split") is not None and not has_time:
        fix = "Add it, or remove `split` to use the spec's."
        text = f"a split counted back in time needs keys.time of source {pair.name!r}"
        yield ("split",), "P011", text, fix


def tasks_exist(pair: Pair) -> Iterator[Fault]:
    """P012: every name of a task is a label of the source; some task has a weight."""
    if pair.tasks is None:
        return
    objectives = pair.pipeline.named("objectives", "tasks")
    named: list[tuple[Loc, Iterable[str]]] = [
        (("objectives", "tasks"), objectives),
        (("gate", "margins"), pair.pipeline.get("gate", "margins") or {}),
        (("gate", "floors"), pair.pipeline.get("gate", "floors") or {}),
    ]
    known = pair.predicted
    uses = [((*loc, name), name) for loc, names in named for name in names]
    for loc in (("gate", "ungated"), ("scoring", "columns")):
        uses += [((*loc, i), n) for i, n in enumerate(pair.pipeline.get(*loc) or ())]
    for at, name in uses:
        tasks = pair.tasks if at[0] == "scoring" else known
        is_known = name in tasks or not (at[0] == "scoring" or pair.knows_survival)
        if name is not None and not is_known:
            yield at, "P012", f"unknown task {name!r}{did_you_mean(name, tasks)}", ""
    if all(objectives.get(task, {}).get("weight", 1) == 0 for task in known):
        text = "every task has weight 0: there is nothing to learn"
        yield ("objectives", "tasks"), "P012", text, "Give one a weight."


def every_task_is_gated(pair: Pair) -> Iterator[Fault]:
    """P013: what is predicted has a margin or is listed as ungated; a misspelt one is meant."""
    if pair.tasks is None or pair.pipeline.is_faulty(("gate",)):
        return
    margins = pair.pipeline.get("gate", "margins") or {}
    gated = {*margins, *(pair.pipeline.get("gate", "ungated") or ())}
    tasks = pair.predicted
    meant = {closest(n, set(tasks) - gated) for n in gated - set(tasks) if n}
    for task in tasks:
        if task not in gated | meant:
            fix = f"Add gate.margins.{task}, or list it in gate.ungated."
            yield ("gate", "margins"), "P013", f"task {task!r} has no margin", fix


def gate_suits_the_labels(pair: Pair) -> Iterator[Fault]:
    """P018: survival labels are gated by their likelihood, other tasks by AUC and NE."""
    for task in pair.predicted if pair.tasks is not None else ():
        is_survival = task == pair.survival
        text = f"task {task!r} is {'a' if is_survival else 'no'} survival label"
        for block, fitting in _FITTING[is_survival].items():
            fix = "Use " + " or ".join(f"`{name}`" for name in fitting) + "."
            for key, value in pair.pipeline.named("gate", block).get(task, {}).items():
                if key not in fitting and value != _BLOCKS[block].model_fields[key].default:
                    yield ("gate", block, task, key), "P018", text, fix


def campaigns_are_known(pair: Pair) -> Iterator[Fault]:
    """P018: a survival label is gated with errors clustered by group, where there is one."""
    survival, keys = pair.survival, pair.creatives.get("keys")
    if survival in pair.pipeline.named("gate", "margins") and keys and "group" not in keys:
        text = "rows of a campaign depend on each other, and no column says which those are"
        fix = f"Add keys.group to source {pair.pipeline.get('creatives', 'source')!r} of the spec."
        yield ("gate", "margins", survival), "P018", text, fix


def survival_counts_have_an_effect(pair: Pair) -> Iterator[Fault]:
    """P018: counts of campaigns and stops need a survival label."""
    for key in ("min_campaigns", "min_stops"):
        given, default = pair.pipeline.get("gate", key), GateConfig.model_fields[key].default
        if given not in (None, default) and pair.pipeline.get("creatives") is None:
            text = "has no effect: the pipeline has no survival label"
            yield ("gate", key), "P018", text, "Remove it."


def slices_are_ids(pair: Pair) -> Iterator[Fault]:
    """P014: slices are features of one id per row that the source sees."""
    if pair.name is None or pair.spec.is_faulty(("features",)):
        return
    features = [f for _, f in pair.spec.listed("features") if pair.name in pair.spec.sources_of(f)]
    known = [f["name"] for f in features if f["kind"] != "id_list" and "table" in f]
    for i, name in enumerate(pair.pipeline.get("evaluation", "slices") or ()):
        if name is not None and name not in known:
            text = f"{name!r} is not an id feature{did_you_mean(name, known)}"
            yield ("evaluation", "slices", i), "P014", text, ""


_WITHIN: tuple[Callable[[Pair], Iterator[Fault]], ...] = (
    every_margin_has_a_bound,
    survival_counts_have_an_effect,
    schedule_can_be_parsed,
    files_hold_no_secrets,
    split_fits_the_window,
)
_AGAINST_SPEC: tuple[Callable[[Pair], Iterator[Fault]], ...] = (
    source_exists,
    files_match_the_source,
    tasks_exist,
    every_task_is_gated,
    gate_suits_the_labels,
    campaigns_are_known,
    slices_are_ids,
)
