import yaml

from benchmarks.joint import ROOT, without_creatives
from recsys_mtl.spec.load import load_pipeline


def test_clicks_alone_are_the_pipeline_without_its_label_of_stops(tmp_path):
    whole = load_pipeline(ROOT / "pipelines" / "ad_creatives.yaml")
    pipeline = yaml.safe_load((ROOT / "pipelines" / "ad_creatives.yaml").read_text())
    spec = yaml.safe_load((ROOT / "feature_specs" / "ad_creatives.yaml").read_text())
    without_creatives(pipeline, spec)
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    path = tmp_path / "clicks.yaml"
    path.write_text(yaml.safe_dump(pipeline | {"spec": "spec.yaml"}, sort_keys=False))
    alone = load_pipeline(path)
    assert list(alone.sources) == ["impressions"]
    assert (*alone.layout.output_names, "stop") == tuple(whole.layout.output_names)
    assert alone.pipeline.training == whole.pipeline.training
    assert alone.pipeline.model.tower == whole.pipeline.model.tower
    kept = {bag.name for bag in alone.layout.bags}
    assert {"user_id", "creative_id", "title"} <= kept
    assert "landmark" not in kept
