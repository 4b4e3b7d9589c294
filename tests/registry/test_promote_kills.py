"""Promotion and rollback under SIGKILL, rivals, failures half way, and hands on the aliases.

The registry is a JSON file, because what a killed process did must outlive it.
"""

import json
import multiprocessing
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from recsys_mtl.errors import (
    ConfigError,
    GateHeldError,
    GateRefusedError,
    IntegrityError,
    TransientError,
)
from recsys_mtl.registry import promote as module
from recsys_mtl.registry.decision import Check, Decision, Verdict
from recsys_mtl.registry.ledger import Ledger
from recsys_mtl.registry.mlflow_registry import ModelVersion
from recsys_mtl.registry.promote import promote, record, rollback, settle, verify

VERSIONS = {str(n): ModelVersion("m", str(n), letter * 64) for n, letter in enumerate("abcd", 1)}
V1, V2, V3, V4 = VERSIONS.values()
FORK = multiprocessing.get_context("fork")
STEPS = ("load_bundle", "append", "set_alias", "by_alias", "tag")


class FileRegistry:
    """Aliases and tags in a file; `broken` versions do not load."""

    name = "m"

    def __init__(self, home):
        self.path = home / "registry.json"
        self.broken = set()

    def _state(self):
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def _put(self, key, value):
        state = {**self._state(), key: value}
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps({k: v for k, v in state.items() if v is not None}))
        temporary.replace(self.path)

    def by_alias(self, alias):
        return VERSIONS.get(self._state().get(alias))

    def set_alias(self, alias, version):
        self._put(alias, version)

    def remove_alias(self, alias):
        self._put(alias, None)

    def tag(self, version, key, value):
        self._put(f"{version}.{key}", value)

    def status(self, version):
        return self._state().get(f"{version.version}.validation_status")

    def aliases(self):
        return tuple(self._state().get(a) for a in ("champion", "previous_champion"))

    def bundle_dir(self, version):
        return Path(version.version)


@dataclass
class LoadedBundle:
    sha: str


@pytest.fixture
def registry(tmp_path, monkeypatch):
    made = FileRegistry(tmp_path)

    def load(directory):
        if directory.name in made.broken:
            raise IntegrityError(f"bundle of version {directory.name} is broken")
        return LoadedBundle(VERSIONS[directory.name].bundle_sha)

    monkeypatch.setattr(module, "load_bundle", load)
    return made


def decision(candidate, champion=None, verdict=Verdict.PROMOTE):
    facts = {
        "challenger": {"bundle_sha": candidate.bundle_sha},
        "champion": {"bundle_sha": champion.bundle_sha} if champion else None,
    }
    checks = (Check("guardrail", verdict, f"{verdict}: conv AUC -0.0011", "conv", "auc"),)
    return Decision(verdict, checks, None, (), facts)


def actions(home):
    return [entry["action"] for entry in Ledger(home, "m").entries()]


def promote_all(home, registry, *versions):
    for old, new in zip((None, *versions), versions, strict=False):
        promote(home, registry, new, decision(new, old))


def watched(registry, on_call):
    """Run `on_call(moment)` before and after every step of a promotion, in this process."""

    def wrap(owner, name):
        original = getattr(owner, name)

        def call(*arguments):
            on_call(f"before {name}")
            result = original(*arguments)
            on_call(f"after {name}")
            return result

        setattr(owner, name, call)

    wrap(module, "load_bundle")
    wrap(Ledger, "append")
    for name in STEPS[2:]:
        wrap(registry, name)


def in_a_child(registry, action, kill_at=None):
    """Run `action` in a forked process; SIGKILL it at a moment (number or name); what it did."""
    here, there = FORK.Pipe(duplex=False)

    def body():
        moments = 0

        def on_call(moment):
            nonlocal moments
            moments += 1
            there.send(moment)
            if kill_at in (moments, moment):
                os.kill(os.getpid(), signal.SIGKILL)

        watched(registry, on_call)
        action()

    child = FORK.Process(target=body)
    child.start()
    there.close()
    moments = []
    try:
        while True:
            moments.append(here.recv())
    except EOFError:
        child.join()
    return child.exitcode, moments


def check_killed_everywhere(tmp_path, make_registry, prepare, action, after):
    """Kill at every moment; the champion is always one of two; a rerun ends as if undisturbed."""
    home = tmp_path / "undisturbed"
    registry = make_registry(home)
    prepare(home, registry)
    before = registry.aliases()
    code, moments = in_a_child(registry, lambda: action(home, registry))
    assert code == 0 and registry.aliases() == after
    assert {moment.split()[1] for moment in moments} == set(STEPS)
    expected = actions(home)
    for number in range(1, len(moments) + 1):
        home = tmp_path / str(number)
        registry = make_registry(home)
        prepare(home, registry)
        code, _ = in_a_child(registry, lambda h=home, r=registry: action(h, r), number)
        assert code == -signal.SIGKILL
        assert registry.aliases()[0] in (before[0], after[0]), moments[number - 1]
        assert registry.aliases()[0] is not None
        action(home, registry)
        assert registry.aliases() == after, moments[number - 1]
        assert actions(home) == expected, moments[number - 1]
        assert verify(home, registry) == len(expected)


@pytest.fixture
def make_registry(registry):
    def make(home):
        home.mkdir()
        return FileRegistry(home)

    return make


def test_promotion_killed_at_any_moment_is_finished_by_its_rerun(tmp_path, make_registry):
    check_killed_everywhere(
        tmp_path,
        make_registry,
        lambda home, registry: promote_all(home, registry, V1, V2),
        lambda home, registry: promote(home, registry, V3, decision(V3, V2)),
        ("3", "2"),
    )


def test_rollback_killed_at_any_moment_is_finished_by_its_rerun_and_not_doubled(
    tmp_path, make_registry
):
    check_killed_everywhere(
        tmp_path,
        make_registry,
        lambda home, registry: promote_all(home, registry, V1, V2),
        lambda home, registry: rollback(home, registry, "scores too high"),
        ("1", "2"),
    )


def test_any_verb_that_asks_for_the_champion_finishes_what_was_killed(tmp_path, registry):
    promote_all(tmp_path, registry, V1)
    code, _ = in_a_child(
        registry, lambda: promote(tmp_path, registry, V3, decision(V3, V1)), "after append"
    )
    assert code == -signal.SIGKILL
    assert registry.aliases()[0] == "1"
    with pytest.raises(TransientError, match="was not finished"):
        verify(tmp_path, registry)
    assert settle(tmp_path, registry) == V3
    assert actions(tmp_path)[-2:] == ["promote-begin", "promote-done"]


def test_of_two_promoters_one_comes_back_later(tmp_path, registry):
    """The other is inside, between the ledger and the aliases, until it is told to go on."""
    inside, go_on = FORK.Event(), FORK.Event()

    def body():
        def pause(moment):
            if moment == "before set_alias" and not inside.is_set():
                inside.set()
                assert go_on.wait(30)

        watched(registry, pause)
        promote(tmp_path, registry, V1, decision(V1))

    rival = FORK.Process(target=body)
    rival.start()
    assert inside.wait(30)
    with pytest.raises(TransientError) as refused:
        promote(tmp_path, registry, V2, decision(V2))
    go_on.set()
    rival.join()
    assert refused.value.exit_code == 75
    assert rival.exitcode == 0
    assert registry.aliases() == ("1", None)
    with pytest.raises(IntegrityError, match="champion moved"):
        promote(tmp_path, registry, V2, decision(V2))


def test_a_bundle_that_breaks_while_it_is_promoted_puts_both_aliases_back(
    tmp_path, registry, monkeypatch
):
    promote_all(tmp_path, registry, V1, V2)
    original = registry.set_alias

    def breaking(alias, version):
        original(alias, version)
        registry.broken.add("3")

    monkeypatch.setattr(registry, "set_alias", breaking)
    with pytest.raises(IntegrityError, match="version 3 is broken"):
        promote(tmp_path, registry, V3, decision(V3, V2))
    assert registry.aliases() == ("2", "1")
    assert actions(tmp_path)[-2:] == ["promote-begin", "promote-failed"]
    monkeypatch.setattr(registry, "set_alias", original)
    assert promote(tmp_path, registry, V4, decision(V4, V2)) == V4
    assert registry.aliases() == ("4", "2")


def test_first_champion_that_breaks_leaves_none(tmp_path, registry, monkeypatch):
    original = registry.set_alias

    def breaking(alias, version):
        original(alias, version)
        registry.broken.add("1")

    monkeypatch.setattr(registry, "set_alias", breaking)
    with pytest.raises(IntegrityError):
        promote(tmp_path, registry, V1, decision(V1))
    assert registry.aliases() == (None, None)
    assert verify(tmp_path, registry) == 2


@pytest.mark.parametrize("alias", ["previous_champion", "champion"])
def test_a_server_that_goes_down_half_way_is_waited_for(tmp_path, registry, monkeypatch, alias):
    promote_all(tmp_path, registry, V1)
    original = registry.set_alias

    def down(name, version):
        if name == alias:
            raise TransientError("MLflow cannot be reached")
        original(name, version)

    monkeypatch.setattr(registry, "set_alias", down)
    with pytest.raises(TransientError):
        promote(tmp_path, registry, V2, decision(V2, V1))
    assert registry.aliases()[0] == "1"
    monkeypatch.setattr(registry, "set_alias", original)
    promote(tmp_path, registry, V2, decision(V2, V1))
    assert registry.aliases() == ("2", "1")
    assert actions(tmp_path) == ["promote-begin", "promote-done"] * 2


def test_a_version_that_holds_another_bundle_is_not_promoted(tmp_path, registry):
    """Files and manifest agree, but they are not what was registered."""
    promote_all(tmp_path, registry, V1)
    swapped = replace(V2, bundle_sha="e" * 64)
    with pytest.raises(IntegrityError, match="holds bundle bbbbbbbbbbbb, registered was eeee"):
        promote(tmp_path, registry, swapped, decision(swapped, V1))
    assert registry.aliases() == ("1", None)


def test_a_rolled_back_bundle_is_not_promoted_again(tmp_path, registry):
    promote_all(tmp_path, registry, V1, V2)
    rollback(tmp_path, registry, "scores too high")
    with pytest.raises(GateRefusedError, match="was rolled back before"):
        promote(tmp_path, registry, V2, decision(V2, V1))
    assert promote(tmp_path, registry, V3, decision(V3, V1)) == V3
    assert promote(tmp_path, registry, V1, decision(V1, V3)) == V1


def test_a_rollback_that_returned_to_a_bundle_clears_it(tmp_path, registry):
    promote_all(tmp_path, registry, V1, V2)
    rollback(tmp_path, registry, "scores too high")
    assert rollback(tmp_path, registry, "it was the dashboard") == V2
    promote(tmp_path, registry, V3, decision(V3, V2))
    assert promote(tmp_path, registry, V2, decision(V2, V3)) == V2
    with pytest.raises(GateRefusedError, match="was rolled back before"):
        promote(tmp_path, registry, V1, decision(V1, V2))


def test_a_rollback_rerun_with_its_reason_does_no_more(tmp_path, registry):
    promote_all(tmp_path, registry, V1, V2)
    for _ in range(2):
        assert rollback(tmp_path, registry, "scores too high") == V1
    assert actions(tmp_path).count("rollback-done") == 1
    with pytest.raises(ConfigError, match="needs a reason"):
        rollback(tmp_path, registry, " ")


@pytest.mark.parametrize(
    ("verdict", "error", "status"),
    [(Verdict.HOLD, GateHeldError, "held"), (Verdict.REFUSE, GateRefusedError, "refused")],
)
def test_what_the_gate_did_not_let_pass_is_noted_once(tmp_path, registry, verdict, error, status):
    promote_all(tmp_path, registry, V1)
    judged = decision(V2, V1, verdict)
    record(tmp_path, registry, V2, judged)
    with pytest.raises(error, match="conv AUC -0.0011"):
        promote(tmp_path, registry, V2, judged)
    assert actions(tmp_path)[2:] == [f"gate-{status}"]
    entry = Ledger(tmp_path, "m").entries()[-1]
    assert entry["candidate"] == {"version": "2", "bundle_sha": "b" * 64}
    assert entry["reasons"] == [f"{verdict}: conv AUC -0.0011"]
    assert registry.status(V2) == status
    assert verify(tmp_path, registry) == 3


def test_nothing_is_noted_for_a_verdict_that_passes(tmp_path, registry):
    record(tmp_path, registry, V1, decision(V1))
    assert actions(tmp_path) == []


def test_an_alias_moved_by_hand_stops_everything(tmp_path, registry):
    promote_all(tmp_path, registry, V1, V2)
    registry.set_alias("champion", "3")
    for verb in (
        lambda: promote(tmp_path, registry, V4, decision(V4, V3)),
        lambda: rollback(tmp_path, registry, "x"),
        lambda: settle(tmp_path, registry),
        lambda: verify(tmp_path, registry),
    ):
        with pytest.raises(IntegrityError, match="behind the ledger's back"):
            verb()
    assert registry.aliases() == ("3", "1")


def test_entries_removed_from_the_end_are_noticed(tmp_path, registry):
    """What is left is an intact chain, but the alias says that something is missing."""
    promote_all(tmp_path, registry, V1, V2)
    for path in sorted(Ledger(tmp_path, "m").directory.iterdir())[-2:]:
        path.unlink()
    assert actions(tmp_path) == ["promote-begin", "promote-done"]
    with pytest.raises(IntegrityError, match="entries were removed"):
        verify(tmp_path, registry)
