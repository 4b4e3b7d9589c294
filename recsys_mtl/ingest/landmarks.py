"""Ad-level rows of a pipeline as an artifact: labelled landmarks, and the creatives alive today."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.artifacts.commit import (
    atomic_write,
    entry_of,
    make_dir,
    sha256_file,
    write_table,
)
from recsys_mtl.artifacts.lock import stage_lock
from recsys_mtl.artifacts.manifest import Manifest, is_published, open_artifact, publish
from recsys_mtl.artifacts.runkey import run_key, stage_dir
from recsys_mtl.errors import DataError, Problem
from recsys_mtl.ingest.columns import canonical_ids, column_of
from recsys_mtl.ingest.ctr_weight import fit_ctr_weights
from recsys_mtl.ingest.files import find_files, newest_day
from recsys_mtl.ingest.hashing import h64
from recsys_mtl.ingest.raw import located, read_rows
from recsys_mtl.ingest.survival import LandmarkRules, landmark_rows
from recsys_mtl.spec.base import duration_us
from recsys_mtl.spec.feature_spec import ColumnSplit
from recsys_mtl.spec.fingerprint import canonical, fingerprint
from recsys_mtl.spec.interval import DAY_US, parse_end
from recsys_mtl.spec.load import Loaded
from recsys_mtl.spec.pipeline import CreativesConfig, FileSet

ROWS, LIVE = "rows.parquet", "live.parquet"
PART, WEIGHT = "part", "ctr_weight"
_SIDES = "sides"
_CAMPAIGN_SEED = 11


def landmarks(loaded: Loaded, interval_end: str | None) -> Manifest:
    """Make the ad-level rows of a pipeline, or return them if they are published.

    Campaigns are split by hash. Train and validation rows are made from the log before the test
    window, so no label of theirs was decided in it; test rows have their landmark inside.

    Returns:
        The artifact: `rows.parquet`, columns of `survival.landmark_rows`, `part` (train, valid,
        test) and `ctr_weight`; `live.parquet`, creatives that are alive when the window ends,
        with what is known of them then; and `sides/`, copies of the side tables that they join.

    Raises:
        DataError: if the log cannot be, or gives no rows.
        TransientError: if another run is making the same rows.
    """
    config = loaded.pipeline.creatives
    assert config is not None
    root, end, files = _delivery(loaded, config, interval_end)
    sides = {
        _side_path(name, number, path): path
        for name, side in config.sides.items()
        for number, path in enumerate(find_files(root, side, None))
    }
    rules = _rules(config, loaded.pipeline.model.hazard.edges[-1])
    settings = config.model_dump(mode="json") | {"horizon": rules.horizon, "end": end.isoformat()}
    shas = [[path.relative_to(root).as_posix(), sha256_file(path)] for path in files]
    shas += [[name, sha256_file(path)] for name, path in sides.items()]
    key = run_key("landmarks", data_fp=fingerprint(shas), settings=canonical(settings).decode())
    out = stage_dir(loaded.home, loaded.pipeline.name, "landmarks", key)
    with stage_lock(out):
        if is_published(out):
            return open_artifact(out)
        make_dir(out)
        with located(files[0].parent):
            log = pa.concat_tables(read_rows(path, config.delivery.format) for path in files)
            rows, counts = _labelled(log, config, rules, end)
            live = _live(log, rules, end)
        if not rows.num_rows:
            fix = "Deliver more days, or shorten creatives.test."
            raise DataError(Problem(str(files[0].parent), "no landmark rows", fix, "D041"))
        entries = [write_table(out / ROWS, rows, out), write_table(out / LIVE, live, out)]
        make_dir(out / _SIDES)
        for name, path in sides.items():
            atomic_write(out / name, path.read_bytes())
            entries.append(entry_of(out / name, out))
        return publish(out, entries, {"run_key": key, "end": end.isoformat(), "counts": counts})


def of_creatives(loaded: Loaded, rows: Manifest, name: str = ROWS) -> Loaded:
    """The pipeline narrowed to its ad-level source, reading a file of the landmarks artifact."""
    config, data = loaded.pipeline.creatives, loaded.pipeline.data
    assert config is not None
    sides = {
        side: files.model_copy(update={"path": f"{_SIDES}/{side}-*"})
        for side, files in config.sides.items()
    }
    update = {
        "root": str(rows.dir),
        "source": config.source,
        "rows": FileSet(path=name),
        "sides": sides,
        "events": {},
        "window": None,
    }
    split = ColumnSplit(policy="column", column=PART, train="train", valid="valid", test="test")
    narrowed = data.model_copy(update=update)
    return replace(
        loaded,
        pipeline=loaded.pipeline.model_copy(
            update={"data": narrowed, "split": None, "creatives": None}
        ),
        spec=loaded.spec.model_copy(update={"split": split}),
    )


def _side_path(name: str, number: int, path: Path) -> str:
    """Place of a side table's file in the artifact."""
    return f"{_SIDES}/{name}-{number:05d}{path.suffix}"


def _delivery(
    loaded: Loaded, config: CreativesConfig, interval_end: str | None
) -> tuple[Path, date, list[Path]]:
    """Root, first day after the log's last one, and the daily files in their order."""
    data = loaded.pipeline.data
    root = Path(data.root).absolute()
    if interval_end is not None:
        end = parse_end(interval_end, data.utc_offset)
    else:
        end = newest_day(root, config.delivery) + timedelta(days=1)
    return root, end, list(find_files(root, config.delivery, end))


def _rules(config: CreativesConfig, horizon: int) -> LandmarkRules:
    return LandmarkRules(
        landmarks=config.landmarks,
        silent_days=config.silent_days,
        stop_source=config.stop_source,
        horizon=horizon,
        age_of_wear_out=config.wear_out_age,
    )


def _labelled(
    log: pa.Table, config: CreativesConfig, rules: LandmarkRules, end: date
) -> tuple[pa.Table, dict[str, int]]:
    test_from = end - timedelta(days=duration_us(config.test) // DAY_US)
    known = landmark_rows(log, rules, test_from - timedelta(days=1))
    later = landmark_rows(log, rules, end - timedelta(days=1))
    train = _with_part(known.table, config)
    train = train.filter(pc.not_equal(train[PART], "test"))
    test = _with_part(later.table, config)
    is_inside = pc.greater_equal(test["day"], pa.scalar(test_from))
    test = test.filter(pc.and_(pc.equal(test[PART], "test"), is_inside))
    rows = pa.concat_tables([train, test]).sort_by([("time", "ascending"), ("row_id", "ascending")])
    counted = rows.filter(pc.equal(rows[PART], "train"))
    weights = fit_ctr_weights(config.ctr_weight, *_counts(counted))
    return rows.append_column(WEIGHT, pa.array(weights.of(*_counts(rows)))), later.counts


def _counts(rows: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clicks, impressions and genres."""
    genres = column_of(rows, "genre").cast(pa.string()).to_numpy(zero_copy_only=False)
    return rows["clicks"].to_numpy(), rows["impressions"].to_numpy(), genres.astype(str)


def _with_part(rows: pa.Table, config: CreativesConfig) -> pa.Table:
    campaign = canonical_ids(column_of(rows, "campaign"), "campaign")
    share = h64(campaign, _CAMPAIGN_SEED) / 2.0**64
    bounds = [config.test_share, config.test_share + config.valid_share]
    names = np.array(["test", "valid", "train"])[np.searchsorted(bounds, share, side="right")]
    return rows.append_column(PART, pa.array(names, pa.string()))


def _live(log: pa.Table, rules: LandmarkRules, end: date) -> pa.Table:
    """Creatives at risk on day `end`, each at its age then, with features of all days before.

    Whoever has been silent for `silent_days` days already counts as stopped.
    """
    silent = timedelta(days=rules.silent_days)
    is_recent = pc.and_(
        pc.greater_equal(log["day"], pa.scalar(end - silent)), pc.less(log["day"], pa.scalar(end))
    )
    recent = log.filter(pc.and_(is_recent, pc.greater(log["impressions"], 0)))
    known = log.filter(pc.is_in(log["creative"], pc.unique(recent["creative"])))
    known = known.filter(pc.less(known["day"], pa.scalar(end)))
    if not known.num_rows:
        return landmark_rows(log, rules, end - timedelta(days=1)).table.slice(0, 0)
    # Whoever is alive has a row on day `end`, under the newest status and without delivery.
    newest = known.sort_by([("creative", "ascending"), ("day", "descending")])
    codes = newest["creative"].combine_chunks().dictionary_encode().indices.to_numpy()
    today = newest.filter(pa.array(np.diff(codes, prepend=-1) != 0))
    empty = {"day": end, **dict.fromkeys(("impressions", "clicks", "conversions", "spend"), 0)}
    for name, value in empty.items():
        column = pa.array([value] * today.num_rows, log.schema.field(name).type)
        today = today.set_column(today.column_names.index(name), name, column)
    every_age = replace(rules, landmarks=tuple(range(1, rules.horizon)), stop_source="flag")
    rows = landmark_rows(pa.concat_tables([known, today]), every_age, end).table
    return rows.filter(pc.equal(rows["day"], pa.scalar(end)))
