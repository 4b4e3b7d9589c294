"""The two files of a product, written for a test."""

from pathlib import Path

import yaml


def write_product(folder: Path, pipeline, spec, change=None, change_spec=None) -> Path:
    """`pipeline.yaml` and `spec.yaml` after `change(pipeline)` and `change_spec(spec)`."""
    if change:
        change(pipeline)
    if change_spec:
        change_spec(spec)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(pipeline, sort_keys=False))
    return path
