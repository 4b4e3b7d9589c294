from benchmarks.joint import ROOT, write_without_creatives
from recsys_mtl.spec.load import load_pipeline


def test_clicks_alone_are_the_pipeline_without_its_label_of_stops(tmp_path):
    whole = load_pipeline(ROOT / "pipelines" / "ad_creatives.yaml")
    alone = load_pipeline(write_without_creatives(tmp_path))
    assert list(alone.sources) == ["impressions"]
    assert (*alone.layout.output_names, "stop") == tuple(whole.layout.output_names)
    assert alone.pipeline.training == whole.pipeline.training
    assert alone.pipeline.model.tower == whole.pipeline.model.tower
    kept = {bag.name for bag in alone.layout.bags}
    assert {"user_id", "creative_id", "title"} <= kept
    assert "landmark" not in kept
