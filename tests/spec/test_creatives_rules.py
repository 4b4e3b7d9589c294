"""S031 and P017: survival labels, and the ad-level source of a pipeline."""

import pytest

from tests.spec.files import (
    PIPELINE,
    SPEC,
    TIME_SPLIT,
    edited,
    pipeline_lines,
    shown,
    spec_lines,
)

HASHED = "item: {dim: 8, ids: {kind: hash, buckets: 9, seed: 3}}"
ADS = """\
  ads:
    keys: {row_id: row, group: item, time: day}
    joins:
      - {side: items, key: item}
    survival: {name: stop, entry: a, exit: b, event: c, horizons: [3, 7]}
tables:
"""
BOTH = edited(
    SPEC,
    ("tables:\n", ADS),
    ("name: age, kind: number,", "name: age, kind: number, sources: [views],"),
    ("column: user, table: user}", "column: user, table: user, sources: [views]}"),
    ("    max_len: 10\n", "    max_len: 10\n    sources: [views]\n"),
    ("item: {dim: 8, ids: {kind: vocab}}", HASHED),
)
CREATIVES = """\
creatives:
  source: ads
  delivery: {path: "log/{date}.parquet"}
  sides:
    items: {path: items.parquet}
split: {valid: 1d, test: 2d}
"""
WITH = edited(
    PIPELINE,
    ("split: {valid: 1d, test: 2d}\n", CREATIVES),
    ("    buy: {ne: 0.02}\n", "    buy: {ne: 0.02}\n    stop: {nll: 0.1}\n"),
)


def test_a_pipeline_with_creatives_loads(tmp_path):
    assert pipeline_lines(tmp_path, WITH, BOTH) == []


def test_ad_level_rows_have_times_however_they_are_split(tmp_path):
    spec = edited(
        BOTH,
        ("group: item, time: day}", "group: item}"),
        (TIME_SPLIT, "policy: column, column: part, train: a, valid: b, test: c"),
    )
    lines = pipeline_lines(tmp_path, WITH, spec)
    where = "pipe.yaml:13: creatives.source: source 'ads' does not say when its rows are"
    (line,) = [line for line in lines if "does not say" in line]
    assert line.startswith(where)
    assert line.endswith("Give it `keys.time: time`, which the rows have. [P017]")


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (
            ("source: ads", "source: add"),
            (13, "creatives.source", "unknown source 'add', did you mean 'ads'? [P017]"),
        ),
        (
            ("source: ads", "source: views"),
            (
                13,
                "creatives.source",
                "source 'views' predicts other than a survival label alone. "
                "Declare `survival` and no `labels`. [P017]",
            ),
        ),
        (
            ("    items: {path: items.parquet}\nsplit", "    itms: {path: items.parquet}\nsplit"),
            None,
        ),
    ],
)
def test_a_broken_block_gives_its_line(tmp_path, edit, line):
    found = pipeline_lines(tmp_path, edited(WITH, edit), BOTH)
    if line is None:
        assert [text.partition("creatives.sides: ")[2] for text in found] == [
            "no files for 'items'. List the side tables that it joins. [P017]",
            "it reads no 'itms'. List the side tables that it joins. [P017]",
        ]
    else:
        assert found == shown("pipe.yaml", [line])


@pytest.mark.parametrize(
    ("causes", "short", "age", "is_right"),
    [
        ("[cut_out, wear_out]", "[1, 3, 10]", 10, True),
        ("[cut_out, wear_out]", "[1, 3, 10]", 7, False),
        ("[cut_out, wear_out]", "[1, 3, 30]", 10, False),
        ("[wear_out, cut_out]", "[1, 3, 10]", 10, False),
    ],
)
def test_two_grids_tell_two_causes_by_age(tmp_path, causes, short, age, is_right):
    spec = edited(BOTH, ("event: c,", f"event: c, cause: d, causes: {causes},"))
    grids = f"  hazard: {{kind: two_grids, short: {short}}}\n"
    pipeline = edited(
        WITH,
        ("model:\n", f"model:\n{grids}"),
        ("  source: ads\n", f"  source: ads\n  wear_out_age: {age}\n"),
    )
    lines = pipeline_lines(tmp_path, pipeline, spec)
    if is_right:
        assert lines == []
    else:
        assert len(lines) == 1
        assert "the short grid ends at day" in lines[0]
        assert lines[0].endswith("or name none. [P017]")


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (
            ("horizons: [3, 7]", "horizons: [7, 3]"),
            "horizons: horizons [7, 3] do not increase. Sort them, each once. [S031]",
        ),
        (
            ("event: c,", "event: c, cause: d,"),
            "`cause` and `causes` belong together. Give both, or neither for one cause. [S031]",
        ),
        (
            ("    survival: {name: stop, entry: a, exit: b, event: c, horizons: [3, 7]}\n", ""),
            "source 'ads' has neither `labels` nor `survival`. Declare what is to be predicted. "
            "[S031]",
        ),
        (("name: stop,", "name: tags,"), "name 'tags' stands twice. Rename one. [S010]"),
    ],
)
def test_a_survival_label_that_does_not_fit_is_refused(tmp_path, edit, text):
    assert any(line.endswith(text) for line in spec_lines(tmp_path, edited(BOTH, edit)))


def test_no_feature_reads_part_of_the_label(tmp_path):
    feature = "  - {name: leak, kind: number, column: b, sources: [ads]}\nsequences:\n"
    lines = spec_lines(tmp_path, edited(BOTH, ("sequences:\n", feature)))
    assert len(lines) == 1
    assert "column 'b' of source 'ads' is part of survival label 'stop'" in lines[0]


ALONE = """\
pipeline_version: 1
name: ads
spec: spec.yaml
data: {root: demo, source: ads}
creatives:
  source: ads
  delivery: {path: "log/{date}.parquet"}
  sides:
    items: {path: items.parquet}
training: {seed: 1}
gate:
  margins:
    stop: {nll: 0.01}
"""


def test_ad_level_rows_alone_load(tmp_path):
    assert pipeline_lines(tmp_path, ALONE, BOTH) == []


@pytest.mark.parametrize(
    ("edit", "where"),
    [
        (("source: ads}", 'source: ads, rows: {path: "a.parquet"}}'), "4: data.rows"),
        (("source: ads}", "source: ads, window: 7d}"), "4: data.window"),
        (("training:", "split: {valid: 1d, test: 1d}\ntraining:"), "10: split"),
        (("training:", 'scoring: {rows: {path: "a.parquet"}}\ntraining:'), "10: scoring"),
        (
            ("training:", 'evaluation: {oracle: {path: "a.parquet"}}\ntraining:'),
            "10: evaluation.oracle",
        ),
    ],
)
def test_what_ad_level_rows_do_not_need_is_refused(tmp_path, edit, where):
    text = "has no effect: all rows are ad-level, of the block `creatives`. Remove it. [P017]"
    assert pipeline_lines(tmp_path, edited(ALONE, edit), BOTH) == [f"pipe.yaml:{where}: {text}"]


def test_ad_level_rows_come_from_delivery_logs(tmp_path):
    start, end = ALONE.index("creatives:"), ALONE.index("training:")
    lines = pipeline_lines(tmp_path, ALONE[:start] + ALONE[end:], BOTH)
    text = "source 'ads' has a survival label, whose rows delivery logs make"
    assert f"pipe.yaml:4: data.source: {text}. Add `creatives` with source ads. [P017]" in lines


@pytest.mark.parametrize(
    ("block", "where"),
    [
        ('  rows: {path: "rows/{date}.parquet"}\n', "data.rows"),
        ('scoring:\n  rows: {path: "next/{date}.parquet"}\n', "scoring"),
    ],
)
def test_other_rows_need_their_files(tmp_path, block, where):
    (line,) = pipeline_lines(tmp_path, edited(PIPELINE, (block, "")))
    assert line.endswith(f"{where}: required, but absent. Name the files of its rows. [P017]")


def block(**lines):
    """`WITH` with more lines in its block."""
    text = "".join(f"  {name}: {value}\n" for name, value in lines.items())
    return edited(WITH, ("  source: ads\n", f"  source: ads\n{text}"))


@pytest.mark.parametrize(
    ("lines", "where", "text"),
    [
        ({"landmarks": "[1, 7, 3]"}, "14: creatives.landmarks", "[1, 7, 3] do not increase"),
        ({"landmarks": "[1, 3, 3]"}, "14: creatives.landmarks", "[1, 3, 3] do not increase"),
        ({"test": "23h"}, "14: creatives.test", "23h holds no whole day"),
        ({"test_share": "0.9"}, "14: creatives.test_share", "no campaign to train on"),
        ({"valid_share": "0.8"}, "14: creatives.valid_share", "no campaign to train on"),
        ({"test_share": "0.5", "valid_share": "0.5"}, "14: creatives.test_share", "no campaign"),
    ],
)
def test_rows_and_parts_that_cannot_be(tmp_path, lines, where, text):
    (line,) = pipeline_lines(tmp_path, block(**lines), BOTH)
    assert line.startswith(f"pipe.yaml:{where}: ") and text in line and line.endswith("[P017]")


def test_a_delivery_log_is_daily(tmp_path):
    (line,) = pipeline_lines(tmp_path, edited(WITH, ("log/{date}", "log/all")), BOTH)
    assert line.startswith("pipe.yaml:14: creatives.delivery.path: a delivery log has daily files")


def test_causes_that_logs_tell_are_known(tmp_path):
    for causes, lacking in (("cut_out", "wear_out"), ("cut_out, tired", "wear_out")):
        spec = edited(BOTH, ("event: c,", f"event: c, cause: d, causes: [{causes}],"))
        (line,) = pipeline_lines(tmp_path, WITH, spec)
        assert line.startswith("pipe.yaml:13: creatives.source: stops in a delivery log are")
        assert f"knows no {lacking}. Declare `causes: [cut_out, wear_out]` there" in line
    both = edited(BOTH, ("event: c,", "event: c, cause: d, causes: [wear_out, cut_out],"))
    assert pipeline_lines(tmp_path, WITH, both) == []


VOCAB = "item: {dim: 8, ids: {kind: vocab}}"


def test_a_vocabulary_is_fitted_on_one_source(tmp_path):
    """Both read the item table: views by three inputs, ads by those without `sources`."""
    spec = edited(BOTH, (HASHED, VOCAB))
    (line,) = pipeline_lines(tmp_path, WITH, spec)
    assert line.startswith("pipe.yaml:13: creatives.source: both sources read table 'item', whose")
    assert line.endswith("[P019]")
    # A sequence field reads it as well: the features alone would not tell.
    spec = edited(
        spec,
        ("column: item, table: item}", "column: item, table: item, sources: [views]}"),
        ("table: item, max_len: 4}", "table: item, max_len: 4, sources: [ads]}"),
    )
    assert [line[-6:] for line in pipeline_lines(tmp_path, WITH, spec)] == ["[P019]"]
    alone = edited(spec, ("max_len: 4, sources: [ads]}", "max_len: 4, sources: [views]}"))
    own = "  - {name: made, kind: id, table: made, sources: [ads]}\nsequences:\n"
    made = "  made: {dim: 8, ids: {kind: vocab}}\nfeatures:\n"
    alone = edited(alone, ("sequences:\n", own), ("features:\n", made))
    assert pipeline_lines(tmp_path, WITH, alone) == []


def test_a_number_is_scaled_by_one_source(tmp_path):
    shared = edited(BOTH, ("kind: number, sources: [views],", "kind: number,"))
    (line,) = pipeline_lines(tmp_path, WITH, shared)
    assert "creatives.source: both sources read 'age', scaled as the rows of one are" in line
    given = edited(shared, ("{zscore: fit}", "{zscore: [2.0, 1.0]}"))
    assert pipeline_lines(tmp_path, WITH, given) == []
