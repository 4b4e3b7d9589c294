"""P013 and P018: what the gate asks of a survival label."""

import pytest

from tests.spec.files import edited, pipeline_lines, shown

from .test_creatives_rules import BOTH, WITH

MARGIN = "    stop: {nll: 0.1}\n"
SURVIVAL = "task 'stop' is a survival label."


@pytest.mark.parametrize(
    ("edits", "lines"),
    [
        ([], []),
        ([(MARGIN, ""), ("  floors:", "  ungated: [stop]\n  floors:")], []),
        ([("    buy: {auc: 0.7}", "    stop: {gain: 0.1, calibration: 0.2}")], []),
        ([("  floors:", "  min_campaigns: 30\n  min_stops: 50\n  floors:")], []),
        (
            [(MARGIN, "")],
            [
                (
                    26,
                    "gate.margins",
                    "task 'stop' has no margin. Add gate.margins.stop, or list it in gate.ungated. "
                    "[P013]",
                )
            ],
        ),
        (
            [(MARGIN, "    stop: {auc: 0.1, ne: 0.1}\n")],
            [
                (29, "gate.margins.stop.auc", f"{SURVIVAL} Use `nll`. [P018]"),
                (29, "gate.margins.stop.ne", f"{SURVIVAL} Use `nll`. [P018]"),
            ],
        ),
        (
            [("    buy: {auc: 0.7}", "    stop: {auc: 0.7}")],
            [(31, "gate.floors.stop.auc", f"{SURVIVAL} Use `gain` or `calibration`. [P018]")],
        ),
        (
            [("    buy: {auc: 0.7}", "    buy: {calibration: 0.2}")],
            [
                (
                    31,
                    "gate.floors.buy.calibration",
                    "task 'buy' is no survival label. Use `auc`. [P018]",
                )
            ],
        ),
        ([("    buy: {auc: 0.7}", "    stop: {auc: 0.5, gain: 0.1}")], []),
        (
            [("  source: ads\n", "  source: adds\n")],
            [(13, "creatives.source", "unknown source 'adds', did you mean 'ads'? [P017]")],
        ),
        (
            [("  source: ads\n", "  source: 5\n")],
            [(13, "creatives.source", "found 5; expected text. [S003]")],
        ),
        (
            [("nll: 0.1", "nll: 0")],
            [(29, "gate.margins.stop.nll", "found 0; expected more than 0. [S003]")],
        ),
    ],
)
def test_a_survival_label_is_gated_by_its_likelihood(tmp_path, edits, lines):
    found = pipeline_lines(tmp_path, edited(WITH, *edits), BOTH)
    assert found == shown("pipe.yaml", lines)


def test_only_tasks_are_scored(tmp_path):
    columns = '/{date}.parquet"}\n  columns: [click, stop]\nschedule'
    pipeline = edited(WITH, ('next/{date}.parquet"}\nschedule', f"next{columns}"))
    (line,) = pipeline_lines(tmp_path, pipeline, BOTH)
    assert "scoring.columns.1: unknown task 'stop'" in line


def test_campaigns_must_be_known(tmp_path):
    """Landmarks of one campaign are no independent rows."""
    alone = edited(BOTH, ("group: item, ", ""))
    assert pipeline_lines(tmp_path, WITH, alone) == shown(
        "pipe.yaml",
        [
            (
                29,
                "gate.margins.stop",
                "rows of a campaign depend on each other, and no column says which those are. "
                "Add keys.group to source 'ads' of the spec. [P018]",
            )
        ],
    )
