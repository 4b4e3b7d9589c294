"""Breaking the logs of the tiny ads product, and what the command line says of it."""

import json
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa

from recsys_mtl.artifacts.commit import read_table
from tests.ads import TINY, write_ads_pipeline
from tests.cli.test_bad_input import change, invoke, published, set_column

DAY = "delivery/2026-03-05.parquet"
END = TINY.first_day + timedelta(days=TINY.num_days)


def refused(folder, root, code, *texts, flags=(), verb="ingest", pipeline=None, spec=None):
    path = write_ads_pipeline(folder, root, pipeline, spec)
    result = invoke(verb, path, "--quiet", *flags)
    assert result.exit_code == code, result.output
    for text in texts:
        assert text in result.output
    assert published(folder) == []


def ingested(folder, root, *flags, pipeline=None):
    """Counts and tables of the landmarks artifact."""
    path = write_ads_pipeline(folder, root, pipeline)
    result = invoke("ingest", path, "--quiet", "--json", *flags)
    assert result.exit_code == 0, result.output
    made = json.loads(result.output.splitlines()[-1])["landmarks"]
    rows, live = (read_table(Path(made["artifact"]) / f"{n}.parquet") for n in ("rows", "live"))
    return made["counts"], rows, live


def cast(name, kind):
    return lambda table: set_column(table, name, table[name].cast(kind))


def all_days(root, edit):
    for path in sorted((root / "delivery").glob("*.parquet")):
        change(path, lambda table, path=path: edit(table, date.fromisoformat(path.stem)))


def edit_creatives(**values):
    return lambda p: p["creatives"].update(values)


def set_typed(name, row, value):
    def edit(table):
        values = table[name].to_pylist()
        values[row] = value
        return set_column(table, name, pa.array(values, table[name].type))

    return edit
