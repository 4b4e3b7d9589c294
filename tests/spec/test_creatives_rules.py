"""S031 and P017: survival labels, and the ad-level source of a pipeline."""

import pytest

from tests.spec.files import PIPELINE, SPEC, edited, pipeline_lines, shown, spec_lines

ADS = """\
  ads:
    keys: {row_id: row, time: day}
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
)
CREATIVES = """\
creatives:
  source: ads
  delivery: {path: "log/{date}.parquet"}
  sides:
    items: {path: items.parquet}
split: {valid: 1d, test: 2d}
"""
WITH = edited(PIPELINE, ("split: {valid: 1d, test: 2d}\n", CREATIVES))


def test_a_pipeline_with_creatives_loads(tmp_path):
    assert pipeline_lines(tmp_path, WITH, BOTH) == []


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (
            ("source: ads", "source: add"),
            (13, "creatives.source", "no other source 'add', did you mean 'ads'? [P017]"),
        ),
        (
            ("source: ads", "source: views"),
            (13, "creatives.source", "no other source 'views'; known: ads. [P017]"),
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
