"""P020 and P021: the model block, by itself and against the tasks of its source."""

import pytest

from recsys_mtl.spec.load import load_pipeline
from tests.spec.files import PIPELINE, SPEC, edited, pipeline_lines, shown, write

TOWER = "tower: {kind: mmoe, num_experts: 4}"
GROUPS = "  task_groups: {all: [click, buy]}\n"


def model(tower: str, rest: str = "") -> tuple[str, str]:
    return f"  {TOWER}\n", f"  {tower}\n{rest}"


BROKEN = {
    "tokens of dtrn": (
        model("tower: {kind: apem}", "  bottom: {kind: dtrn}\n"),
        (
            15,
            "model.bottom.kind",
            "tower 'apem' reads field tokens, so the inputs per task of dtrn would be unused. "
            "Use bottom concat, or another tower. [P020]",
        ),
    ),
    "heads": (
        model("tower: {kind: multitab, dim: 18}"),
        (
            14,
            "model.tower.heads",
            "4 heads do not divide the width 18. Choose a dim that is a multiple of the heads. "
            "[P020]",
        ),
    ),
    "no experts": (
        model("tower: {kind: ple, num_shared: 0, num_specific: 0}"),
        (
            14,
            "model.tower.num_shared",
            "no experts: num_shared and num_specific are both 0. Give at least one of them "
            "experts. [P020]",
        ),
    ),
    "routing to too many": (
        model("tower: {kind: mmoe, num_experts: 3, routing: {top_k: 3}}"),
        (
            14,
            "model.tower.routing.top_k",
            "3 experts per row, of 3, is no sparse routing. Lower top_k, raise num_experts, or "
            "remove `routing`. [P020]",
        ),
    ),
    "rank": (
        model("tower: {kind: home, meta_dim: 32, feature_rank2: 33}", GROUPS),
        (
            14,
            "model.tower.feature_rank2",
            "rank 33 is larger than the width that it gates, meta_dim 32. Lower the rank. [P020]",
        ),
    ),
    "home without groups": (
        model("tower: {kind: home}"),
        (
            13,
            "model.task_groups",
            "tower 'home' needs categories of tasks. Add model.task_groups, for example "
            "{all: [click, buy]}. [P021]",
        ),
    ),
    "task without a group": (
        model("tower: {kind: home}", "  task_groups: {all: [click]}\n"),
        (15, "model.task_groups", "task 'buy' is in no category. Add it to one. [P021]"),
    ),
    "group with a taken name": (
        model("tower: {kind: home}", "  task_groups: {shared: [click, buy]}\n"),
        (
            15,
            "model.task_groups.shared",
            "a category cannot be called 'shared', which names other experts already. Rename it. "
            "[P021]",
        ),
    ),
    "unknown task": (
        model("tower: {kind: home}", "  task_groups: {a: [click, buy, by]}\n"),
        (15, "model.task_groups.a.2", "unknown task 'by', did you mean 'buy'? [P021]"),
    ),
}
GOOD = {
    "dtrn and home": model("tower: {kind: home}", GROUPS + "  bottom: {kind: dtrn}\n"),
    "one level of specific experts": model("tower: {kind: ple, levels: 1, num_shared: 0}"),
    "routing to most": model("tower: {kind: mmoe, num_experts: 4, routing: {top_k: 3}}"),
    "a conditional chain": model("tower: {kind: aitm}", "  chain: conditional\n"),
}
NO_PARENT = (", parent: click", "")


@pytest.mark.parametrize(("edit", "line"), BROKEN.values(), ids=BROKEN)
def test_a_broken_model_gives_its_line(tmp_path, edit, line):
    assert pipeline_lines(tmp_path, edited(PIPELINE, edit)) == shown("pipe.yaml", [line])


@pytest.mark.parametrize("edit", GOOD.values(), ids=GOOD)
def test_its_neighbour_loads(tmp_path, edit):
    assert pipeline_lines(tmp_path, edited(PIPELINE, edit)) == []


def test_a_task_in_two_groups_is_named_at_both(tmp_path):
    edit = model("tower: {kind: home}", "  task_groups: {a: [click, buy], b: [buy]}\n")
    text = "task 'buy' is named 2 times. Keep it in one category. [P021]"
    lines = [(15, "model.task_groups.a.1", text), (15, "model.task_groups.b.0", text)]
    assert pipeline_lines(tmp_path, edited(PIPELINE, edit)) == shown("pipe.yaml", lines)


@pytest.mark.parametrize(
    ("edit", "loc", "text"),
    [
        (
            model("tower: {kind: aitm}"),
            (14, "model.tower.kind"),
            "tower 'aitm' passes information from a task to its child, but no label has a parent.",
        ),
        (
            model(TOWER, "  chain: calibrated\n"),
            (15, "model.chain"),
            "chain 'calibrated' needs a label with a parent.",
        ),
    ],
    ids=["tower", "chain"],
)
def test_a_funnel_needs_a_parent(tmp_path, edit, loc, text):
    spec = edited(SPEC, NO_PARENT)
    fix = "Declare `parent` in the feature spec, or choose another. [P021]"
    lines = shown("pipe.yaml", [(*loc, f"{text} {fix}")])
    assert pipeline_lines(tmp_path, edited(PIPELINE, edit), spec) == lines


def test_dtrn_without_sequences_warns(tmp_path):
    edit = model(TOWER, "  bottom: {kind: dtrn}\n")
    assert load_pipeline(write(tmp_path, SPEC, edited(PIPELINE, edit))).warnings == ()
    start = SPEC.index("sequences:")
    spec = SPEC[:start] + SPEC[SPEC.index("split:") :]
    spec = edited(spec, ("    events:\n      log: {key: user, time: at}\n", ""))
    pipeline = edited(PIPELINE, edit, ("  events:\n    log: {path: log.parquet}\n", ""))
    (warning,) = load_pipeline(write(tmp_path, spec, pipeline)).warnings
    assert warning.where == f"{tmp_path / 'pipe.yaml'}:13: model.bottom.kind"
    assert "only its refinement is used" in warning.message


@pytest.mark.parametrize(
    ("block", "where", "text"),
    [
        (
            "{kind: daily, edges: [1, 5, 5]}",
            ".edges",
            "edges [1, 5, 5] do not increase, or make no interval. "
            "Give at least two, sorted, each once. [P020]",
        ),
        (
            "{kind: two_grids, short: [1, 3, 8]}",
            "",
            "the short grid ends at day 8, where the long one [1, 10, 30, 60, 90, 120] has no "
            "edge. Give `long` an inner edge at 8. [P020]",
        ),
    ],
)
def test_the_grids_of_hazards_increase_and_meet(tmp_path, block, where, text):
    edit = model(TOWER, f"  hazard: {block}\n")
    assert pipeline_lines(tmp_path, edited(PIPELINE, edit)) == [
        f"pipe.yaml:15: model.hazard{where}: {text}"
    ]
