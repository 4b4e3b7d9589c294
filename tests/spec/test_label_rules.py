"""S020 to S043: leaks, parents, splits and histories."""

import pytest

from tests.spec.files import (
    COLUMN_SPLIT,
    FROM_LOG,
    OTHER,
    SPEC,
    TIME_SPLIT,
    edited,
    shown,
    spec_lines,
)

BROKEN = {
    "feature reads label": (
        [("name: age,", "name: age, column: is_buy,")],
        [
            (
                21,
                "features.3.column",
                (
                    "column 'is_buy' of source 'views' is label 'buy'. Remove it, or read "
                    "another column. [S020]"
                ),
            )
        ],
    ),
    "feature named as label column": (
        [("name: age,", "name: is_buy,")],
        [
            (
                21,
                "features.3.name",
                (
                    "column 'is_buy' of source 'views' is label 'buy'. Remove it, or read "
                    "another column. [S020]"
                ),
            )
        ],
    ),
    "list seq reads label": (
        [(FROM_LOG, ""), ("{name: item, column: item,", "{name: item, column: is_click,")],
        [
            (
                28,
                "sequences.0.fields.0.column",
                (
                    "column 'is_click' of source 'views' is label 'click'. Remove it, or "
                    "read another column. [S020]"
                ),
            )
        ],
    ),
    "observed": (
        [
            (
                "column: is_buy, parent: click",
                "column: is_buy, observed: {column: shown, equals: 1}",
            ),
            ("name: age,", "name: age, column: shown,"),
        ],
        [
            (
                21,
                "features.3.column",
                (
                    "column 'shown' of source 'views' says when label 'buy' is observed. "
                    "Remove it, or read another column. [S021]"
                ),
            )
        ],
    ),
    "row id": (
        [("name: age,", "name: age, column: row,")],
        [
            (
                21,
                "features.3.column",
                (
                    "column 'row' of source 'views' is keys.row_id. Remove it, or read "
                    "another column. [S022]"
                ),
            )
        ],
    ),
    "time": (
        [("name: age,", "name: age, column: ts,")],
        [
            (
                21,
                "features.3.column",
                (
                    "column 'ts' of source 'views' is keys.time. Remove it, or read "
                    "another column. [S022]"
                ),
            )
        ],
    ),
    "time of sequence": (
        [(FROM_LOG, "    time: ts\n")],
        [
            (
                27,
                "sequences.0.time",
                (
                    "column 'ts' of source 'views' is keys.time. Remove it, or read "
                    "another column. [S022]"
                ),
            )
        ],
    ),
    "unknown parent": (
        [("parent: click", "parent: clik")],
        [
            (
                12,
                "sources.views.labels.1.parent",
                "unknown label 'clik' in source 'views', did you mean 'click'? [S030]",
            )
        ],
    ),
    "cycle": (
        [("column: is_click}", "column: is_click, parent: buy}")],
        [
            (
                11,
                "sources.views.labels.0.parent",
                "the parents of 'click' lead back to it. Remove one `parent`. [S030]",
            ),
            (
                12,
                "sources.views.labels.1.parent",
                "the parents of 'buy' lead back to it. Remove one `parent`. [S030]",
            ),
        ],
    ),
    "self parent": (
        [("parent: click", "parent: buy")],
        [
            (
                12,
                "sources.views.labels.1.parent",
                "the parents of 'buy' lead back to it. Remove one `parent`. [S030]",
            )
        ],
    ),
    "observed is parent": (
        [("parent: click", "parent: click, observed: {column: is_click, equals: 1}")],
        [
            (
                12,
                "sources.views.labels.1.observed",
                (
                    "observed only where the parent is: the entire-space chain would learn "
                    "the conditional rate. Remove `observed`; `parent` is enough. [S030]"
                ),
            )
        ],
    ),
    "parent in other source": (
        [
            (
                "sources:\n",
                (
                    "sources:\n  other:\n    keys: {row_id: assign, time: t}\n    events: "
                    "{log: {key: k, position: p}}\n    joins: [{side: items, key: item}]\n   "
                    " labels: [{name: like, column: is_like, parent: click}]\n"
                ),
            )
        ],
        [(8, "sources.other.labels.0.parent", "unknown label 'click' in source 'other'. [S030]")],
    ),
    "split order": (
        [("test_from: 2026-03-02", "test_from: 2026-03-01")],
        [
            (
                30,
                "split.test_from",
                (
                    "test_from 2026-03-01 is not after valid_from 2026-03-01. Swap or move "
                    "them. [S040]"
                ),
            )
        ],
    ),
    "split order quoted": (
        [("test_from: 2026-03-02", "test_from: '2026-02-01'")],
        [
            (
                30,
                "split.test_from",
                (
                    "test_from 2026-02-01 is not after valid_from 2026-03-01. Swap or move "
                    "them. [S040]"
                ),
            )
        ],
    ),
    "time split no time": (
        [(", time: ts", ""), ("time: at", "position: at")],
        [
            (
                5,
                "sources.views.keys",
                ("a split by time needs keys.time. Add keys.time, or split by a column. [S040]"),
            )
        ],
    ),
    "column split none": (
        [(TIME_SPLIT, COLUMN_SPLIT)],
        [(30, "split", "give exactly one of `valid` and `valid_fraction`. [S040]")],
    ),
    "column split both": (
        [(TIME_SPLIT, COLUMN_SPLIT + ", valid: c, valid_fraction: 0.1")],
        [(30, "split", "give exactly one of `valid` and `valid_fraction`. [S040]")],
    ),
    "column split same": (
        [(TIME_SPLIT, "policy: column, column: part, train: a, test: a, valid_fraction: 0.1")],
        [(30, "split", "two parts have the same value. Use distinct values. [S040]")],
    ),
    "cutoff without time": (
        [(FROM_LOG, "    cutoff: 1s\n")],
        [
            (
                27,
                "sequences.0.cutoff",
                "a cutoff needs `time`. Name the list column of event times. [S042]",
            )
        ],
    ),
    "events and time": (
        [(FROM_LOG, "    events: {log: log}\n    time: at\n")],
        [
            (
                28,
                "sequences.0.time",
                (
                    "`time` is for list columns; an event log has its own. Remove it, or "
                    "remove `events`. [S042]"
                ),
            )
        ],
    ),
    "unknown log": (
        [("{log: log}", "{log: logs}")],
        [
            (
                27,
                "sequences.0.events.log",
                "source 'views' has no event log 'logs', did you mean 'log'? [S042]",
            )
        ],
    ),
    "position and cutoff": (
        [("time: at", "position: at"), (FROM_LOG, "    events: {log: log}\n    cutoff: 1s\n")],
        [
            (
                28,
                "sequences.0.cutoff",
                (
                    "event log 'log' of source 'views' is ordered by position and has no "
                    "times. Remove the cutoff. [S042]"
                ),
            )
        ],
    ),
    "list time without keys": (
        [
            (FROM_LOG, "    time: at\n"),
            (", time: ts", ""),
            ("      log: {key: user, time: at}", "      log: {key: user, position: at}"),
            (TIME_SPLIT, COLUMN_SPLIT + ", valid: c"),
        ],
        [
            (
                27,
                "sequences.0.time",
                (
                    "source 'views' has no keys.time to compare event times with. Add "
                    "keys.time. [S042]"
                ),
            )
        ],
    ),
    "log both": (
        [("time: at", "time: at, position: n")],
        [(9, "sources.views.events.log", "give exactly one of `time` and `position`. [S043]")],
    ),
    "log none": (
        [(", time: at", "")],
        [(9, "sources.views.events.log", "give exactly one of `time` and `position`. [S043]")],
    ),
    "log time without keys": (
        [(", time: ts", ""), (TIME_SPLIT, COLUMN_SPLIT + ", valid: c")],
        [
            (
                9,
                "sources.views.events.log.time",
                (
                    "source 'views' has no keys.time to compare event times with. Add "
                    "keys.time, or order by `position`. [S043]"
                ),
            )
        ],
    ),
}
GOOD = {
    "a log's column named like a label": [
        ("{name: item, column: item,", "{name: item, column: is_click,")
    ],
    "the group as a feature": [("name: age,", "name: age, column: user,")],
    "a label of another source": [
        ("sources:\n", OTHER),
        ("name: age,", "name: age, sources: [views], column: is_like,"),
    ],
    "observed elsewhere": [
        ("parent: click", "parent: click, observed: {column: shown, equals: 1}")
    ],
    "a tree of parents": [
        ("parent: click}", "parent: click}\n      - {name: like, column: is_like, parent: click}")
    ],
    "list columns": [(FROM_LOG, "    time: click_times\n    cutoff: 1s\n")],
    "list columns without time": [(FROM_LOG, "")],
    "a log by position": [("time: at", "position: n")],
    "written defaults of list columns": [(FROM_LOG, "    cutoff: 0s\n    time: null\n")],
    "a written default on a log by position": [
        ("time: at", "position: n"),
        (FROM_LOG, FROM_LOG + "    cutoff: 0s\n"),
    ],
    "a cutoff on a log": [(FROM_LOG, "    events: {log: log}\n    cutoff: 1h\n")],
    "a column split with a value": [(TIME_SPLIT, COLUMN_SPLIT + ", valid: c")],
    "a column split with a share": [(TIME_SPLIT, COLUMN_SPLIT + ", valid_fraction: 0.2")],
    "a column named like the policy": [
        (TIME_SPLIT, "policy: column, column: column, train: a, test: b, valid: c")
    ],
    "quoted dates": [
        (TIME_SPLIT, "policy: time, valid_from: '2026-03-01', test_from: '2026-03-02'")
    ],
}


@pytest.mark.parametrize(("edits", "lines"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_gives_its_line(tmp_path, edits, lines):
    assert spec_lines(tmp_path, edited(SPEC, *edits)) == shown("spec.yaml", lines)


@pytest.mark.parametrize("edits", GOOD.values(), ids=GOOD)
def test_its_neighbour_loads(tmp_path, edits):
    assert spec_lines(tmp_path, edited(SPEC, *edits)) == []
