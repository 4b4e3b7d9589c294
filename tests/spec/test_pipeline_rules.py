"""P010 to P016: a pipeline file, by itself and against its spec."""

import pytest

from tests.spec.files import COLUMN_SPLIT, PIPELINE, SPEC, TIME_SPLIT, edited, pipeline_lines, shown

BROKEN = {
    "unknown source": (
        [("source: views", "source: view")],
        [(6, "data.source", "unknown source 'view', did you mean 'views'? [P010]")],
    ),
    "no spec file": (
        [("spec: spec.yaml", "spec: specs.yaml")],
        [
            (
                3,
                "spec",
                (
                    "no file 'specs.yaml'; the path is relative to the pipeline file. "
                    "Correct it. [P010]"
                ),
            )
        ],
    ),
    "side missing": (
        [("  sides:\n    items: {path: items.parquet}\n", "")],
        [
            (
                4,
                "data.sides",
                (
                    "no files for 'items', which the spec reads. Add data.sides.items: "
                    "{path: ...}. [P011]"
                ),
            )
        ],
    ),
    "side misspelt": (
        [("    items: {path", "    itms: {path")],
        [(9, "data.sides.itms", "source 'views' reads no 'itms', did you mean 'items'? [P011]")],
    ),
    "side extra": (
        [("    items: {path", "    videos: {path: v.parquet}\n    items: {path")],
        [(9, "data.sides.videos", "source 'views' reads no 'videos'. Remove it. [P011]")],
    ),
    "log missing": (
        [("  events:\n    log: {path: log.parquet}\n", "")],
        [
            (
                4,
                "data.events",
                (
                    "no files for 'log', which the spec reads. Add data.events.log: {path: "
                    "...}. [P011]"
                ),
            )
        ],
    ),
    "empty split": (
        [("valid: 1d", "valid: 0d")],
        [(12, "split.valid", "a window of no length. Give at least 1d. [P011]")],
    ),
    "short window": (
        [("  rows:", "  window: 3d\n  rows:")],
        [
            (
                7,
                "data.window",
                (
                    "3d are not longer than validation, test and embargoes together. "
                    "Lengthen the window. [P011]"
                ),
            )
        ],
    ),
    "window without dates": (
        [("rows/{date}", "rows/*"), ("  rows:", "  window: 9d\n  rows:")],
        [
            (
                7,
                "data.window",
                (
                    "a window needs daily partitions. Put `{date}` in data.rows.path, or "
                    "remove the window. [P011]"
                ),
            )
        ],
    ),
    "unknown objective": (
        [("    click: {weight", "    clik: {weight")],
        [(17, "objectives.tasks.clik", "unknown task 'clik', did you mean 'click'? [P012]")],
    ),
    "unknown floor": (
        [("    buy: {auc", "    by: {auc")],
        [(25, "gate.floors.by", "unknown task 'by', did you mean 'buy'? [P012]")],
    ),
    "unknown ungated": (
        [("  floors:", "  ungated: [bye]\n  floors:")],
        [(24, "gate.ungated.0", "unknown task 'bye', did you mean 'buy'? [P012]")],
    ),
    "unknown column": (
        [
            (
                '  rows: {path: "next/{date}.parquet"}',
                '  rows: {path: "next/{date}.parquet"}\n  columns: [click, cart]',
            )
        ],
        [(28, "scoring.columns.1", "unknown task 'cart'; known: buy, click. [P012]")],
    ),
    "no weight": (
        [("click: {weight: 1.0}", "click: {weight: 0}\n    buy: {weight: 0}")],
        [
            (
                16,
                "objectives.tasks",
                ("every task has weight 0: there is nothing to learn. Give one a weight. [P012]"),
            )
        ],
    ),
    "no margin": (
        [("    buy: {ne: 0.02}\n", "")],
        [
            (
                21,
                "gate.margins",
                (
                    "task 'buy' has no margin. Add gate.margins.buy, or list it in "
                    "gate.ungated. [P013]"
                ),
            )
        ],
    ),
    "misspelt margin": (
        [("    buy: {ne: 0.02}\n", "    buyy: {ne: 0.02}\n")],
        [(23, "gate.margins.buyy", "unknown task 'buyy', did you mean 'buy'? [P012]")],
    ),
    "empty margin": (
        [("buy: {ne: 0.02}", "buy: {}")],
        [
            (
                23,
                "gate.margins.buy",
                "no margin is set. Set `auc` or `ne`, `nll` for a survival label. [P013]",
            )
        ],
    ),
    "gated twice": (
        [("  floors:", "  ungated: [buy]\n  floors:")],
        [
            (
                24,
                "gate.ungated.0",
                ("task 'buy' has a margin in gate.margins as well. Remove one of the two. [P013]"),
            )
        ],
    ),
    "likelihood of a task": (
        [("buy: {ne: 0.02}", "buy: {ne: 0.02, nll: 0.1}"), ("{auc: 0.7}", "{auc: 0.7, gain: 0.1}")],
        [
            (
                23,
                "gate.margins.buy.nll",
                "task 'buy' is no survival label. Use `auc` or `ne`. [P018]",
            ),
            (25, "gate.floors.buy.gain", "task 'buy' is no survival label. Use `auc`. [P018]"),
        ],
    ),
    "campaigns without survival": (
        [("  floors:", "  min_campaigns: 30\n  floors:")],
        [
            (
                24,
                "gate.min_campaigns",
                "has no effect: the pipeline has no survival label. Remove it. [P018]",
            )
        ],
    ),
    "slice": (
        [("[item_id]", "[item]")],
        [
            (
                19,
                "evaluation.slices.0",
                "'item' is not an id feature, did you mean 'item_id'? [P014]",
            )
        ],
    ),
    "slice list": (
        [("[item_id]", "[tags]")],
        [
            (
                19,
                "evaluation.slices.0",
                "'tags' is not an id feature; known: item_id, price, user_id. [P014]",
            )
        ],
    ),
    "cron": (
        [("0 3 * * *", "0 3 * *")],
        [
            (
                29,
                "schedule.retrain.cron",
                (
                    "a cron line has five fields, found 4 in '0 3 * *'. For example `0 3 * "
                    "* *`. [P015]"
                ),
            )
        ],
    ),
    "zone": (
        [("timezone: UTC", "timezone: Europe/Pariss")],
        [
            (
                29,
                "schedule.retrain.timezone",
                "unknown time zone 'Europe/Pariss', did you mean 'Europe/Paris'? [P015]",
            )
        ],
    ),
    "secret": (
        [("root: demo", 'root: "s3://me:hidden@bucket/x"')],
        [
            (
                5,
                "data.root",
                (
                    "the address holds a credential. Let the environment of the process "
                    "supply it. [P016]"
                ),
            )
        ],
    ),
    "secret token": (
        [("schedule:", 'tracking: {uri: "https://host/?token=abc"}\nschedule:')],
        [
            (
                28,
                "tracking.uri",
                (
                    "the address holds a credential. Let the environment of the process "
                    "supply it. [P016]"
                ),
            )
        ],
    ),
}
GOOD = {
    "the base": [],
    "ungated": [("    buy: {ne: 0.02}\n", ""), ("  floors:", "  ungated: [buy]\n  floors:")],
    "one task with a weight": [("click: {weight: 1.0}", "click: {weight: 0}")],
    "a window that leaves a day": [("  rows:", "  window: 4d\n  rows:")],
    "the spec's split": [("split: {valid: 1d, test: 2d}\n", "")],
    "a slice by buckets": [("[item_id]", "[price]")],
    "a zone of the database": [("timezone: UTC", "timezone: Europe/Paris")],
    "an address without a credential": [("root: demo", 'root: "s3://bucket/x"')],
}


@pytest.mark.parametrize(("edits", "lines"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_gives_its_line(tmp_path, edits, lines):
    assert pipeline_lines(tmp_path, edited(PIPELINE, *edits)) == shown("pipe.yaml", lines)


@pytest.mark.parametrize("edits", GOOD.values(), ids=GOOD)
def test_its_neighbour_loads(tmp_path, edits):
    assert pipeline_lines(tmp_path, edited(PIPELINE, *edits)) == []


NO_TIME = [
    (", time: ts", ""),
    ("time: at", "position: n"),
    (TIME_SPLIT, COLUMN_SPLIT + ", valid: c"),
]


def test_a_split_counted_back_needs_a_time(tmp_path):
    spec = edited(SPEC, *NO_TIME)
    assert pipeline_lines(tmp_path, PIPELINE, spec) == [
        "pipe.yaml:12: split: a split counted back in time needs keys.time of source 'views'. "
        "Add it, or remove `split` to use the spec's. [P011]"
    ]
    alone = edited(PIPELINE, ("split: {valid: 1d, test: 2d}\n", ""))
    assert pipeline_lines(tmp_path, alone, spec) == []


def test_rules_run_although_both_files_have_faults(tmp_path):
    spec = edited(SPEC, ("dim: 8", "dim: 7"), ("name: price, kind", "name: price, knid"))
    pipeline = edited(PIPELINE, ("lr: 0.001", "lr: fast"), ("[item_id]", "[itemid]"))
    pipeline = edited(pipeline, ("    buy: {ne: 0.02}\n", ""))
    assert pipeline_lines(tmp_path, pipeline, spec) == [
        "pipe.yaml:18: training.dense.lr: found 'fast'; expected a number. [S003]",
        "pipe.yaml:19: evaluation.slices.0: 'itemid' is not an id feature, did you mean "
        "'item_id'? [P014]",
        "pipe.yaml:21: gate.margins: task 'buy' has no margin. Add gate.margins.buy, or list it "
        "in gate.ungated. [P013]",
        "spec.yaml:14: tables.user.dim: found 7; expected a multiple of 4. [S003]",
        "spec.yaml:22: features.4.knid: unknown key 'knid', did you mean 'kind'? [S002]",
    ]


def test_an_unreadable_label_hides_no_other_problem_and_blames_no_task(tmp_path):
    spec = edited(SPEC, ("name: buy,", "name: 5,"))
    assert pipeline_lines(tmp_path, PIPELINE, spec) == [
        "spec.yaml:12: sources.views.labels.1.name: found 5; expected text. [S003]"
    ]
