"""Rules of the `model` block, by itself and against its source (P020 to P022)."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from recsys_mtl.spec.base import Strict
from recsys_mtl.spec.model_config import (
    ApemConfig,
    DtrnBottomConfig,
    HoMEConfig,
    MMoEConfig,
    MultiTabConfig,
    PLEConfig,
    Routing,
    TwoGridConfig,
)
from recsys_mtl.spec.suggest import did_you_mean
from recsys_mtl.spec.view import Fault, Values, View

_TOKEN_TOWERS = ("apem", "multitab")
_BLOCKS: dict[str, type[Strict]] = {
    "apem": ApemConfig,
    "multitab": MultiTabConfig,
    "dtrn": DtrnBottomConfig,
    "home": HoMEConfig,
    "ple": PLEConfig,
    "mmoe": MMoEConfig,
}


def check_model(pipeline: View, labels: Sequence[Values] | None) -> list[Fault]:
    """All problems of the `model` block.

    Args:
        pipeline: the file.
        labels: everything that is predicted, survival labels included; None when that cannot be
            read, and only problems within the block are looked for.
    """
    faults = [fault for rule in _WITHIN for fault in rule(pipeline)]
    if labels is None or pipeline.is_faulty(("model",)):
        return faults
    return faults + [fault for rule in _AGAINST_LABELS for fault in rule(pipeline, labels)]


def _block(pipeline: View, part: str) -> tuple[str | None, Values]:
    """Kind of `bottom` or `tower`, and its options with defaults."""
    given = pipeline.get("model", part) or {}
    kind = given.get("kind", "mmoe" if part == "tower" else "concat")
    if kind not in _BLOCKS or pipeline.is_faulty(("model", part)):
        return kind, given
    fields = _BLOCKS[kind].model_fields
    return kind, {name: field.default for name, field in fields.items()} | given


def bottom_suits_the_tower(pipeline: View) -> Iterator[Fault]:
    """P020: towers over tokens read no task-specific inputs."""
    bottom, _ = _block(pipeline, "bottom")
    tower, _ = _block(pipeline, "tower")
    if bottom == "dtrn" and tower in _TOKEN_TOWERS:
        text = f"tower {tower!r} reads field tokens, so the inputs per task of dtrn would be unused"
        yield ("model", "bottom", "kind"), "P020", text, "Use bottom concat, or another tower."


def heads_divide_the_width(pipeline: View) -> Iterator[Fault]:
    """P020: attention heads share a width evenly."""
    for part in ("bottom", "tower"):
        kind, block = _block(pipeline, part)
        dim, heads = block.get("dim"), block.get("heads")
        if kind in ("dtrn", *_TOKEN_TOWERS) and dim and heads and dim % heads:
            text = f"{heads} heads do not divide the width {dim}"
            fix = "Choose a dim that is a multiple of the heads."
            yield ("model", part, "heads"), "P020", text, fix


def there_are_experts(pipeline: View) -> Iterator[Fault]:
    """P020: a mixture mixes something, and a sparse one leaves something out."""
    kind, block = _block(pipeline, "tower")
    if kind == "ple" and block.get("num_shared") == block.get("num_specific") == 0:
        text = "no experts: num_shared and num_specific are both 0"
        yield ("model", "tower", "num_shared"), "P020", text, "Give at least one of them experts."
    routing = block.get("routing")
    if kind == "mmoe" and isinstance(routing, dict):
        top_k = routing.get("top_k", Routing.model_fields["top_k"].default)
        if top_k >= block["num_experts"]:
            text = f"{top_k} experts per row, of {block['num_experts']}, is no sparse routing"
            fix = "Lower top_k, raise num_experts, or remove `routing`."
            yield ("model", "tower", "routing", "top_k"), "P020", text, fix


def hazard_edges_increase(pipeline: View) -> Iterator[Fault]:
    """P020: a grid has at least one interval, its edges increase, and two grids meet."""
    block = pipeline.get("model", "hazard") or {}
    grids = {name: list(block[name]) for name in ("edges", "short", "long") if block.get(name)}
    for name, edges in grids.items():
        if len(edges) < 2 or edges != sorted(set(edges)):
            text = f"edges {edges} do not increase, or make no interval"
            yield ("model", "hazard", name), "P020", text, "Give at least two, sorted, each once."
    if block.get("kind") == "two_grids":
        defaults = TwoGridConfig()
        end = (grids.get("short") or defaults.short)[-1]
        long = grids.get("long") or defaults.long
        if end not in long[1:-1]:
            text = f"the short grid ends at day {end}, where the long one {list(long)} has no edge"
            yield ("model", "hazard"), "P020", text, f"Give `long` an inner edge at {end}."


def ranks_fit(pipeline: View) -> Iterator[Fault]:
    """P020: a low-rank gate's rank is at most the width that it gates."""
    kind, block = _block(pipeline, "tower")
    rank, width = block.get("feature_rank2"), block.get("meta_dim")
    if kind == "home" and rank and width and rank > width:
        text = f"rank {rank} is larger than the width that it gates, meta_dim {width}"
        yield ("model", "tower", "feature_rank2"), "P020", text, "Lower the rank."


def groups_hold_every_task_once(pipeline: View, labels: Sequence[Values]) -> Iterator[Fault]:
    """P021: categories name tasks; with any, every task is in exactly one."""
    groups = pipeline.get("model", "task_groups") or {}
    tower, _ = _block(pipeline, "tower")
    tasks = [label["name"] for label in labels if "name" in label]
    if tower == "home" and not groups:
        fix = "Add model.task_groups, for example {all: [" + ", ".join(tasks) + "]}."
        yield ("model", "task_groups"), "P021", "tower 'home' needs categories of tasks", fix
    counts = Counter(task for members in groups.values() for task in members)
    for group, members in groups.items():
        if group in ("shared", *tasks):
            text = f"a category cannot be called {group!r}, which names other experts already"
            yield ("model", "task_groups", group), "P021", text, "Rename it."
        for i, task in enumerate(members):
            at = ("model", "task_groups", group, i)
            if task not in tasks:
                yield at, "P021", f"unknown task {task!r}{did_you_mean(task, tasks)}", ""
            elif counts[task] > 1:
                text = f"task {task!r} is named {counts[task]} times"
                yield at, "P021", text, "Keep it in one category."
    for task in tasks:
        if groups and not counts[task]:
            text = f"task {task!r} is in no category"
            yield ("model", "task_groups"), "P021", text, "Add it to one."


def chains_have_parents(pipeline: View, labels: Sequence[Values]) -> Iterator[Fault]:
    """P021: what passes along a funnel needs a label with a parent."""
    tower, _ = _block(pipeline, "tower")
    if any("parent" in label for label in labels):
        return
    fix = "Declare `parent` in the feature spec, or choose another."
    if tower == "aitm":
        text = "tower 'aitm' passes information from a task to its child, but no label has a parent"
        yield ("model", "tower", "kind"), "P021", text, fix
    chain = pipeline.get("model", "chain")
    if chain in ("conditional", "calibrated"):
        text = f"chain {chain!r} needs a label with a parent"
        yield ("model", "chain"), "P021", text, fix


def interests_need_sequences(pipeline: View, num_sequences: int) -> Iterator[Fault]:
    """P022, a warning: without sequences dtrn is its refinement alone."""
    bottom, block = _block(pipeline, "bottom")
    if bottom == "dtrn" and block["interests"] and not num_sequences:
        text = "bottom 'dtrn' has no sequence to read interests from: only its refinement is used"
        fix = "Declare sequences in the feature spec, or use bottom concat."
        yield ("model", "bottom", "kind"), "P022", text, fix


_WITHIN: tuple[Callable[[View], Iterator[Fault]], ...] = (
    bottom_suits_the_tower,
    heads_divide_the_width,
    there_are_experts,
    ranks_fit,
    hazard_edges_increase,
)
_AGAINST_LABELS: tuple[Callable[[View, Sequence[Values]], Iterator[Fault]], ...] = (
    groups_hold_every_task_once,
    chains_have_parents,
)
