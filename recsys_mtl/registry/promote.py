"""Moving the champion alias: locked, checked, ledgered, and repaired after a crash.

Order: load the new bundle, ledger `promote-begin`, alias `previous_champion`, alias `champion`,
read back and load, tags, ledger `promote-done`. The champion is the old or the new version at
every moment, never none. A rerun after a crash finds the open entry and finishes it.

The lock is a file below `home`: promoters of one model must share that folder.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recsys_mtl.artifacts.lock import stage_lock
from recsys_mtl.errors import (
    ConfigError,
    GateHeldError,
    GateRefusedError,
    IntegrityError,
    Problem,
    TransientError,
)
from recsys_mtl.registry.bundle import load_bundle
from recsys_mtl.registry.decision import Decision, Verdict
from recsys_mtl.registry.ledger import CHAIN, Ledger
from recsys_mtl.registry.mlflow_registry import STATUS, Alias, ModelVersion, Registry

_STATUS_OF = {Verdict.HOLD: "held", Verdict.REFUSE: "refused", Verdict.INTEGRITY: "refused"}


def promote(
    home: Path, registry: Registry, candidate: ModelVersion, decision: Decision
) -> ModelVersion:
    """Make the candidate the champion, as a decision allows.

    A promotion that was killed is finished first. A candidate that is the champion already is
    returned as it is.

    Args:
        home: folder of all artifacts.
        registry: of the pipeline.
        candidate: the version that the decision is about.
        decision: of the gate.

    Raises:
        GateRefusedError: if the verdict is REFUSE, or the bundle was rolled back before.
        GateHeldError: if the verdict is HOLD.
        IntegrityError: if the verdict is INTEGRITY, the decision is about another candidate, the
            champion moved since, or the ledger or a bundle does not verify; the aliases are as
            before.
        TransientError: if another promotion is under way, or MLflow cannot be reached.
    """
    with _promoting(home, registry) as ledger:
        _finish_open(registry, ledger)
        champion = _champion(registry, ledger)
        if champion is not None and champion.bundle_sha == candidate.bundle_sha:
            return champion
        _check_subject(decision, candidate)
        _record(registry, ledger, candidate, decision)
        _check_verdict(decision)
        _check_expected(decision, champion)
        _check_history(ledger, candidate)
        return _move(registry, ledger, "promote", candidate, champion, _facts(decision))


def rollback(home: Path, registry: Registry, reason: str) -> ModelVersion:
    """Make the previous champion the champion again; a rerun with the same reason does no more.

    Args:
        home: folder of all artifacts.
        registry: of the pipeline.
        reason: for the ledger.

    Returns:
        The champion from now on.

    Raises:
        ConfigError: if there is no previous champion, or no reason.
        IntegrityError: if its bundle or the ledger does not verify; the champion stays.
        TransientError: as `promote`.
    """
    if not reason.strip():
        raise ConfigError("a rollback needs a reason; give --reason")
    with _promoting(home, registry) as ledger:
        _finish_open(registry, ledger)
        champion, previous = _champion(registry, ledger), registry.by_alias("previous_champion")
        if champion is None or previous is None:
            raise ConfigError(f"{registry.name}: there is no previous champion to roll back to")
        entries = ledger.entries()
        if entries and entries[-1]["action"] == "rollback-done" and entries[-1]["reason"] == reason:
            return champion
        return _move(registry, ledger, "rollback", previous, champion, {"reason": reason})


def record(home: Path, registry: Registry, candidate: ModelVersion, decision: Decision) -> None:
    """Note a refusal or a hold in the ledger and on the version, once per decision.

    Raises:
        IntegrityError: if the decision is about another candidate, or the ledger does not verify.
        TransientError: as `promote`.
    """
    with _promoting(home, registry) as ledger:
        _check_subject(decision, candidate)
        _record(registry, ledger, candidate, decision)


def settle(home: Path, registry: Registry) -> ModelVersion | None:
    """Finish a promotion or rollback that was killed; the champion after that.

    Verbs that act on the champion call it first. `rollback` must not: it settles by itself, and
    tells its own rerun from a second rollback by that.

    Raises:
        IntegrityError: if the ledger does not verify, or the alias is not where it says.
        TransientError: as `promote`.
    """
    with _promoting(home, registry) as ledger:
        _finish_open(registry, ledger)
        return _champion(registry, ledger)


def verify(home: Path, registry: Registry) -> int:
    """Recompute the ledger's chain and compare its last promotion with the champion.

    Returns:
        The number of entries.

    Raises:
        IntegrityError: if the chain is broken, or the alias is not where the ledger says.
        TransientError: if a promotion was killed and not yet finished, or as `promote`.
    """
    with _promoting(home, registry) as ledger:
        if _open_entry(ledger) is not None:
            fix = "rerun the verb that was killed, or any promotion"
            raise TransientError(f"{ledger.directory}: a promotion was not finished; {fix}")
        _champion(registry, ledger)
        return len(ledger.entries())


@contextmanager
def _promoting(home: Path, registry: Registry) -> Iterator[Ledger]:
    with stage_lock(home / registry.name / "promotion"):
        yield Ledger(home, registry.name)


def _champion(registry: Registry, ledger: Ledger) -> ModelVersion | None:
    """The champion, if the ledger agrees."""
    done = [e for e in ledger.entries() if e["action"].endswith("-done")]
    expected = done[-1]["candidate"]["bundle_sha"] if done else None
    champion = registry.by_alias("champion")
    found = champion.bundle_sha if champion else None
    if found != expected:
        raise IntegrityError(
            Problem(
                f"{registry.name}, alias champion",
                f"is bundle {_short(found)}, the ledger's last champion is {_short(expected)}",
                "The alias was moved behind the ledger's back, or entries were removed from its"
                " end: find out which, then put back the alias or the entries.",
            )
        )
    return champion


def _check_subject(decision: Decision, candidate: ModelVersion) -> None:
    judged = decision.facts["challenger"]["bundle_sha"]
    if judged != candidate.bundle_sha:
        raise IntegrityError(
            f"the decision is about bundle {_short(judged)}, the candidate is "
            f"{_short(candidate.bundle_sha)}; run the gate again"
        )


def _check_verdict(decision: Decision) -> None:
    text = "; ".join(decision.reasons) or f"the gate said {decision.verdict}"
    match decision.verdict:
        case Verdict.REFUSE:
            raise GateRefusedError(text)
        case Verdict.HOLD:
            raise GateHeldError(text)
        case Verdict.INTEGRITY:
            raise IntegrityError(text)


def _check_expected(decision: Decision, champion: ModelVersion | None) -> None:
    expected = decision.facts["champion"]
    expected_sha = expected["bundle_sha"] if expected else None
    found = champion.bundle_sha if champion else None
    if found != expected_sha:
        raise IntegrityError(
            f"the champion moved since the gate looked: it was {_short(expected_sha)}, it is "
            f"{_short(found)}; run the gate again"
        )


def _check_history(ledger: Ledger, candidate: ModelVersion) -> None:
    """Refuse a bundle that was rolled back from, unless a later rollback returned to it."""
    bad: set[str] = set()
    for entry in ledger.entries():
        if entry["action"] == "rollback-done":
            bad.add(entry["expected_champion"]["bundle_sha"])
            bad.discard(entry["candidate"]["bundle_sha"])
    if candidate.bundle_sha in bad:
        raise GateRefusedError(
            f"bundle {_short(candidate.bundle_sha)} was rolled back before; train another one"
        )


def _facts(decision: Decision) -> dict[str, Any]:
    return {
        "verdict": decision.verdict,
        "reasons": list(decision.reasons),
        "decision_sha": hashlib.sha256(decision.to_bytes()).hexdigest(),
        "input_fp": decision.facts["challenger"].get("input_fp"),
        "holdout_fp": decision.facts["challenger"].get("holdout_fp"),
    }


def _record(
    registry: Registry, ledger: Ledger, candidate: ModelVersion, decision: Decision
) -> None:
    status = _STATUS_OF.get(decision.verdict)
    if status is None:
        return
    facts = _facts(decision)
    if facts["decision_sha"] not in {e.get("decision_sha") for e in ledger.entries()}:
        subject = {"model": registry.name, "candidate": _named(candidate)}
        ledger.append(f"gate-{status}", {**facts, **subject})
    registry.tag(candidate.version, STATUS, status)


def _move(
    registry: Registry,
    ledger: Ledger,
    action: str,
    new: ModelVersion,
    old: ModelVersion | None,
    facts: Mapping[str, Any],
) -> ModelVersion:
    _load(registry, new)
    before = registry.by_alias("previous_champion")
    entry = {
        **facts,
        "model": registry.name,
        "candidate": _named(new),
        "expected_champion": _named(old) if old else None,
        "expected_previous": _named(before) if before else None,
    }
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
        if champion is None or _named(champion) != new:
            raise IntegrityError(
                Problem(registry.name, "the champion read back is not the one that was set")
            )
        _load(registry, champion)
    except IntegrityError:
        _put(registry, "champion", old)
        _put(registry, "previous_champion", entry["expected_previous"])
        ledger.append(f"{action}-failed", entry)
        raise
    registry.tag(champion.version, STATUS, "approved")
    if action == "rollback":
        registry.tag(old["version"], STATUS, "refused")
    ledger.append(f"{action}-done", entry)
    return champion


def _load(registry: Registry, version: ModelVersion) -> None:
    found = load_bundle(registry.bundle_dir(version)).sha
    if found != version.bundle_sha:
        raise IntegrityError(
            Problem(
                f"{registry.name} version {version.version}",
                f"holds bundle {_short(found)}, registered was {_short(version.bundle_sha)}",
                "Do not use this version; train again or roll back.",
            )
        )


def _put(registry: Registry, alias: Alias, version: Mapping[str, str] | None) -> None:
    if version is None:
        registry.remove_alias(alias)
    else:
        registry.set_alias(alias, version["version"])


def _open_entry(ledger: Ledger) -> dict[str, Any] | None:
    """The last move that was begun and neither done nor undone."""
    moves = [e for e in ledger.entries() if not e["action"].startswith("gate-")]
    return moves[-1] if moves and moves[-1]["action"].endswith("-begin") else None


def _finish_open(registry: Registry, ledger: Ledger) -> None:
    entry = _open_entry(ledger)
    if entry is not None:
        facts = {k: v for k, v in entry.items() if k not in CHAIN}
        _finish(registry, ledger, entry["action"].removesuffix("-begin"), facts)


def _named(version: ModelVersion) -> dict[str, str]:
    return {"version": version.version, "bundle_sha": version.bundle_sha}


def _short(sha: str | None) -> str:
    return sha[:12] if sha else "none"
