"""Versions and aliases in the MLflow model registry."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from recsys_mtl.artifacts.manifest import MANIFEST, Manifest
from recsys_mtl.errors import IntegrityError, Problem
from recsys_mtl.registry.bundle import SCORER, loaded_bundle
from recsys_mtl.registry.signature import signature_of
from recsys_mtl.tracking.mlflow_run import Tracker, reachable

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

Alias = Literal["candidate", "champion", "previous_champion"]
BUNDLE_SHA, STATUS = "bundle_sha", "validation_status"
"""Tags of a version; the status is pending, held, refused or approved."""
_NOT_FOUND = "RESOURCE_DOES_NOT_EXIST"
_INVALID = "INVALID_PARAMETER_VALUE"


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One registered version."""

    name: str
    version: str
    bundle_sha: str


class Registry:
    """The registered model of one pipeline."""

    def __init__(self, tracker: Tracker, name: str) -> None:
        self._tracker = tracker
        self._client = tracker.client
        self.name = name

    def register(self, bundle: Manifest, run_id: str) -> ModelVersion:
        """Register a bundle as a `python_function` model, once, and alias it `candidate`.

        Args:
            bundle: as `build_bundle` published it.
            run_id: MLflow run of its training.

        Returns:
            The version with the bundle's sha, made now or by an earlier run.

        Raises:
            IntegrityError: if the bundle cannot be loaded; nothing is registered.
            TransientError: if MLflow cannot be reached; a rerun finds what was registered.
        """
        known = [v for v in self.versions() if v.bundle_sha == bundle.sha]
        version = known[0] if known else self._log(bundle, run_id)
        self.set_alias("candidate", version.version)
        return version

    def versions(self) -> list[ModelVersion]:
        """All versions that hold a bundle, oldest first."""
        with self._connected():
            found = self._client.search_model_versions(f"name = '{self.name}'")
        complete = [v for v in found if BUNDLE_SHA in v.tags]
        return [self._version(v) for v in sorted(complete, key=lambda v: int(v.version))]

    def by_alias(self, alias: Alias) -> ModelVersion | None:
        """The version that carries an alias."""
        from mlflow.exceptions import MlflowException

        with self._connected():
            try:
                return self._version(self._client.get_model_version_by_alias(self.name, alias))
            except MlflowException as error:
                if error.error_code in (_NOT_FOUND, _INVALID):
                    return None
                raise

    def set_alias(self, alias: Alias, version: str) -> None:
        """Point an alias at a version."""
        with self._connected():
            self._client.set_registered_model_alias(self.name, alias, version)

    def remove_alias(self, alias: Alias) -> None:
        """Remove an alias, if it is there."""
        with self._connected():
            self._client.delete_registered_model_alias(self.name, alias)

    def tag(self, version: str, key: str, value: str) -> None:
        """Set a tag of a version."""
        with self._connected():
            self._client.set_model_version_tag(self.name, version, key, value)

    def bundle_dir(self, version: ModelVersion) -> Path:
        """Local folder of a version's bundle; fetched if the registry is elsewhere.

        Raises:
            IntegrityError: if the version holds no bundle.
        """
        import mlflow.artifacts

        with self._connected():
            path = mlflow.artifacts.download_artifacts(f"models:/{self.name}/{version.version}")
        found = sorted(Path(path).glob(f"artifacts/*/{MANIFEST}"))
        if len(found) != 1:
            raise IntegrityError(
                Problem(
                    f"{self.name} version {version.version}",
                    f"holds {len(found)} bundles, expected one",
                    "Register the bundle again with `recsys-mtl train`.",
                )
            )
        return found[0].parent

    @contextmanager
    def _connected(self) -> Iterator[None]:
        import mlflow

        # MLflow's functions outside of its client use the process-wide address.
        mlflow.set_tracking_uri(self._tracker.uri)
        mlflow.set_registry_uri(self._tracker.uri)
        with reachable(self._tracker.uri):
            yield

    def _version(self, found: "MlflowVersion") -> ModelVersion:
        return ModelVersion(self.name, str(found.version), found.tags.get(BUNDLE_SHA, ""))

    def _log(self, bundle: Manifest, run_id: str) -> ModelVersion:
        import mlflow
        from mlflow.exceptions import MlflowException

        import recsys_mtl

        signature = signature_of(loaded_bundle(bundle.dir, bundle.sha))
        with self._connected():
            try:
                self._client.create_registered_model(self.name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            with (
                warnings.catch_warnings(),
                mlflow.start_run(run_id=run_id, log_system_metrics=False),
            ):
                # Golden rows are the example; one in MLflow's own format would be a second copy.
                warnings.filterwarnings("ignore", message=".*input example")
                info = mlflow.pyfunc.log_model(
                    name="model",
                    python_model=str(bundle.path(SCORER)),
                    artifacts={"bundle": str(bundle.dir)},
                    model_config={BUNDLE_SHA: bundle.sha},
                    signature=signature,
                    pip_requirements=[f"recsys-mtl=={recsys_mtl.__version__}"],
                )
            # Version and tags appear together, so that no kill leaves a version without its sha.
            tags = {BUNDLE_SHA: bundle.sha, STATUS: "pending"}
            made = self._client.create_model_version(self.name, info.model_uri, run_id, tags)
        return self._version(made)
