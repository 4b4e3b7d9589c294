"""Rules between a pipeline file and its feature spec (P010 to P014)."""

import re
from collections.abc import Callable, Iterable, Iterator

from recsys_mtl.spec.feature_spec import FeatureSpec
from recsys_mtl.spec.layout import compile_layout
from recsys_mtl.spec.pipeline import Pipeline
from recsys_mtl.spec.rules import Fault
from recsys_mtl.spec.suggest import did_you_mean
from recsys_mtl.spec.yaml_nodes import Loc


def check_pipeline(pipeline: Pipeline, spec: FeatureSpec) -> list[Fault]:
    """All problems between the two files."""
    if pipeline.data.source not in spec.sources:
        hint = did_you_mean(pipeline.data.source, spec.sources)
        return [(("data", "source"), "P010", f"unknown source {pipeline.data.source!r}{hint}", "")]
    return [fault for rule in _RULES for fault in rule(pipeline, spec)]


def _files_match_source(pipeline: Pipeline, spec: FeatureSpec) -> Iterator[Fault]:
    source = spec.sources[pipeline.data.source]
    wanted = {"sides": {j.side for j in source.joins}, "events": set(source.events)}
    given = {"sides": pipeline.data.sides, "events": pipeline.data.events}
    for block, names in wanted.items():
        for name in sorted(names - set(given[block])):
            fix = f"Add data.{block}.{name}: {{path: ...}}."
            yield ("data", block), "P011", f"no files for {name!r}, which the spec reads", fix
        for name in sorted(set(given[block]) - names):
            text = f"the spec's source reads no {name!r}{did_you_mean(name, names)}"
            yield ("data", block, name), "P011", text, "Remove it."
    if pipeline.split is not None and source.keys.time is None:
        yield ("split",), "P011", "a split counted back in time needs keys.time in the spec", ""
    if pipeline.data.window is not None and "{date}" not in pipeline.data.rows.path:
        fix = "Put `{date}` in data.rows.path, or remove the window."
        yield ("data", "window"), "P011", "a window needs daily partitions", fix


def _tasks_are_known(pipeline: Pipeline, spec: FeatureSpec) -> Iterator[Fault]:
    tasks = [label.name for label in spec.sources[pipeline.data.source].labels]
    named: dict[Loc, Iterable[str]] = {
        ("objectives", "tasks"): pipeline.objectives.tasks,
        ("gate", "margins"): pipeline.gate.margins,
        ("gate", "floors"): pipeline.gate.floors,
    }
    for loc, names in named.items():
        for name in names:
            if name not in tasks:
                yield (*loc, name), "P012", f"unknown task {name!r}{did_you_mean(name, tasks)}", ""
    listed = {("gate", "ungated"): pipeline.gate.ungated, ("scoring", "columns"): ()}
    listed[("scoring", "columns")] = pipeline.scoring.columns or ()
    for (block, key), entries in listed.items():
        for i, name in enumerate(entries):
            if name not in tasks:
                text = f"unknown task {name!r}{did_you_mean(name, tasks)}"
                yield (block, key, i), "P012", text, ""
    weights = [pipeline.objectives.weight(t) for t in tasks]
    if not any(w > 0 for w in weights):
        yield ("objectives", "tasks"), "P012", "every task has weight 0", "Give one a weight."


def _every_task_is_gated(pipeline: Pipeline, spec: FeatureSpec) -> Iterator[Fault]:
    gate = pipeline.gate
    for label in spec.sources[pipeline.data.source].labels:
        if label.name not in gate.margins and label.name not in gate.ungated:
            fix = f"Add gate.margins.{label.name}, or list it in gate.ungated."
            yield ("gate", "margins"), "P013", f"task {label.name!r} has no guardrail", fix
    for task, margins in gate.margins.items():
        if margins.auc is None and margins.ne is None:
            yield ("gate", "margins", task), "P013", "no margin is set", "Set `auc`, `ne` or both."


def _slices_are_ids(pipeline: Pipeline, spec: FeatureSpec) -> Iterator[Fault]:
    layout = compile_layout(spec, pipeline.data.source)
    known = [bag.name for bag in layout.bags if not bag.is_list]
    for i, name in enumerate(pipeline.evaluation.slices):
        if name not in known:
            text = f"{name!r} is not an id feature{did_you_mean(name, known)}"
            yield ("evaluation", "slices", i), "P014", text, ""


def _cron_has_five_fields(pipeline: Pipeline, spec: FeatureSpec) -> Iterator[Fault]:
    del spec
    schedule = pipeline.schedule
    if schedule and not re.fullmatch(r"\S+(\s+\S+){4}", schedule.retrain.cron.strip()):
        text = f"a cron line has five fields, found {schedule.retrain.cron!r}"
        yield ("schedule", "retrain", "cron"), "P014", text, "For example `0 3 * * *`."


_RULES: tuple[Callable[[Pipeline, FeatureSpec], Iterator[Fault]], ...] = (
    _files_match_source,
    _tasks_are_known,
    _every_task_is_gated,
    _slices_are_ids,
    _cron_has_five_fields,
)
