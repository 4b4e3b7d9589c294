"""MLflow: one experiment per pipeline, one run per run key.

Everything that is logged lies in artifacts first, so a server that is down loses nothing:
the verb ends with exit 75, and its rerun logs what the artifacts hold.
"""

import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_mtl.errors import IntegrityError, TransientError

if TYPE_CHECKING:
    from mlflow import MlflowClient

RUN_KEY = "recsys.run_key"
_BATCH = 900
_MAX_PARAM = 500


@contextmanager
def reachable(uri: str) -> Iterator[None]:
    """Turn a server that is down into a TransientError."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError

    try:
        yield
    except (ConnectionError, OperationalError) as error:
        raise TransientError(f"{uri}: MLflow cannot be reached: {error}; rerun later") from None
    except MlflowException as error:
        if "Connection" in str(error) or "Max retries" in str(error):
            raise TransientError(f"{uri}: MLflow cannot be reached; rerun later") from None
        raise


def tracking_uri(home: Path, uri: str | None) -> str:
    """The configured URI, or sqlite below `home`."""
    return uri or f"sqlite:///{home.absolute() / 'mlflow.db'}"


def quiet_mlflow() -> None:
    """Let MLflow speak on errors only, and never load a pickle."""
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ["GIT_PYTHON_REFRESH"] = "quiet"
    # Its default of 7 retries is silent for four minutes when the server is down.
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "3"
    import mlflow  # noqa: F401  # it sets its own log levels when it is imported

    for name in ("mlflow", "alembic", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*Add type hints to the `predict`")


class Tracker:
    """Logs to one experiment.

    Args:
        home: folder of all artifacts.
        uri: of MLflow; sqlite below `home` when None.
        experiment: its name; made when absent.
    """

    def __init__(self, home: Path, uri: str | None, experiment: str) -> None:
        quiet_mlflow()
        import mlflow

        home.mkdir(parents=True, exist_ok=True)
        self.uri = tracking_uri(home, uri)
        with reachable(self.uri):
            mlflow.set_tracking_uri(self.uri)
            mlflow.set_registry_uri(self.uri)
            self.client: MlflowClient = mlflow.MlflowClient(self.uri, self.uri)
            found = self.client.get_experiment_by_name(experiment)
            if found is None:
                place = None if uri else (home.absolute() / "mlartifacts").as_uri()
                self.experiment_id = self.client.create_experiment(experiment, place)
            else:
                self.experiment_id = found.experiment_id

    def run(self, run_key: str, name: str, tags: Mapping[str, str], params: dict[str, Any]) -> str:
        """Id of the run with this key, made at most once."""
        with reachable(self.uri):
            where = f"tags.`{RUN_KEY}` = '{run_key}'"
            found = self.client.search_runs([self.experiment_id], where, max_results=1)
            run = (
                found[0]
                if found
                else self.client.create_run(
                    self.experiment_id, run_name=name, tags={RUN_KEY: run_key, **tags}
                )
            )
            # A kill may have left a run without some of them; MLflow refuses changed ones.
            known = run.data.params
            self._log_params(
                run.info.run_id, {k: v for k, v in flatten(params).items() if k not in known}
            )
            return str(run.info.run_id)

    def _log_params(self, run_id: str, params: dict[str, Any]) -> None:
        from mlflow.entities import Param

        flat = [Param(name, str(value)[:_MAX_PARAM]) for name, value in params.items()]
        for start in range(0, len(flat), 100):
            self.client.log_batch(run_id, params=flat[start : start + 100])

    def log(self, run_id: str, points: list[tuple[str, float, int]]) -> None:
        """Log (metric, value, step) points in batches.

        Raises:
            IntegrityError: if a value is not finite; nothing is logged then.
        """
        from mlflow.entities import Metric

        bad = [name for name, value, _ in points if not math.isfinite(value)]
        if bad:
            raise IntegrityError(f"metrics {', '.join(bad[:5])} are not finite; nothing was logged")
        # The step stands for the time, so that logging twice writes the same points.
        metrics = [Metric(name, value, step, step) for name, value, step in points]
        with reachable(self.uri):
            for start in range(0, len(metrics), _BATCH):
                self.client.log_batch(run_id, metrics=metrics[start : start + _BATCH])

    def finish(self, run_id: str, files: list[Path], tags: Mapping[str, str]) -> None:
        """Attach files and tags, and end the run."""
        with reachable(self.uri):
            for path in files:
                self.client.log_artifact(run_id, str(path))
            for key, value in tags.items():
                self.client.set_tag(run_id, key, value)
            self.client.set_terminated(run_id)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested configuration as dotted names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
