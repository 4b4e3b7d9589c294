"""Moving the champion alias: locked, checked, ledgered, and repaired after a crash.

Order: ledger `promote-begin`, alias `previous_champion`, alias `champion`, read back and load,
ledger `promote-done`. The champion is the old or the new version at every moment, never none.
A rerun after a crash finds the open entry and finishes it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys_mtl.artifacts.lock import stage_lock
from recsys_mtl.errors import (
    ConfigError,
    GateHeldError,
    GateRefusedError,
    IntegrityError,
    Problem,
    RecsysError,
)
from recsys_mtl.registry.bundle import load_bundle
from recsys_mtl.registry.decision import Decision, Verdict
from recsys_mtl.registry.ledger import Ledger
from recsys_mtl.registry.mlflow_registry import ModelVersion, Registry

_OPEN = {"promote-begin", "rollback-begin"}


def promote(
    home: Path, registry: Registry, candidate: ModelVersion, decision: Decision
) -> ModelVersion:
    """Make the candidate the champion, as a decision allows.

    Raises:
        GateRefusedError, GateHeldError: if the verdict is not PROMOTE.
        IntegrityError: if the decision is about another candidate, or the champion has moved
            since; the aliases are as before.
        TransientError: if another promotion is under way.
    """
    _check_verdict(decision)
    judged = decision.facts["challenger"]["bundle_sha"]
    if judged != candidate.bundle_sha:
        raise IntegrityError(
            f"the decision is about bundle {judged[:12]}, the candidate is "
            f"{candidate.bundle_sha[:12]}; run the gate again"
        )
    expected = decision.facts["champion"]
    with stage_lock(home / registry.name / "promotion"):
        _repair(home, registry)
        champion = registry.by_alias("champion")
        if champion is not None and champion.bundle_sha == candidate.bundle_sha:
            return champion
        found = champion.bundle_sha if champion else None
        if found != (expected["bundle_sha"] if expected else None):
            raise IntegrityError("the champion moved since the gate looked; run the gate again")
        facts = {"verdict": decision.verdict, "reasons": list(decision.reasons)}
        return _move(home, registry, "promote", candidate, champion, facts)


def rollback(home: Path, registry: Registry, reason: str) -> ModelVersion:
    """Make the previous champion the champion again.

    Raises:
        ConfigError: if there is no previous champion.
        IntegrityError: if its bundle does not verify; the champion stays.
    """
    with stage_lock(home / registry.name / "promotion"):
        _repair(home, registry)
        champion, previous = registry.by_alias("champion"), registry.by_alias("previous_champion")
        if champion is None or previous is None:
            raise ConfigError(f"{registry.name}: there is no previous champion to roll back to")
        load_bundle(registry.bundle_dir(previous))
        done = _move(home, registry, "rollback", previous, champion, {"reason": reason})
        registry.tag(champion.version, "validation_status", "refused")
        return done


def _check_verdict(decision: Decision) -> None:
    text = "; ".join(decision.reasons) or f"the gate said {decision.verdict}"
    match decision.verdict:
        case Verdict.REFUSE:
            raise GateRefusedError(text)
        case Verdict.HOLD:
            raise GateHeldError(text)
        case Verdict.INTEGRITY:
            raise IntegrityError(text)


def _move(
    home: Path,
    registry: Registry,
    action: str,
    new: ModelVersion,
    old: ModelVersion | None,
    facts: Mapping[str, Any],
) -> ModelVersion:
    entry = {
        **facts,
        "model": registry.name,
        "candidate": {"version": new.version, "bundle_sha": new.bundle_sha},
        "expected_champion": {"version": old.version, "bundle_sha": old.bundle_sha}
        if old
        else None,
    }
    ledger = Ledger(home, registry.name)
    ledger.append(f"{action}-begin", entry)
    return _finish(registry, ledger, action, entry)


def _finish(
    registry: Registry, ledger: Ledger, action: str, entry: Mapping[str, Any]
) -> ModelVersion:
    """Set the aliases that an entry announces, check them, and close the entry."""
    old, new = entry["expected_champion"], entry["candidate"]
    try:
        if old is not None:
            registry.set_alias("previous_champion", old["version"])
        registry.set_alias("champion", new["version"])
        champion = registry.by_alias("champion")
        if champion is None or champion.bundle_sha != new["bundle_sha"]:
            raise IntegrityError(
                Problem(registry.name, "the champion read back is not the one that was set")
            )
        found = load_bundle(registry.bundle_dir(champion)).sha
        if found != champion.bundle_sha:
            raise IntegrityError(Problem(registry.name, f"version holds bundle {found[:12]}"))
    except RecsysError:
        _undo(registry, old)
        ledger.append(f"{action}-failed", entry)
        raise
    registry.tag(champion.version, "validation_status", "approved")
    ledger.append(f"{action}-done", entry)
    return champion


def _undo(registry: Registry, old: Mapping[str, str] | None) -> None:
    if old is None:
        registry.remove_alias("champion")
    else:
        registry.set_alias("champion", old["version"])


def _repair(home: Path, registry: Registry) -> None:
    """Finish what a killed promotion began."""
    ledger = Ledger(home, registry.name)
    entries = ledger.entries()
    if entries and entries[-1]["action"] in _OPEN:
        action = entries[-1]["action"].removesuffix("-begin")
        names = {"seq", "time", "action", "parent_hash", "hash"}
        _finish(registry, ledger, action, {k: v for k, v in entries[-1].items() if k not in names})
