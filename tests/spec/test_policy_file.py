"""A policy file gives every problem at its own line."""

from pathlib import Path

import pytest

from recsys_mtl.errors import ConfigError
from recsys_mtl.spec.feature_spec import SurvivalLabel
from recsys_mtl.spec.load import load_pipeline
from recsys_mtl.spec.policy_file import load_policy

ROOT = Path(__file__).resolve().parents[2]
LABEL = SurvivalLabel(
    name="stop",
    entry="entry",
    exit="exit",
    event="stopped",
    causes=("cut_out", "wear_out"),
    cause="cause",
    horizons=(3, 7),
)
TEXT = """\
policy_version: 1
horizon: 7
causes:
  cut_out: {precision: 0.8}
  wear_out: {threshold: 0.4, replace_first: true}
evidence:
  target_ctr: {default: 0.02, genres: {games: 0.03}}
restraint: {hysteresis_days: 3}
"""


def load(folder, *edits, label=LABEL):
    text = TEXT
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "policy.yaml"
    path.write_text(text)
    return load_policy(path, label)


def lines(folder, *edits, label=LABEL):
    with pytest.raises(ConfigError) as caught:
        load(folder, *edits, label=label)
    return [
        str(problem).removeprefix(f"{folder}/policy.yaml:") for problem in caught.value.problems
    ]


def test_defaults_are_careful(tmp_path):
    policy = load(tmp_path)
    assert policy.mode == "shadow"
    assert policy.evidence.probability == 0.9 and policy.evidence.min_impressions == 500
    restraint = policy.restraint
    assert (restraint.keep_live, restraint.hold_out, restraint.cap_per_advertiser) == (1, 0.05, 5)
    assert policy.days_needed("cut_out") == 3 and policy.days_needed("wear_out") == 6


def test_the_shipped_policy_fits_the_shipped_pipeline():
    label = load_pipeline(ROOT / "pipelines" / "ad_creatives.yaml").layout.survival
    policy = load_policy(ROOT / "policies" / "ad_creatives.yaml", label)
    assert policy.mode == "shadow" and policy.horizon in label.horizons
    assert set(policy.causes) == set(label.causes)


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (
            ("hysteresis_days: 3", "hysteresys_days: 3"),
            "8: restraint.hysteresys_days: unknown key 'hysteresys_days', did you mean "
            "'hysteresis_days'? [S002]",
        ),
        (
            ("horizon: 7", "horizon: 5"),
            "2: horizon: label 'stop' reads out 3 and 7 days, not 5. Use one of them, or add it to "
            "the label and train. [P031]",
        ),
        (
            ("  wear_out:", "  wearout:"),
            "5: causes.wearout: label 'stop' has no cause 'wearout', did you mean 'wear_out'? "
            "Correct it. [P031]",
        ),
        (
            ("threshold: 0.4", "threshold: 0.4, precision: 0.9"),
            "5: causes.wear_out.precision: precision would have no effect beside a fixed threshold."
            " Remove one. [P030]",
        ),
        (
            ("horizon: 7", "horizon: 7\nmode: shadows"),
            "3: mode: found 'shadows'; expected 'shadow' or 'act', did you mean 'shadow'? [S003]",
        ),
        (
            ("games: 0.03", "games: 3"),
            "7: evidence.target_ctr.genres.games: found 3; expected less than 1. [S003]",
        ),
        (
            ("precision: 0.8", "precision: 0"),
            "4: causes.cut_out.precision: found 0; expected more than 0. [S003]",
        ),
    ],
)
def test_a_problem_stands_at_its_line(tmp_path, edit, line):
    assert lines(tmp_path, edit) == [line]


def test_all_problems_are_reported_at_once(tmp_path):
    found = lines(
        tmp_path,
        ("horizon: 7", "horizon: 5"),
        ("threshold: 0.4", "threshold: 0.4, min_rows: 9"),
        ("hysteresis_days: 3", "hold_out: 1.5"),
    )
    assert sorted(line.split(":")[0] for line in found) == ["2", "5", "8"]


def test_a_label_without_causes_is_named_itself(tmp_path):
    label = LABEL.model_copy(update={"causes": (), "cause": None})
    edit = ("  cut_out: {precision: 0.8}\n  wear_out: {threshold: 0.4", "  stop: {threshold: 0.4")
    assert set(load(tmp_path, edit, label=label).causes) == {"stop"}
    assert len(lines(tmp_path, label=label)) == 2
