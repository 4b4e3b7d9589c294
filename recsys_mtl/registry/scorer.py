"""The model that MLflow loads: assembled rows in, probabilities out."""

from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
import pyarrow as pa
from mlflow.models import set_model

from recsys_mtl.registry.bundle import loaded_bundle
from recsys_mtl.registry.read_outs import read_outs


class Scorer(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # untyped there
    """Scores assembled rows with a bundle."""

    def load_context(self, context: Any) -> None:
        """Load the bundle, and verify that it is the one that was registered."""
        expected = context.model_config["bundle_sha"]
        self.bundle = loaded_bundle(Path(context.artifacts["bundle"]), expected)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Probability of each task for each row, under the rows' own index.

        Of ad-level rows alone, the read-outs of their survival label.
        """
        del context, params
        rows = self.bundle.encode(pa.Table.from_pandas(model_input, preserve_index=False))
        tasks = list(self.bundle.layout.task_names)
        if tasks:
            return pd.DataFrame(self.bundle.predict(rows), columns=tasks, index=model_input.index)
        table, _ = read_outs(self.bundle, rows)
        found: pd.DataFrame = table.drop_columns("row_id").to_pandas()
        return found.set_index(model_input.index)


set_model(Scorer())
