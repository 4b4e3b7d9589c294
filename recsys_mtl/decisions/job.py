"""Decisions of a day as an artifact, and the chain from day to day."""

import json
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from recsys_mtl.artifacts.commit import (
    FileEntry,
    atomic_write,
    entry_of,
    make_dir,
    read_table,
    write_table,
)
from recsys_mtl.artifacts.lock import stage_lock
from recsys_mtl.artifacts.manifest import Manifest, is_published, open_artifact, publish
from recsys_mtl.artifacts.pointer import write_pointer
from recsys_mtl.artifacts.runkey import run_key, stage_dir
from recsys_mtl.artifacts.sealed import canonical, seal, unseal
from recsys_mtl.decisions.decide import decide
from recsys_mtl.decisions.page import PageInput, counts_of, render_page
from recsys_mtl.decisions.thresholds import choose_thresholds
from recsys_mtl.decisions.value import Value, with_genre
from recsys_mtl.errors import DataError, IntegrityError, NothingToDoError, Problem
from recsys_mtl.spec.feature_spec import SurvivalLabel
from recsys_mtl.spec.policy_file import Policy

STAGE = "decisions"
DECISIONS, PAGE = "decisions.parquet", "page.html"
POLICY, VALUE = "policy.json", "value.json"


@dataclass(frozen=True, slots=True)
class Input:
    """A table of another artifact."""

    path: Path
    sha: str
    """Of that artifact's manifest."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What decisions are made from."""

    policy: Policy
    label: SurvivalLabel
    version: str
    """Of the model that scored."""
    scores: Input
    """Live creatives, as `decide` takes them."""
    validation: Input
    test: Input
    """Both as `choose_thresholds` takes them, with `row_id`."""
    landmarks: Input
    """Rows that these are of, with `row_id` and `genre`."""
    days: Input
    """As `replay` takes it."""


_INPUTS = ("scores", "validation", "test", "landmarks", "days")


def publish_decisions(home: Path, pipeline: str, decided: Decided) -> Manifest:
    """Decide, or return what is published for the same inputs.

    The newest decisions of a day are those that the next day builds on; `<day>.json` beside the
    artifacts points to them.

    Returns:
        The artifact: `decisions.parquet` (`decide`), `page.html`, `policy.json`: policy with its
        defaults, thresholds and how right they are, and `value.json` (`Value`).

    Raises:
        NothingToDoError: if no creative is alive.
        ConfigError, DataError: as `decide`.
        TransientError: if another run is deciding on the same inputs.
    """
    live = read_table(decided.scores.path)
    day = _day(live, decided.scores.path)
    folder = home / pipeline / STAGE
    before = _decisions_of(folder, day - timedelta(days=1))
    key = run_key(
        STAGE,
        policy=canonical(decided.policy).decode(),
        label=canonical(decided.label).decode(),
        version=decided.version,
        inputs=canonical([getattr(decided, name).sha for name in _INPUTS]).decode(),
        previous=before.sha if before else "",
    )
    out = stage_dir(home, pipeline, STAGE, key)
    with stage_lock(out):
        if not is_published(out):
            make_dir(out)
            entries, counts = _write(out, pipeline, live, decided, before)
            meta: dict[str, Any] = {"run_key": key, "day": day.isoformat()}
            meta["version"] = decided.version
            meta |= {"mode": decided.policy.mode, "counts": counts, "rows": live.num_rows}
            publish(out, entries, {**meta, "previous": before.sha if before else None})
        manifest = open_artifact(out)
    pointer = {"directory": out.name, "manifest_sha": manifest.sha}
    write_pointer(_pointer(folder, day), seal(pointer))
    return manifest


def _day(live: pa.Table, path: Path) -> date:
    days = live["day"].unique().to_pylist()
    if not days:
        raise NothingToDoError("no creative is alive, so there is nothing to decide")
    if len(days) > 1:
        text = f"rows of {len(days):,} days; decisions are made for one"
        raise DataError(Problem(str(path), text, "Score one day at a time.", "D041"))
    day: date = days[0]
    return day


def _pointer(folder: Path, day: date) -> Path:
    return folder / f"{day.isoformat()}.json"


def _decisions_of(folder: Path, day: date) -> Manifest | None:
    path = _pointer(folder, day)
    if not path.is_file():
        return None
    pointer = unseal(path.read_bytes(), path)
    manifest = open_artifact(folder / pointer["directory"])
    if manifest.sha != pointer["manifest_sha"]:
        text = f"points to other decisions than {pointer['directory']} holds"
        raise IntegrityError(Problem(str(path), text, "Decide that day again.", "D022"))
    return manifest


def _write(
    out: Path, title: str, live: pa.Table, decided: Decided, before: Manifest | None
) -> tuple[list[FileEntry], dict[str, int]]:
    policy, label = decided.policy, decided.label
    validation, test, days = (
        read_table(i.path) for i in (decided.validation, decided.test, decided.days)
    )
    thresholds = choose_thresholds(policy, label, validation, test)
    test = with_genre(test, read_table(decided.landmarks.path, ["row_id", "genre"]))
    value = Value.of(policy, label, thresholds, test, days)
    previous = read_table(before.path(DECISIONS)) if before else None
    table = decide(live, policy, label, thresholds, previous)
    day = live["day"][0].as_py().isoformat()
    shown = PageInput(title, day, table, policy, label, thresholds, decided.version, value)
    atomic_write(out / PAGE, render_page(shown).encode())
    told = [t.as_json(policy.causes[t.cause], policy.horizon) for t in thresholds]
    record = {"policy": policy.model_dump(mode="json"), "thresholds": told}
    atomic_write(out / POLICY, json.dumps(record, indent=1, allow_nan=False).encode())
    atomic_write(out / VALUE, json.dumps(value.as_json(), indent=1, allow_nan=False).encode())
    files = [
        write_table(out / DECISIONS, table, out),
        *(entry_of(out / n, out) for n in (PAGE, POLICY, VALUE)),
    ]
    return files, counts_of(table)
