"""Promotion, rollback and the ledger, against a registry in memory."""

import json
from dataclasses import dataclass, field

import pytest

from recsys_mtl.artifacts.lock import stage_lock
from recsys_mtl.errors import (
    ConfigError,
    GateHeldError,
    GateRefusedError,
    IntegrityError,
    TransientError,
)
from recsys_mtl.registry import promote as module
from recsys_mtl.registry.decision import Decision, Verdict
from recsys_mtl.registry.ledger import Ledger
from recsys_mtl.registry.mlflow_registry import ModelVersion
from recsys_mtl.registry.promote import promote, rollback

V1, V2 = ModelVersion("m", "1", "a" * 64), ModelVersion("m", "2", "b" * 64)


@dataclass
class MemoryRegistry:
    """Aliases and tags in memory; `broken` versions fail to load."""

    name: str = "m"
    aliases: dict = field(default_factory=dict)
    tags: dict = field(default_factory=dict)
    broken: set = field(default_factory=set)

    def by_alias(self, alias):
        return {"1": V1, "2": V2}.get(self.aliases.get(alias))

    def set_alias(self, alias, version):
        self.aliases[alias] = version

    def remove_alias(self, alias):
        self.aliases.pop(alias, None)

    def tag(self, version, key, value):
        self.tags[version, key] = value

    def bundle_dir(self, version):
        return version


@pytest.fixture
def registry(monkeypatch):
    made = MemoryRegistry()

    @dataclass
    class Loaded:
        sha: str

    def load(version):
        if version.version in made.broken:
            raise IntegrityError("broken bundle")
        return Loaded(version.bundle_sha)

    monkeypatch.setattr(module, "load_bundle", load)
    return made


def decision(candidate, champion=None, verdict=Verdict.PROMOTE):
    facts = {
        "challenger": {"bundle_sha": candidate.bundle_sha},
        "champion": {"bundle_sha": champion.bundle_sha} if champion else None,
    }
    return Decision(verdict, (), None, (), facts)


def actions(home):
    return [entry["action"] for entry in Ledger(home, "m").entries()]


def test_aliases_move_and_the_ledger_says_so(tmp_path, registry):
    promote(tmp_path, registry, V1, decision(V1))
    promote(tmp_path, registry, V2, decision(V2, V1))
    assert registry.aliases == {"champion": "2", "previous_champion": "1"}
    assert actions(tmp_path) == ["promote-begin", "promote-done"] * 2
    assert registry.tags["2", "validation_status"] == "approved"


def test_promoting_the_champion_again_changes_nothing(tmp_path, registry):
    promote(tmp_path, registry, V1, decision(V1))
    promote(tmp_path, registry, V1, decision(V1))
    assert actions(tmp_path) == ["promote-begin", "promote-done"]


@pytest.mark.parametrize(
    ("verdict", "error"),
    [
        (Verdict.REFUSE, GateRefusedError),
        (Verdict.HOLD, GateHeldError),
        (Verdict.INTEGRITY, IntegrityError),
    ],
)
def test_only_a_promote_verdict_moves_the_alias(tmp_path, registry, verdict, error):
    with pytest.raises(error):
        promote(tmp_path, registry, V1, decision(V1, verdict=verdict))
    assert registry.aliases == {}
    assert not any(action.startswith("promote") for action in actions(tmp_path))


def test_a_decision_about_another_candidate_is_refused(tmp_path, registry):
    with pytest.raises(IntegrityError, match="the decision is about bundle"):
        promote(tmp_path, registry, V2, decision(V1))


def test_a_champion_that_moved_since_is_detected(tmp_path, registry):
    promote(tmp_path, registry, V1, decision(V1))
    with pytest.raises(IntegrityError, match="champion moved"):
        promote(tmp_path, registry, V2, decision(V2, None))
    assert registry.aliases["champion"] == "1"


def test_a_candidate_that_does_not_load_leaves_the_champion(tmp_path, registry):
    promote(tmp_path, registry, V1, decision(V1))
    registry.broken.add("2")
    with pytest.raises(IntegrityError, match="broken bundle"):
        promote(tmp_path, registry, V2, decision(V2, V1))
    assert registry.aliases["champion"] == "1"
    assert actions(tmp_path)[-1] == "promote-done"


def test_rollback_restores_the_previous_champion(tmp_path, registry):
    promote(tmp_path, registry, V1, decision(V1))
    promote(tmp_path, registry, V2, decision(V2, V1))
    assert rollback(tmp_path, registry, "bad scores") == V1
    assert registry.aliases == {"champion": "1", "previous_champion": "2"}
    assert registry.tags["2", "validation_status"] == "refused"
    assert Ledger(tmp_path, "m").entries()[-1]["reason"] == "bad scores"


def test_rollback_to_a_broken_bundle_keeps_the_champion(tmp_path, registry):
    promote(tmp_path, registry, V1, decision(V1))
    promote(tmp_path, registry, V2, decision(V2, V1))
    registry.broken.add("1")
    with pytest.raises(IntegrityError):
        rollback(tmp_path, registry, "x")
    assert registry.aliases["champion"] == "2"


def test_rollback_without_a_previous_champion_is_refused(tmp_path, registry):
    with pytest.raises(ConfigError, match="no previous champion"):
        rollback(tmp_path, registry, "x")


def test_a_second_promoter_is_told_to_come_back(tmp_path, registry):
    with stage_lock(tmp_path / "m" / "promotion"), pytest.raises(TransientError):
        promote(tmp_path, registry, V1, decision(V1))


@pytest.mark.parametrize("alias", ["previous_champion", "champion"])
def test_a_promotion_that_was_cut_short_is_finished_by_the_next(
    tmp_path, registry, monkeypatch, alias
):
    promote(tmp_path, registry, V1, decision(V1))
    original = registry.set_alias

    def dies(name, version):
        if name == alias:
            raise KeyboardInterrupt
        original(name, version)

    monkeypatch.setattr(registry, "set_alias", dies)
    with pytest.raises(KeyboardInterrupt):
        promote(tmp_path, registry, V2, decision(V2, V1))
    assert registry.aliases["champion"] == "1"
    monkeypatch.setattr(registry, "set_alias", original)
    promote(tmp_path, registry, V2, decision(V2, V1))
    assert registry.aliases == {"champion": "2", "previous_champion": "1"}
    assert actions(tmp_path)[-2:] == ["promote-begin", "promote-done"]


def edit(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_an_edited_a_removed_and_a_reordered_entry_are_detected(tmp_path):
    ledger = Ledger(tmp_path, "m")
    for number in range(3):
        ledger.append("note", {"number": number})
    paths = sorted(ledger.directory.glob("*.json"))
    saved = [p.read_text() for p in paths]
    edit(paths[1], number=9)
    with pytest.raises(IntegrityError, match="was changed"):
        ledger.entries()
    paths[1].unlink()
    with pytest.raises(IntegrityError):
        ledger.append("note", {})
    paths[0].write_text(saved[1])
    paths[1].write_text(saved[0])
    with pytest.raises(IntegrityError):
        ledger.entries()
    for path, text in zip(paths, saved, strict=True):
        path.write_text(text)
    assert [e["number"] for e in ledger.entries()] == [0, 1, 2]
