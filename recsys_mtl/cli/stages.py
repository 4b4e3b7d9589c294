"""The steps of a pipeline, each of which returns what is already published.

A verb runs the steps that it needs: finished ones cost a look at their manifest, so `evaluate`
after `train` trains nothing.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_mtl.cli.progress import Progress, stage_progress
from recsys_mtl.errors import NothingToDoError

if TYPE_CHECKING:
    from recsys_mtl.artifacts.manifest import Manifest
    from recsys_mtl.registry.bundle import Bundle
    from recsys_mtl.registry.decision import Decision
    from recsys_mtl.registry.mlflow_registry import ModelVersion, Registry
    from recsys_mtl.spec.load import Loaded
    from recsys_mtl.tracking.mlflow_run import Tracker


@dataclass
class Job:
    """One pipeline on one window; every step is made at most once."""

    loaded: "Loaded"
    interval_end: str | None
    quiet: bool
    from_scratch: bool = False
    """Whether training drops the checkpoints of a killed run."""

    @classmethod
    def open(
        cls, path: Path, overrides: Sequence[str] | None, interval_end: str | None, quiet: bool
    ) -> "Job":
        """Load the pipeline file.

        Raises:
            ConfigError: if it or its spec has problems.
        """
        from recsys_mtl.cli.logs import set_up_logging
        from recsys_mtl.spec.load import load_pipeline

        set_up_logging(quiet)
        return cls(load_pipeline(path, overrides or ()), interval_end, quiet)

    def _progress(self, stage: str) -> AbstractContextManager[Progress]:
        return stage_progress(stage, self.quiet)

    @cached_property
    def own(self) -> tuple["Loaded", str | None]:
        """The pipeline and the end of its window; narrowed to ad-level rows if it has no others."""
        if not self.loaded.is_ad_level:
            return self.loaded, self.interval_end
        from recsys_mtl.ingest.landmarks import of_creatives

        return of_creatives(self.loaded, self.landmarks), None

    @cached_property
    def ingested(self) -> "Manifest":
        """Encoded shards of the window."""
        from recsys_mtl.ingest.job import ingest

        loaded, interval_end = self.own
        with self._progress("ingest") as progress:
            return ingest(loaded, interval_end, progress)

    @cached_property
    def landmarks(self) -> "Manifest":
        """Ad-level rows of the window, for pipelines that have them."""
        from recsys_mtl.ingest.landmarks import landmarks

        return landmarks(self.loaded, self.interval_end)

    @cached_property
    def creatives(self) -> "Manifest | None":
        """Encoded ad-level rows beside those of `ingested`; None without them."""
        if self.loaded.pipeline.creatives is None or self.loaded.is_ad_level:
            return None
        from recsys_mtl.ingest.job import ingest
        from recsys_mtl.ingest.landmarks import of_creatives

        narrowed = of_creatives(self.loaded, self.landmarks)
        with self._progress("ingest creatives") as progress:
            return ingest(narrowed, None, progress)

    @cached_property
    def trained(self) -> "Manifest":
        """Best weights on those shards."""
        from recsys_mtl.training.job import train

        ingested, creatives = self.ingested, self.creatives
        with self._progress("train") as progress:
            return train(
                self.loaded,
                ingested,
                progress,
                creatives=creatives,
                from_scratch=self.from_scratch,
            )

    @cached_property
    def bundle(self) -> "Manifest":
        """The weights with everything they need."""
        from recsys_mtl.registry.bundling import build_bundle

        return build_bundle(self.own[0], self.ingested, self.trained, self.creatives)

    @cached_property
    def tracker(self) -> "Tracker":
        """The pipeline's MLflow experiment."""
        from recsys_mtl.tracking.mlflow_run import Tracker

        uri = self.loaded.pipeline.tracking.uri
        return Tracker(self.loaded.home, uri, self.loaded.pipeline.name)

    @cached_property
    def registry(self) -> "Registry":
        """The pipeline's registered model."""
        from recsys_mtl.registry.mlflow_registry import Registry

        return Registry(self.tracker, self.loaded.pipeline.name)

    @cached_property
    def run_id(self) -> str:
        """MLflow run of this training, with its curves and lineage."""
        meta = self.trained.meta
        plain = self.loaded.pipeline.model_dump(mode="json")
        tags = {"recsys.input_fp": meta["input_fp"], "recsys.seed": str(meta["seed"])}
        tags |= {f"recsys.{name}": value for name, value in meta["ingest"].items()}
        run_id = self.tracker.run(meta["run_key"], self.loaded.pipeline.name, tags, plain)
        self.tracker.log(run_id, curve_points(self.history))
        return run_id

    @cached_property
    def history(self) -> dict[str, Any]:
        """Training curves."""
        return read_json(self.trained, "history.json")

    @cached_property
    def candidate(self) -> "ModelVersion":
        """The bundle as a registered version with alias `candidate`."""
        return self.registry.register(self.bundle, self.run_id)

    @cached_property
    def champion(self) -> "ModelVersion | None":
        """The version in production before this run; a promotion that was killed is finished."""
        from recsys_mtl.registry.promote import settle

        return settle(self.loaded.home, self.registry)

    @property
    def candidate_is_champion(self) -> bool:
        """Whether this very bundle is already in production."""
        return self.champion is not None and self.champion.bundle_sha == self.candidate.bundle_sha

    def load(self, version: "ModelVersion") -> "Bundle":
        """A registered version's bundle, verified."""
        from recsys_mtl.registry.bundle import loaded_bundle

        return loaded_bundle(self.registry.bundle_dir(version), version.bundle_sha)

    @cached_property
    def evaluated(self) -> "Manifest":
        """Holdout predictions and metrics of the candidate, logged to its run."""
        evaluation = self._evaluate(self.candidate, "evaluate")
        step = self.trained.meta["best_step"]
        points = metric_points(read_json(evaluation, "metrics.json")["tasks"], step)
        names = ["metrics.json", "calibration.json"]
        if (evaluation.dir / "experts.json").exists():
            names.append("experts.json")
        self.tracker.log(self.run_id, points)
        files = [evaluation.path(name) for name in names]
        tags = {"recsys.bundle_sha": self.bundle.sha}
        self.tracker.finish(self.run_id, [*files, self.trained.path("history.json")], tags)
        return evaluation

    @cached_property
    def survival_evaluated(self) -> "Manifest":
        """Predictions and metrics of the candidate's survival label, logged to its run."""
        from recsys_mtl.evaluation.survival import SURVIVAL, evaluate_survival
        from recsys_mtl.evaluation.survival_measures import headline

        found = evaluate_survival(self.loaded, self.load(self.candidate), self.landmarks)
        report = read_json(found, SURVIVAL)
        metrics = {report["label"]: headline(report)}
        self.tracker.log(self.run_id, metric_points(metrics, self.trained.meta["best_step"]))
        self.tracker.finish(self.run_id, [found.path(SURVIVAL)], {})
        return found

    def scored_creatives(self) -> "tuple[Manifest, ModelVersion]":
        """The champion's read-outs of the live creatives.

        Raises:
            NothingToDoError: if there is no champion yet.
        """
        from recsys_mtl.scoring.creatives import score_creatives

        champion = self.registry.by_alias("champion")
        if champion is None:
            raise NothingToDoError("there is no champion; promote a model first")
        bundle = self.load(champion)
        return score_creatives(self.loaded, bundle, champion.version, self.landmarks), champion

    @cached_property
    def champion_survival_evaluated(self) -> "Manifest | None":
        """The champion on the same ad-level rows; None without a champion that predicts them."""
        config = self.loaded.pipeline.creatives
        if self.champion is None or config is None:
            return None
        from recsys_mtl.evaluation.survival import evaluate_survival

        bundle = self.load(self.champion)
        if bundle.layout.survival is None or bundle.sources[-1] != config.source:
            return None
        return evaluate_survival(self.loaded, bundle, self.landmarks)

    @cached_property
    def champion_evaluated(self) -> "Manifest | None":
        """The champion on the same holdout; None without a champion."""
        if self.champion is None:
            return None
        return self._evaluate(self.champion, "champion")

    def _evaluate(self, version: "ModelVersion", stage: str) -> "Manifest":
        from recsys_mtl.evaluation.job import evaluate

        bundle = self.load(version)
        loaded, interval_end = self.own
        with self._progress(stage) as progress:
            return evaluate(loaded, bundle, interval_end, progress)

    def decide(self, first_champion: bool) -> "tuple[Decision, Manifest]":
        """The gate's decision about the candidate; a hold or refusal goes into the ledger."""
        from recsys_mtl.registry.gate import decide
        from recsys_mtl.registry.promote import record

        champion = None
        if self.champion is not None and self.champion_evaluated is not None:
            evaluations = self.champion_evaluated, self.champion_survival_evaluated
            champion = _contender(*evaluations, self.load(self.champion))
        survival = self.survival_evaluated if self.loaded.pipeline.creatives else None
        decision, artifact = decide(
            self.loaded.home,
            self.loaded.pipeline.name,
            _contender(self.evaluated, survival, self.load(self.candidate)),
            champion,
            self.loaded.pipeline.gate,
            first_champion=first_champion,
        )
        if decision.exit_code:
            record(self.loaded.home, self.registry, self.candidate, decision)
        return decision, artifact

    def scored(self) -> "tuple[Manifest, ModelVersion]":
        """The scoring rows of the window's last day, scored by the present champion.

        Raises:
            NothingToDoError: if there is no champion yet.
        """
        from recsys_mtl.scoring.job import score

        champion = self.registry.by_alias("champion")
        if champion is None:
            name = self.loaded.pipeline.name
            raise NothingToDoError(f"{name}: no champion yet; run with --first-champion once")
        bundle = self.load(champion)
        with self._progress("score") as progress:
            return (
                score(self.loaded, bundle, champion.version, self.interval_end, progress),
                champion,
            )


def _contender(evaluation: "Manifest", survival: "Manifest | None", bundle: "Bundle") -> Any:
    from recsys_mtl.registry.holdout import Contender

    lineage = bundle.lineage
    own = bundle.sha, lineage["input_fp"]
    on_survival = None
    if survival is not None:
        on_survival = Contender(survival, *own, lineage.get("survival_until_us"))
    return Contender(evaluation, *own, lineage["trained_until_us"], on_survival)


def read_json(artifact: "Manifest", name: str) -> dict[str, Any]:
    """A JSON file of an artifact."""
    record: dict[str, Any] = json.loads(artifact.path(name).read_bytes())
    return record


def curve_points(history: dict[str, Any]) -> list[tuple[str, float, int]]:
    """Training curves as (metric, value, step)."""
    names: dict[str, Callable[[str], str]] = {
        "train": lambda task: f"train/{task}/loss",
        "valid": lambda task: f"valid/{task}/loss",
        "valid_auc": lambda task: f"valid/{task}/auc",
        "diagnostics": str,
    }
    return [
        (name(task), value, int(step))
        for part, name in names.items()
        for task, points in history[part].items()
        for step, value in points
        if value is not None
    ]


def metric_points(metrics: dict[str, Any], step: int) -> list[tuple[str, float, int]]:
    """Holdout metrics as (metric, value, step); those without a value are left out."""
    return [
        (f"test/{task}/{name}", estimate["value"], step)
        for task, by_name in metrics.items()
        for name, estimate in by_name.items()
        if estimate["value"] is not None
    ]
