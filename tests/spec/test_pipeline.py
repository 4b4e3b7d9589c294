"""A pipeline's dump means the same as its file."""

from pathlib import Path

import pytest
import yaml

from recsys_mtl.spec.fingerprint import fingerprint
from recsys_mtl.spec.load import load_pipeline

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "pipelines").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_a_resolved_pipeline_loads_as_the_same_object(tmp_path, monkeypatch, path):
    monkeypatch.setenv("DATA_ROOT", "data")
    loaded = load_pipeline(path)
    plain = loaded.pipeline.model_dump(mode="json") | {"spec": str(loaded.spec_path.resolve())}
    schedule = loaded.pipeline.schedule
    if schedule is not None and schedule.policy is not None:
        plain["schedule"]["policy"] = str((path.parent / schedule.policy).resolve())
    written = tmp_path / "pipe.yaml"
    written.write_text(yaml.safe_dump(plain, sort_keys=False))
    again = load_pipeline(written).pipeline
    assert (
        again.model_copy(update={"spec": loaded.pipeline.spec, "schedule": schedule})
        == loaded.pipeline
    )
    assert fingerprint(again) == fingerprint(plain)
