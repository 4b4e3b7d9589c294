"""Scores of the creatives that are alive: read-outs beside what is known of them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.artifacts.commit import make_dir, read_table, write_table
from recsys_mtl.artifacts.lock import stage_lock
from recsys_mtl.artifacts.manifest import Manifest, is_published, open_artifact, publish
from recsys_mtl.artifacts.runkey import run_key, stage_dir
from recsys_mtl.artifacts.sealed import canonical
from recsys_mtl.ingest.landmarks import LIVE
from recsys_mtl.registry.bundle import Bundle
from recsys_mtl.registry.read_outs import encode_creatives, read_outs
from recsys_mtl.scoring.job import point_to
from recsys_mtl.spec.load import Loaded

CREATIVES = "creatives.parquet"


def score_creatives(loaded: Loaded, bundle: Bundle, version: str, rows: Manifest) -> Manifest:
    """Score the live creatives of a landmarks artifact, or return what is published.

    Returns:
        The artifact: `creatives.parquet`, one row per live creative: columns of `live.parquet` and
        `registry.read_outs`. Its parent's `CURRENT.json` points to what was scored last.

    Raises:
        DataError: if a row does not fit the bundle's spec; nothing is published.
        IntegrityError: if a read-out is not finite.
    """
    facts = {"version": version, "bundle_sha": bundle.sha, "end": rows.meta["end"]}
    key = run_key("score_creatives", rows=rows.sha, facts=canonical(facts).decode())
    out = stage_dir(loaded.home, loaded.pipeline.name, "creative_scores", key)
    with stage_lock(out):
        if not is_published(out):
            make_dir(out)
            table = _scored(loaded, bundle, rows, out)
            entries = [write_table(out / CREATIVES, table, out)]
            publish(out, entries, {"run_key": key, **facts, "rows": table.num_rows})
        manifest = open_artifact(out)
    point_to(manifest)
    return manifest


def _scored(loaded: Loaded, bundle: Bundle, rows: Manifest, out: Path) -> pa.Table:
    live = read_table(rows.path(LIVE))
    table, _ = read_outs(bundle, encode_creatives(loaded, bundle, rows, LIVE, out))
    live = live.take(pc.index_in(table["row_id"], value_set=live["row_id"].combine_chunks()))
    for name in table.column_names:
        if name != "row_id":
            live = live.append_column(name, table[name])
    return live.take(pc.sort_indices(live, [("row_id", "ascending")]))
