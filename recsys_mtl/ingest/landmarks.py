"""Ad-level rows of a pipeline as an artifact: labelled landmarks, and the creatives alive today."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.artifacts.commit import (
    FileEntry,
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
from recsys_mtl.ingest.alive_days import alive_days, live_creatives
from recsys_mtl.ingest.columns import canonical_ids, column_of
from recsys_mtl.ingest.ctr_weight import fit_ctr_weights
from recsys_mtl.ingest.delivery_files import read_log
from recsys_mtl.ingest.files import check_paths, daily_log, find_files
from recsys_mtl.ingest.hashing import h64
from recsys_mtl.ingest.job import Report, silent, validate
from recsys_mtl.ingest.peers import Peers
from recsys_mtl.ingest.raw import NOTHING
from recsys_mtl.ingest.survival import LandmarkRules, landmark_rows
from recsys_mtl.spec.base import duration_us
from recsys_mtl.spec.feature_spec import ColumnSplit
from recsys_mtl.spec.fingerprint import canonical, fingerprint
from recsys_mtl.spec.interval import DAY_US, parse_end
from recsys_mtl.spec.load import Loaded
from recsys_mtl.spec.pipeline import CreativesConfig, FileSet

ROWS, LIVE, DAYS = "rows.parquet", "live.parquet", "days.parquet"
PART, WEIGHT = "part", "ctr_weight"
_SIDES = "sides"
_CAMPAIGN_SEED = 11


def landmarks(loaded: Loaded, interval_end: str | None) -> Manifest:
    """Make the ad-level rows of a pipeline, or return them if they are published.

    Campaigns are split by hash. Train and validation rows are made from the log before the test
    window, so no label of theirs was decided in it; test rows have their landmark inside.

    Returns:
        The artifact: `rows.parquet`, columns of `survival.landmark_rows` and `peers.Peers`, `part`
        (train, valid, test) and `ctr_weight`; `live.parquet`, creatives that are alive when the
        window ends, with what is known of them then; `days.parquet`, test creatives on every day
        of the test window on which they were alive; and `sides/`, copies of the side tables that
        they join.

    Raises:
        ConfigError: if a path leaves `data.root`.
        DataError: if the log cannot be, has a hole in which all creatives would count as stopped,
            or gives no rows or no stops to learn from.
        NothingToDoError: if the log begins later.
        TransientError: if another run is making the same rows.
    """
    config = loaded.pipeline.creatives
    assert config is not None
    inputs = _inputs(loaded, config, interval_end)
    rules = _rules(config, loaded.pipeline.model.hazard.edges[-1])
    end, utc_offset = inputs.end, loaded.pipeline.data.utc_offset
    settings = config.model_dump(mode="json") | {"horizon": rules.horizon, "end": end.isoformat()}
    settings["utc_offset"] = utc_offset
    data_fp = inputs.fingerprint()
    key = run_key("landmarks", data_fp=data_fp, settings=canonical(settings).decode())
    out = stage_dir(loaded.home, loaded.pipeline.name, "landmarks", key)
    with stage_lock(out):
        if is_published(out):
            return open_artifact(out)
        make_dir(out)
        log = read_log(inputs.daily, config.delivery.format)
        with log.located():
            tables, counts = _tables(log.table, config, rules, end)
        entries = [
            write_table(out / name, _at_local_midnight(table, utc_offset), out)
            for name, table in tables.items()
        ]
        entries += _copied(inputs.sides, out)
        if inputs.fingerprint() != data_fp:
            text = "a delivery log or side table changed while the run was reading it"
            fix = f"Rerun when the files are complete. {NOTHING}"
            raise DataError(Problem(str(inputs.root), text, fix, "D022"))
        return publish(out, entries, {"run_key": key, "end": end.isoformat(), "counts": counts})


def validate_landmarks(
    loaded: Loaded, interval_end: str | None, progress: Report = silent
) -> tuple[list[Problem], dict[str, Any]]:
    """Run the checks of `landmarks`, and those of ingesting its rows, without publishing anything.

    Returns:
        The problems of the ingestion and the rows of each split.

    Raises:
        ConfigError, DataError, NothingToDoError: as `landmarks`.
    """
    with TemporaryDirectory(prefix="landmarks-") as folder:
        pipeline = loaded.pipeline.model_copy(update={"home": folder})
        aside = replace(loaded, pipeline=pipeline)
        return validate(of_creatives(aside, landmarks(aside, interval_end)), None, progress)


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


def _copied(sides: Mapping[str, Path], out: Path) -> list[FileEntry]:
    make_dir(out / _SIDES)
    for name, path in sides.items():
        atomic_write(out / name, path.read_bytes())
    return [entry_of(out / name, out) for name in sides]


@dataclass(frozen=True, slots=True)
class _Inputs:
    """Files that the rows are made from."""

    root: Path
    end: date
    """First day after the log's last one."""
    daily: dict[date, list[Path]]
    """Delivery files of each day."""
    sides: dict[str, Path]
    """Side tables by their place in the artifact."""

    def fingerprint(self) -> str:
        """Of the bytes of all files."""
        files = [path for paths in self.daily.values() for path in paths]
        shas = [[path.relative_to(self.root).as_posix(), sha256_file(path)] for path in files]
        return fingerprint(shas + [[name, sha256_file(path)] for name, path in self.sides.items()])


def _inputs(loaded: Loaded, config: CreativesConfig, interval_end: str | None) -> _Inputs:
    data = loaded.pipeline.data
    check_paths(loaded, (config.delivery, *config.sides.values()))
    root = Path(data.root).absolute()
    end = None if interval_end is None else parse_end(interval_end, data.utc_offset)
    daily = daily_log(root, config.delivery, end)
    sides = {
        _side_path(name, number, path): path
        for name, side in config.sides.items()
        for number, path in enumerate(find_files(root, side, None))
    }
    return _Inputs(root, max(daily) + timedelta(days=1), daily, sides)


def _rules(config: CreativesConfig, horizon: int) -> LandmarkRules:
    return LandmarkRules(
        landmarks=config.landmarks,
        silent_days=config.silent_days,
        stop_source=config.stop_source,
        horizon=horizon,
        age_of_wear_out=config.wear_out_age,
    )


def _tables(
    log: pa.Table, config: CreativesConfig, rules: LandmarkRules, end: date
) -> tuple[dict[str, pa.Table], dict[str, int]]:
    """Tables of the artifact, and the counts of `landmark_rows` over the whole log."""
    rows, counts = _labelled(log, config, rules, end)
    _check_holes(log, rules, end)
    live, days = live_creatives(log, rules, end), _test_days(log, config, rules, end)
    peers = Peers.of(log, rules, end - timedelta(days=1))
    tables = {ROWS: rows, LIVE: live, DAYS: days}
    return {name: peers.beside(table) for name, table in tables.items()}, counts


def _labelled(
    log: pa.Table, config: CreativesConfig, rules: LandmarkRules, end: date
) -> tuple[pa.Table, dict[str, int]]:
    test_from = _test_from(config, end)
    # The whole log first, so that a run tells all of its faults.
    later = landmark_rows(log, rules, end - timedelta(days=1))
    known = landmark_rows(log, rules, test_from - timedelta(days=1))
    train = _with_part(known.table, config)
    train = train.filter(pc.not_equal(train[PART], "test"))
    test = _with_part(later.table, config)
    is_inside = pc.greater_equal(test["day"], pa.scalar(test_from))
    test = test.filter(pc.and_(pc.equal(test[PART], "test"), is_inside))
    rows = pa.concat_tables([train, test]).sort_by([("time", "ascending"), ("row_id", "ascending")])
    _check_parts(rows)
    counted = rows.filter(pc.equal(rows[PART], "train"))
    weights = fit_ctr_weights(config.ctr_weight, *_counts(counted))
    return rows.append_column(WEIGHT, pa.array(weights.of(*_counts(rows)))), later.counts


def _test_from(config: CreativesConfig, end: date) -> date:
    return end - timedelta(days=duration_us(config.test) // DAY_US)


def _test_days(log: pa.Table, config: CreativesConfig, rules: LandmarkRules, end: date) -> pa.Table:
    """Days of the creatives of test campaigns; what they delivered on each stands beside."""
    parts = _with_part(log, config)
    chosen = pc.unique(parts.filter(pc.equal(parts[PART], "test"))["creative"])
    days = _with_part(alive_days(log, chosen, rules, (_test_from(config, end), end)), config)
    # Some have moved to a test campaign later.
    return days.filter(pc.equal(days[PART], "test")).drop_columns([PART])


def _check_holes(log: pa.Table, rules: LandmarkRules, end: date) -> None:
    """Refuse days without rows that make all creatives look stopped: D042."""
    days = pc.unique(log["day"].combine_chunks()).to_numpy(zero_copy_only=False)
    days = np.append(np.sort(days), np.datetime64(end))
    hole = np.diff(days).astype(np.int64) - 1
    if hole.max(initial=0) >= rules.silent_days:
        first, size = days[hole.argmax()] + 1, int(hole.max())
        text = f"no row on {size:,} days from {first} on; after {rules.silent_days} days without"
        text += " delivery a creative counts as stopped, so here all of them would"
        fix = "Deliver these days, or raise creatives.silent_days above the hole."
        raise DataError(Problem("delivery log", text, fix, "D042"))


def _check_parts(rows: pa.Table) -> None:
    """Refuse rows on which nothing can be learned or measured: D041, D011."""
    problems = []
    for part in ("train", "valid", "test"):
        if not pc.any(pc.equal(rows[PART], part)).as_py():
            fix = "Deliver more days or campaigns, or change creatives.test and the shares."
            problems.append(Problem(f"{part} rows", "there are none", fix, "D041"))
    train = rows.filter(pc.equal(rows[PART], "train"))
    if train.num_rows and not pc.any(pc.equal(train["stopped"], 1)).as_py():
        text = f"none of {train.num_rows:,} train rows ends by a stop: all are censored"
        fix = "Deliver more days, or check creatives.stop_source and silent_days."
        problems.append(Problem("train rows", text, fix, "D011"))
    if problems:
        raise DataError(problems)


def _at_local_midnight(rows: pa.Table, utc_offset: str) -> pa.Table:
    """Rows whose time is the UTC instant at which their local day starts."""
    time = pc.subtract(rows["time"], pa.scalar(duration_us(utc_offset), pa.duration("us")))
    return rows.set_column(rows.column_names.index("time"), "time", time)


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
