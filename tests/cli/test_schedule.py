"""`recsys-mtl schedule export`: what the DAGs are told."""

import json
from pathlib import Path

from typer.testing import CliRunner

from recsys_mtl.cli.main import app

ROOT = Path(__file__).parents[2]


def exported(folder, *flags):
    out = folder / "pipelines.json"
    arguments = ["schedule", "export", "--out", str(out), *flags]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return {entry["name"]: entry for entry in json.loads(out.read_text())["pipelines"]}


def test_a_policy_is_told_where_the_commands_run(tmp_path, monkeypatch):
    """Beside the pipeline it is `../policies/...`; commands run in the folder of the export."""
    monkeypatch.chdir(ROOT)
    entries = exported(tmp_path)
    assert entries["ad_creatives"]["policy"] == "policies/ad_creatives.yaml"
    assert (Path(entries["ad_creatives"]["folder"]) / "policies/ad_creatives.yaml").is_file()
    assert entries["short_video"]["policy"] is None
    assert entries["short_video"]["file"] == "pipelines/short_video.yaml"
