"""Diagnosis of a bundle's experts on holdout rows, its alarms tested: `experts.json`."""

from typing import Any

import numpy as np
import pyarrow as pa

from recsys_mtl.artifacts.commit import read_table
from recsys_mtl.evaluation.expert_alarms import diagnose
from recsys_mtl.evaluation.interventions import Outcomes, try_alarms
from recsys_mtl.evaluation.outcomes import end_to_end_labels
from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.models.experts import ExpertSums
from recsys_mtl.models.interface import Probe
from recsys_mtl.registry.bundle import Bundle
from recsys_mtl.spec.layout import GROUP

EXPERT_ROWS = 20_000
"""Rows that experts are judged by."""


def has_gates(bundle: Bundle) -> bool:
    """Whether the bundle's tower mixes anything that a probe sees."""
    sums = ExpertSums()
    bundle.predict(bundle.encode(read_table(bundle.golden)), sums)
    return bool(sums.gates)


def expert_report(bundle: Bundle, encoded: pa.Table) -> dict[str, Any]:
    """Give what `experts.json` holds: `Diagnosis.as_json` with an intervention for every alarm.

    Args:
        bundle: a model with gates.
        encoded: labelled rows as its model takes them; about `EXPERT_ROWS` of them.
    """
    sums = ExpertSums()
    bundle.predict(encoded, sums)
    outcomes = _outcomes(bundle, encoded)
    diagnosis = diagnose(sums, outcomes.rates())

    def score(probe: Probe) -> np.ndarray:
        return bundle.predict(encoded, probe)

    tested = try_alarms(diagnosis.alarms, sums, score, outcomes)
    return {**diagnosis.as_json(), "alarms": [alarm.as_json() for alarm in tested]}


def _outcomes(bundle: Bundle, encoded: pa.Table) -> Outcomes:
    labels, masks = end_to_end_labels(encoded, bundle.layout)
    tasks = bundle.layout.task_names
    return Outcomes(
        tasks=tasks,
        labels=np.stack([labels[task] for task in tasks], axis=1),
        masks=np.stack([masks[task] for task in tasks], axis=1),
        clusters=Clusters.of(encoded[GROUP].to_numpy()),
    )
