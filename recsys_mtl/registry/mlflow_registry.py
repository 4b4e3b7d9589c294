"""Versions and aliases in the MLflow model registry."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recsys_mtl.artifacts.manifest import MANIFEST, Manifest
from recsys_mtl.errors import IntegrityError, Problem
from recsys_mtl.registry.bundle import SCORER
from recsys_mtl.tracking.mlflow_run import Tracker, reachable

Alias = Literal["candidate", "champion", "previous_champion"]
BUNDLE_SHA = "bundle_sha"
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
        """Register a bundle as a `python_function` model, once, and alias it `candidate`."""
        with reachable(self._tracker.uri):
            known = [v for v in self.versions() if v.bundle_sha == bundle.sha]
            version = known[0] if known else self._log(bundle, run_id)
            self._client.set_registered_model_alias(self.name, "candidate", version.version)
            return version

    def versions(self) -> list[ModelVersion]:
        """All complete versions, oldest first; a registration that was cut short has no sha."""
        with reachable(self._tracker.uri):
            found = self._client.search_model_versions(f"name = '{self.name}'")
        complete = [v for v in found if BUNDLE_SHA in v.tags]
        return [self._version(v) for v in sorted(complete, key=lambda v: int(v.version))]

    def by_alias(self, alias: Alias) -> ModelVersion | None:
        """The version that carries an alias."""
        from mlflow.exceptions import MlflowException

        with reachable(self._tracker.uri):
            try:
                return self._version(self._client.get_model_version_by_alias(self.name, alias))
            except MlflowException as error:
                if error.error_code in (_NOT_FOUND, _INVALID):
                    return None
                raise

    def set_alias(self, alias: Alias, version: str) -> None:
        """Point an alias at a version."""
        with reachable(self._tracker.uri):
            self._client.set_registered_model_alias(self.name, alias, version)

    def remove_alias(self, alias: Alias) -> None:
        """Remove an alias, if it is there."""
        with reachable(self._tracker.uri):
            self._client.delete_registered_model_alias(self.name, alias)

    def tag(self, version: str, key: str, value: str) -> None:
        """Set a tag of a version."""
        with reachable(self._tracker.uri):
            self._client.set_model_version_tag(self.name, version, key, value)

    def bundle_dir(self, version: ModelVersion) -> Path:
        """Local folder of a version's bundle; fetched if the registry is elsewhere.

        Raises:
            IntegrityError: if the version holds no bundle.
        """
        import mlflow.artifacts

        with reachable(self._tracker.uri):
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

    def _version(self, found: object) -> ModelVersion:
        tags: dict[str, str] = getattr(found, "tags", {})
        return ModelVersion(self.name, str(getattr(found, "version", "")), tags.get(BUNDLE_SHA, ""))

    def _log(self, bundle: Manifest, run_id: str) -> ModelVersion:
        import mlflow
        from mlflow.exceptions import MlflowException

        import recsys_mtl

        try:
            self._client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        with mlflow.start_run(run_id=run_id, log_system_metrics=False):
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(bundle.path(SCORER)),
                artifacts={"bundle": str(bundle.dir)},
                pip_requirements=[f"recsys-mtl=={recsys_mtl.__version__}"],
            )
        made = self._client.create_model_version(self.name, info.model_uri, run_id)
        self.tag(made.version, BUNDLE_SHA, bundle.sha)
        return ModelVersion(self.name, str(made.version), bundle.sha)
