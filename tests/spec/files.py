"""A small good product, and the lines that a changed copy of it gives."""

from collections.abc import Callable
from pathlib import Path

from recsys_mtl.errors import ConfigError
from recsys_mtl.spec.load import load_feature_spec, load_pipeline

SPEC = """\
spec_version: 1
name: feed
sources:
  views:
    keys: {row_id: row, group: user, time: ts}
    joins:
      - {side: items, key: item}
    events:
      log: {key: user, time: at}
    labels:
      - {name: click, column: is_click}
      - {name: buy, column: is_buy, parent: click}
tables:
  user: {dim: 8, ids: {kind: hash, buckets: 100, seed: 17}}
  item: {dim: 8, ids: {kind: vocab}}
  price: {dim: 4, ids: {kind: range, size: 3}}
features:
  - {name: user_id, kind: id, column: user, table: user}
  - {name: item_id, kind: id, column: item, table: item}
  - {name: tags, kind: id_list, column: items.tags, table: item, max_len: 4}
  - {name: age, kind: number, transform: [{clip: [0, 99]}, {log1p: true}, {zscore: fit}]}
  - {name: price, kind: number, transform: [{bucketize: [1, 5]}], table: price}
sequences:
  - name: clicks
    behaviour: click
    max_len: 10
    events: {log: log}
    fields:
      - {name: item, column: item, table: item, target: item_id}
split: {policy: time, valid_from: 2026-03-01, test_from: 2026-03-02}
"""

PIPELINE = """\
pipeline_version: 1
name: feed
spec: spec.yaml
data:
  root: demo
  source: views
  rows: {path: "rows/{date}.parquet"}
  sides:
    items: {path: items.parquet}
  events:
    log: {path: log.parquet}
split: {valid: 1d, test: 2d}
model:
  tower: {kind: mmoe, num_experts: 4}
objectives:
  tasks:
    click: {weight: 1.0}
training: {seed: 1, dense: {lr: 0.001}}
evaluation: {slices: [item_id]}
gate:
  margins:
    click: {auc: 0.01}
    buy: {ne: 0.02}
  floors:
    buy: {auc: 0.7}
scoring:
  rows: {path: "next/{date}.parquet"}
schedule:
  retrain: {cron: "0 3 * * *", timezone: UTC}
"""

OTHER = """\
sources:
  other:
    keys: {row_id: assign, time: t}
    events: {log: {key: k, position: p}}
    joins: [{side: items, key: item}]
    labels: [{name: like, column: is_like}]
"""
FROM_LOG = "    events: {log: log}\n"
TIME_SPLIT = "policy: time, valid_from: 2026-03-01, test_from: 2026-03-02"
COLUMN_SPLIT = "policy: column, column: part, train: a, test: b"

Edit = tuple[str, str]
Line = tuple[int, str, str]
"""Line number, dotted location, text."""


def edited(text: str, *edits: Edit) -> str:
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def write(folder: Path, spec: str = SPEC, pipeline: str = PIPELINE) -> Path:
    """Both files in a folder; the path of the pipeline file."""
    (folder / "spec.yaml").write_text(spec)
    path = folder / "pipe.yaml"
    path.write_text(pipeline)
    return path


def spec_lines(folder: Path, text: str) -> list[str]:
    """The problems of a spec, without the folder's name; none when it loads."""
    write(folder, text)
    return _lines(folder, lambda: load_feature_spec(folder / "spec.yaml"))


def pipeline_lines(folder: Path, pipeline: str, spec: str = SPEC, *overrides: str) -> list[str]:
    """The problems of both files, without the folder's name; none when they load."""
    path = write(folder, spec, pipeline)
    return _lines(folder, lambda: load_pipeline(path, overrides))


def _lines(folder: Path, load: Callable[[], object]) -> list[str]:
    try:
        load()
    except ConfigError as error:
        assert error.exit_code == 2
        return str(error).replace(f"{folder}/", "").splitlines()
    return []


def shown(file: str, lines: list[Line]) -> list[str]:
    """Lines as they are printed."""
    return [f"{file}:{number}: {loc}: {text}" for number, loc, text in lines]
