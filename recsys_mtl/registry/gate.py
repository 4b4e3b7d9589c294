"""The promotion gate: two evaluations in, a decision out. It never sees a model."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from recsys_mtl.artifacts.commit import atomic_write, entry_of, make_dir
from recsys_mtl.artifacts.lock import stage_lock
from recsys_mtl.artifacts.manifest import Manifest, is_published, open_artifact, publish
from recsys_mtl.artifacts.runkey import run_key, stage_dir
from recsys_mtl.artifacts.sealed import canonical
from recsys_mtl.errors import ConfigError, IntegrityError, Problem
from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.logloss import CLIP
from recsys_mtl.registry.decision import Decision, worst
from recsys_mtl.registry.gate_checks import holdout_checks, joint_pass_probability
from recsys_mtl.registry.holdout import Contender, Holdout, join_holdout
from recsys_mtl.registry.survival_checks import survival_checks
from recsys_mtl.registry.survival_holdout import SurvivalHoldout, join_survival
from recsys_mtl.spec.pipeline import GateConfig

DECISION = "decision.json"
_CLIPPED_SHARE = 0.001
_LARGE_CLUSTER_SHARE = 0.1


def gate(
    challenger: Contender,
    champion: Contender | None,
    config: GateConfig,
    *,
    first_champion: bool,
) -> Decision:
    """Decide whether the challenger may replace the champion.

    Everything that can be computed is computed and reported; the worst check
    decides: INTEGRITY before REFUSE before HOLD before PROMOTE.

    Args:
        challenger: the candidate.
        champion: the model in production, evaluated on the same rows; None if there is none.
        config: margins, floors and error rates.
        first_champion: let absolute floors decide where there is no baseline.

    Raises:
        ConfigError: if an evaluated task has neither a margin nor a place in `ungated`.
        IntegrityError: if the files of an evaluation are not what its manifest says.
    """
    _check_config(challenger, config)
    _check_files(challenger, champion)
    holdout, checks = join_holdout(challenger, champion)
    survival, more = join_survival(challenger.survival, champion.survival if champion else None)
    notes = _contender_notes(challenger, champion)
    if first_champion and champion and _is_matched(challenger, champion, survival):
        notes.append("--first-champion changes nothing: there is a champion for every task")
    if holdout is not None:
        unit = "users" if challenger.meta["has_group"] else "rows"
        checks += holdout_checks(holdout, config, first_champion, unit)
        notes += [*_cluster_notes(holdout.clusters, unit), *_clip_notes(holdout)]
    checks += more
    if survival is not None:
        checks += survival_checks(survival, config, first_champion)
        notes += _cluster_notes(survival.clusters, f"{survival.unit} of {survival.label}")
    chance = joint_pass_probability(checks)
    return Decision(
        verdict=worst(checks),
        checks=tuple(checks),
        equal_model_pass_probability=chance,
        notes=(*_power_notes(chance, config), *notes),
        facts=_facts(challenger, champion, config, first_champion),
    )


def decide(
    home: Path,
    pipeline: str,
    challenger: Contender,
    champion: Contender | None,
    config: GateConfig,
    *,
    first_champion: bool,
) -> tuple[Decision, Manifest]:
    """Run the gate once per set of inputs, and keep its decision as an artifact.

    The same evaluations and configuration return the stored bytes: looking
    again at one holdout is not a second chance.

    Args:
        home: folder of all artifacts.
        pipeline: name of the pipeline.
        challenger: as for `gate`.
        champion: as for `gate`.
        config: as for `gate`.
        first_champion: as for `gate`.

    Returns:
        The decision and its artifact, which holds `decision.json`.

    Raises:
        ConfigError: as `gate`; nothing is stored then.
        IntegrityError: as `gate`; nothing is stored then.
    """
    facts = _facts(challenger, champion, config, first_champion)
    key = run_key("gate", facts=canonical(facts).decode())
    directory = stage_dir(home, pipeline, "gate", key)
    with stage_lock(directory):
        if is_published(directory):
            _check_files(challenger, champion)
        else:
            decision = gate(challenger, champion, config, first_champion=first_champion)
            atomic_write(make_dir(directory) / DECISION, decision.to_bytes())
            entry = entry_of(directory / DECISION, directory)
            publish(directory, [entry], {"run_key": key, "verdict": decision.verdict, **facts})
        manifest = open_artifact(directory)
    return read_decision(manifest), manifest


def read_decision(manifest: Manifest) -> Decision:
    """The decision in an artifact of stage `gate`."""
    return Decision.from_json(json.loads(manifest.path(DECISION).read_bytes()))


def _check_config(challenger: Contender, config: GateConfig) -> None:
    tasks = challenger.outputs
    problems = [
        Problem(
            "gate.margins",
            f"task {task!r} is evaluated but has no margin",
            f"Add gate.margins.{task}, or list it in gate.ungated.",
        )
        for task in tasks
        if task not in config.margins and task not in config.ungated
    ]
    for task, margins in config.margins.items():
        where = f"gate.margins.{task}"
        suited = ("auc", "ne") if task in challenger.tasks else ("nll",)
        if task not in tasks:
            problems.append(
                Problem(where, f"no such task; evaluated are {', '.join(tasks)}", "Remove it.")
            )
        elif all(getattr(margins, name) is None for name in suited):
            fix = f"Set {' or '.join(suited)}."
            problems.append(Problem(where, "sets no margin", fix))
    if not config.margins:
        problems.append(
            Problem("gate.margins", "no task is gated", "Give at least one task a margin.")
        )
    if problems:
        raise ConfigError(problems)


def _check_files(challenger: Contender, champion: Contender | None) -> None:
    sides = filter(None, (challenger, champion))
    for evaluation in (manifest for side in sides for manifest in side.evaluations):
        if open_artifact(evaluation.dir, verify=True).sha != evaluation.sha:
            raise IntegrityError(
                Problem(
                    str(evaluation.dir),
                    "the evaluation was replaced after it was handed to the gate",
                    "Rerun the gate.",
                )
            )


def _power_notes(chance: float | None, config: GateConfig) -> list[str]:
    if chance is None:
        return []
    note = (
        f"an equally good model passes all guardrails on this holdout with probability {chance:.2f}"
    )
    if chance >= config.power:
        return [note]
    return [
        f"{note}, below the planned {config.power:.2f}: "
        "lengthen the test window, widen the margins or gate fewer metrics"
    ]


def _contender_notes(challenger: Contender, champion: Contender | None) -> list[str]:
    if champion is None:
        return []
    notes = []
    if challenger.bundle_sha == champion.bundle_sha:
        notes.append("challenger and champion are the same bundle")
    lost = [t for t in champion.outputs if t not in challenger.outputs]
    if lost:
        notes.append(f"the champion also predicts {', '.join(lost)}, the challenger does not")
    return notes


def _is_matched(
    challenger: Contender, champion: Contender, survival: SurvivalHoldout | None
) -> bool:
    """Whether everything that is predicted has a baseline."""
    can_compare = survival is None or not survival.uncovered
    return can_compare and set(challenger.outputs) <= set(champion.outputs)


def _cluster_notes(clusters: Clusters, unit: str) -> list[str]:
    largest = np.bincount(clusters.codes).max() / len(clusters.codes)
    if largest <= _LARGE_CLUSTER_SHARE:
        return []
    return [f"one of the {unit} holds {largest:.0%} of the rows; intervals reflect it"]


def _clip_notes(holdout: Holdout) -> list[str]:
    notes = []
    for task, probs in holdout.challenger.items():
        clipped = np.mean((probs < CLIP) | (probs > 1 - CLIP))
        if clipped > _CLIPPED_SHARE:
            notes.append(f"{clipped:.1%} of the predictions of {task} are 0 or 1 within {CLIP:g}")
    return notes


def _facts(
    challenger: Contender, champion: Contender | None, config: GateConfig, first_champion: bool
) -> dict[str, Any]:
    return {
        "challenger": challenger.facts(),
        "champion": champion.facts() if champion else None,
        "config": config.model_dump(mode="json"),
        "first_champion": first_champion,
    }
