"""Scores of the creatives that are, or were, alive: read-outs beside what is known of them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.artifacts.commit import make_dir, read_table, write_table
from recsys_mtl.artifacts.lock import stage_lock
from recsys_mtl.artifacts.manifest import Manifest, is_published, open_artifact, publish
from recsys_mtl.artifacts.runkey import run_key, stage_dir
from recsys_mtl.artifacts.sealed import canonical
from recsys_mtl.ingest.landmarks import DAYS, LIVE, ROWS
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
            table = _scored(loaded, bundle, rows, LIVE, out)
            entries = [write_table(out / CREATIVES, table, out)]
            publish(out, entries, {"run_key": key, **facts, "rows": table.num_rows})
        manifest = open_artifact(out)
    point_to(manifest)
    return manifest


def score_days(loaded: Loaded, bundle: Bundle, rows: Manifest) -> Manifest:
    """Score test creatives on every day of the test window, or return what is published.

    Returns:
        The artifact: `days.parquet`, that of the landmarks artifact and `registry.read_outs`.

    Raises:
        DataError: if a row does not fit the bundle's spec; nothing is published.
        IntegrityError: if a read-out is not finite.
    """
    key = run_key("score_days", rows=rows.sha, bundle=bundle.sha)
    out = stage_dir(loaded.home, loaded.pipeline.name, "day_scores", key)
    with stage_lock(out):
        if is_published(out):
            return open_artifact(out)
        make_dir(out)
        table = _scored(loaded, bundle, rows, DAYS, out)
        facts = {"bundle_sha": bundle.sha, "rows": table.num_rows}
        return publish(out, [write_table(out / DAYS, table, out)], {"run_key": key, **facts})


def _scored(loaded: Loaded, bundle: Bundle, rows: Manifest, name: str, out: Path) -> pa.Table:
    known = read_table(rows.path(name))
    # Where nobody is alive there is nothing to encode, but a reader still finds all columns.
    source = name if known.num_rows else ROWS
    table, _ = read_outs(bundle, encode_creatives(loaded, bundle, rows, source, out))
    table = table.slice(0, known.num_rows)
    known = known.take(pc.index_in(table["row_id"], value_set=known["row_id"].combine_chunks()))
    for column in table.column_names:
        if column != "row_id":
            known = known.append_column(column, table[column])
    return known.take(pc.sort_indices(known, [("row_id", "ascending")]))
