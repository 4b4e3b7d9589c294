"""File < environment < `--set`, and what an override may not do."""

import pytest

from recsys_mtl.errors import ConfigError
from recsys_mtl.spec.load import load_pipeline
from tests.spec.files import PIPELINE, SPEC, edited, pipeline_lines, write


def test_flags_win_over_the_environment_which_wins_over_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("RECSYS_SET_TRAINING__SEED", "2")
    monkeypatch.setenv("RECSYS_SET_TRAINING__EPOCHS", "5")
    flag = "training.epochs=7"
    loaded = load_pipeline(write(tmp_path), [flag, "objectives.tasks.buy.weight=0.5"])
    assert (loaded.pipeline.training.seed, loaded.pipeline.training.epochs) == (2, 7)
    assert loaded.pipeline.objectives.weight("buy") == 0.5
    assert loaded.origins == {
        "training.seed": "RECSYS_SET_TRAINING__SEED",
        "training.epochs": f"--set {flag}",
        "objectives.tasks.buy.weight": "--set objectives.tasks.buy.weight=0.5",
    }


def test_nothing_is_overridden_without_being_asked(tmp_path):
    assert load_pipeline(write(tmp_path)).origins == {}


REFUSED = {
    "training.epoch=1": "--set training.epoch=1: unknown key 'epoch', did you mean 'epochs'? "
    "[S002]",
    "trainig.epochs=1": "--set trainig.epochs=1: unknown key 'trainig', did you mean 'training'? "
    "[S002]",
    "training.epochs": "--set training.epochs: no '=' found. Write --set a.b=value. [S002]",
    "training.epochs=many": "--set training.epochs=many: training.epochs: found 'many'; expected a "
    "whole number. [S003]",
    "training.epochs=": "--set training.epochs=: training.epochs: found nothing; expected a whole "
    "number. [S003]",
    "training.dense.lr=1e-3": "--set training.dense.lr=1e-3: training.dense.lr: 1e-3 is text in "
    "YAML. Write 0.001, or quote it. [S001]",
    "training.seed.x=1": "--set training.seed.x=1: unknown key 'x'; training.seed is one value, "
    "set it as a whole. [S002]",
    "evaluation.slices.0=item_id": "--set evaluation.slices.0=item_id: unknown key '0'; "
    "evaluation.slices is one value, set it as a whole. [S002]",
    "model.tower.kind=moe": "--set model.tower.kind=moe: model.tower.kind: unknown kind 'moe', did "
    "you mean 'mmoe'? [S003]",
    "gate.floors={clik: {auc: 0.6}}": "--set gate.floors={clik: {auc: 0.6}}: gate.floors.clik: "
    "unknown task 'clik', did you mean 'click'? [P012]",
    "gate.alpha=!!float 1": "--set gate.alpha=!!float 1:1: tag tag:yaml.org,2002:float is refused. "
    "Remove it. [S001]",
    "gate.alpha=[": "--set gate.alpha=[:1: not YAML: expected the node content, but found "
    "'<stream end>'. [S001]",
}


@pytest.mark.parametrize(("flag", "line"), REFUSED.items(), ids=REFUSED)
def test_a_wrong_override_names_its_flag(tmp_path, flag, line):
    assert pipeline_lines(tmp_path, PIPELINE, SPEC, flag) == [line]


def test_a_wrong_variable_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("RECSYS_SET_TRAINING__EPOCH", "1")
    assert pipeline_lines(tmp_path, PIPELINE) == [
        "RECSYS_SET_TRAINING__EPOCH: unknown key 'epoch', did you mean 'epochs'? [S002]"
    ]


def test_a_new_kind_drops_the_options_of_the_old_and_keeps_its_own_in_any_order(tmp_path):
    flags = ["model.tower.dim=32", "model.tower.kind=shared_bottom"]
    for order in (flags, flags[::-1]):
        tower = load_pipeline(write(tmp_path), order).pipeline.model.tower
        assert (tower.kind, tower.dim) == ("shared_bottom", 32)


def test_options_of_another_kind_are_refused_not_dropped(tmp_path):
    flags = ["model.tower.num_experts=8", "model.tower.kind=shared_bottom"]
    assert pipeline_lines(tmp_path, PIPELINE, SPEC, *flags) == [
        "--set model.tower.num_experts=8: unknown key 'num_experts'; known: dim, hidden, kind. "
        "[S002]"
    ]


def test_an_option_of_a_block_left_to_its_default_keeps_the_default_kind(tmp_path):
    text = edited(PIPELINE, ("model:\n  tower: {kind: mmoe, num_experts: 4}\n", ""))
    path = write(tmp_path, SPEC, text)
    tower = load_pipeline(path, ["model.tower.num_experts=9"]).pipeline.model.tower
    assert (tower.kind, tower.num_experts) == ("mmoe", 9)


def test_an_override_mends_a_fault_of_the_file(tmp_path):
    path = write(tmp_path, SPEC, edited(PIPELINE, ("seed: 1", "seed: one")))
    with pytest.raises(ConfigError, match="expected a whole number"):
        load_pipeline(path)
    assert load_pipeline(path, ["training.seed=3"]).pipeline.training.seed == 3
