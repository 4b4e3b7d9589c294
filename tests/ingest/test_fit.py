import math
import pickle
import random
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_mtl.errors import DataError, IntegrityError
from recsys_mtl.ingest.fit import FitState, LabelCount, finish, fit_fp, partial_fit
from recsys_mtl.ingest.transform import encode

from .five_rows import AS_OF, DAY, FEATURES, TABLES, five_rows, spec_of

SPEC = spec_of()


def fitted(*shards: pa.Table, spec=SPEC) -> FitState:
    return finish([partial_fit(s, spec, "rows", AS_OF) for s in shards], spec, "rows")


def files_of(state: FitState, directory: Path) -> dict[str, bytes]:
    entries = state.save(directory)
    assert sorted(e.path for e in entries) == sorted(
        p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file()
    )
    return {entry.path: (directory / entry.path).read_bytes() for entry in entries}


def with_column(rows: pa.Table, name: str, values) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, values)


def many_rows(count: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    rows = pa.concat_tables([five_rows()] * (count // 5))
    cities = np.array([f"city-{k}" for k in range(40)])
    price = rng.lognormal(2, 2, len(rows))
    price[rng.random(len(rows)) < 0.1] = np.nan
    rows = with_column(rows, "city", pa.array(cities[rng.zipf(1.5, len(rows)) % 40]))
    return with_column(rows, "shop.price", pa.array(price))


def test_five_rows_by_hand():
    """`rome` twice and in two visits, `bonn` once and in one; `oslo` and `paris` are rare."""
    state = fitted(five_rows())
    city, tag = state.vocabs["city"], state.vocabs["tag"]
    assert city.values.to_pylist() == ["rome", "bonn"]
    assert (city.counts.tolist(), city.ids.tolist()) == ([4, 2], [3, 4])
    assert (tag.values.to_pylist(), tag.counts.tolist()) == (["b", "a"], [3, 2])
    assert tag.ids.tolist() == [2, 3]
    mean, std = state.moments["price"]
    assert mean == pytest.approx(1 / 3, abs=1e-15)
    assert std == pytest.approx(math.sqrt(2) / 3, abs=1e-15)
    assert state.input_types == {
        "city": "string",
        "user_id": "int",
        "tags": "string",
        "hour": "int",
        "visits__city": "string",
    }
    assert state.missing == {
        "city": 1,
        "user": 0,
        "tags": 2,
        "hour": 1,
        "visits__city": 2,
        "price": 2,
        "price_b": 2,
        "age": 1,
    }
    assert state.labels == {
        "buy": LabelCount(3, 1),
        "click": LabelCount(4, 3),
        "seen": LabelCount(2, 1),
    }
    assert state.labels["click"].rate == 0.75
    assert (state.rows, state.window_us) == (5, (0, DAY + 1))


@pytest.mark.parametrize("num_shards", [2, 7])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_any_sharding_and_order_gives_the_same_bytes(tmp_path, num_shards, seed):
    rows = many_rows(4000)
    rng = random.Random(seed)
    edges = [0, *sorted(rng.sample(range(1, len(rows)), num_shards - 1)), len(rows)]
    shards = [rows.slice(a, b - a) for a, b in pairwise(edges)]
    shards.append(rows.slice(0, 0))
    rng.shuffle(shards)
    one = files_of(fitted(rows), tmp_path / "one")
    assert files_of(fitted(*shards), tmp_path / "many") == one
    order = rng.sample(range(len(rows)), len(rows))
    assert files_of(fitted(rows.take(order)), tmp_path / "shuffled") == one


def test_moments_match_numpy():
    rows = many_rows(4000)
    price = rows["shop.price"].to_numpy()
    point = np.log1p(np.clip(price[~np.isnan(price)], 0, 100))
    assert fitted(rows).moments["price"] == pytest.approx((point.mean(), point.std()), rel=1e-12)


def test_state_survives_a_round_trip(tmp_path):
    rows = many_rows(500)
    state = fitted(rows)
    written = files_of(state, tmp_path / "fit")
    assert sorted(written) == ["fit.json", "vocab/city.parquet", "vocab/tag.parquet"]
    loaded = FitState.load(tmp_path / "fit")
    assert loaded.record() == state.record()
    assert fit_fp(loaded, SPEC) == fit_fp(state, SPEC)
    before, after = (
        encode(rows, SPEC, "rows", s, with_labels=True, as_of_us=AS_OF) for s in (state, loaded)
    )
    assert after.equals(before)
    table = pq.read_table(tmp_path / "fit" / "vocab" / "city.parquet")
    assert table.column_names == ["value", "count", "id"]
    assert table["count"].to_pylist() == sorted(table["count"].to_pylist(), reverse=True)


def test_entries_can_be_relative_to_the_artifact(tmp_path):
    names = [e.path for e in fitted(five_rows()).save(tmp_path / "fit", tmp_path)]
    assert names == ["fit/vocab/city.parquet", "fit/vocab/tag.parquet", "fit/fit.json"]


def test_partials_and_states_travel_between_processes():
    part = partial_fit(many_rows(500), SPEC, "rows", AS_OF)
    state = finish([pickle.loads(pickle.dumps(part))], SPEC, "rows")
    assert pickle.loads(pickle.dumps(state)).record() == finish([part], SPEC, "rows").record()


def test_fingerprint_follows_content_and_input_contract():
    state = fitted(five_rows())
    later = spec_of(split={"policy": "time", "valid_from": "2026-04-08", "test_from": "2026-04-09"})
    wider = spec_of(tables=TABLES | {"tag": {"dim": 8, "ids": TABLES["tag"]["ids"]}})
    assert fit_fp(state, later) == fit_fp(state, SPEC)
    assert fit_fp(state, wider) != fit_fp(state, SPEC)
    changed = with_column(five_rows(), "city", pa.array(["rome", "oslo", None, "rome", "oslo"]))
    assert fit_fp(fitted(changed), SPEC) != fit_fp(state, SPEC)


def test_valid_rows_teach_nothing():
    """Distinct values that stand only outside train leave every byte of the state unchanged."""
    valid = with_column(five_rows(), "city", pa.array(["new"] * 5))
    valid = with_column(valid, "shop.price", pa.array([99.0] * 5))
    valid = with_column(valid, "key__split", pa.array([1] * 5, pa.int8()))
    mixed = pa.concat_tables([five_rows(), valid, five_rows()])
    train = mixed.filter(pc.equal(mixed["key__split"], 0))
    assert fitted(train).record() == fitted(five_rows(), five_rows()).record()
    with pytest.raises(ValueError, match="fit reads train rows only"):
        partial_fit(mixed, SPEC, "rows", AS_OF)


def test_vocabulary_is_cut_by_count_then_value():
    tables = TABLES | {"city": {"dim": 4, "ids": {"kind": "vocab", "max_size": 3}}}
    rows = five_rows().set_column(2, "city", [["d", "\u00e9", "d", "a", "b"]])
    rows = with_column(rows, "visits__city", pa.array([[]] * 5, pa.list_(pa.string())))
    vocab = fitted(rows, spec=spec_of(tables=tables)).vocabs["city"]
    assert vocab.values.to_pylist() == ["d", "a", "b"]
    assert vocab.ids.tolist() == [2, 3, 4]


def test_integer_vocabularies_sort_by_number():
    features = [{"name": "n", "kind": "id", "table": "tag", "column": "user_id"}, *FEATURES]
    features = [f for f in features if f["name"] != "tags"]
    spec = spec_of(features=features)
    vocab = fitted(five_rows(), spec=spec).vocabs["tag"]
    assert vocab.values.to_pylist() == [7, -1, 0, 2**40]
    assert vocab.counts.tolist() == [2, 1, 1, 1]


def test_a_column_without_values_takes_the_family_of_its_table(tmp_path):
    rows = with_column(five_rows(), "city", pa.nulls(5))
    state = fitted(rows)
    assert state.input_types["city"] == "string"
    with pytest.raises(DataError, match="'city': holds int ids"):
        ints = with_column(five_rows(), "city", pa.array([1] * 5))
        encode(ints, SPEC, "rows", state, with_labels=False)


def test_an_empty_vocabulary_knows_no_value(tmp_path):
    rows = with_column(five_rows(), "tags", pa.nulls(5))
    fitted(rows).save(tmp_path)
    state = FitState.load(tmp_path)
    assert "tags" not in state.input_types
    table = encode(five_rows(), SPEC, "rows", state, with_labels=False)
    assert table["tags"].to_pylist() == [[1, 1], [1], [], [], [1, 1]]


REFUSED = {
    "constant": (
        lambda t: with_column(t, "shop.price", pa.array([2.0, 2.0, None, 2.0, 2.0])),
        r"'shop.price': feature 'price' is constant \(1.09861\) in the train rows.*D010",
    ),
    "no value": (
        lambda t: with_column(t, "shop.price", pa.nulls(5)),
        "'shop.price': has no value in the train rows.*D010",
    ),
    "mixed table": (
        lambda t: with_column(t, "visits__city", pa.array([[1]] * 5)),
        "'visits__city': holds int ids, but column 'city' of the same table 'city' holds string",
    ),
    "infinity": (
        lambda t: with_column(t, "age", pa.array([math.inf] * 5)),
        "'age': 5 rows hold an infinity.*D052",
    ),
    "bad label": (
        lambda t: with_column(t, "is_click", pa.array([7] * 5)),
        "'is_click': 5 rows hold no label.*D005",
    ),
    "no rows": (lambda t: t.slice(0, 0), "train rows: there are none to fit on.*D041"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_train_rows_are_refused_by_name(case):
    change, message = REFUSED[case]
    with pytest.raises(DataError, match=message):
        fitted(change(five_rows()))


def test_shards_of_two_families_are_refused():
    ints = with_column(five_rows(), "user_id", pa.array(["7"] * 5))
    with pytest.raises(DataError, match="'user_id': holds integers in some files and strings"):
        fitted(five_rows(), ints)


def test_a_magnitude_that_cannot_be_squared_is_refused():
    feature = {"name": "price", "kind": "number", "column": "shop.price"}
    spec = spec_of(
        features=[*FEATURES[:4], feature | {"transform": [{"zscore": "fit"}]}],
        tables={k: v for k, v in TABLES.items() if k != "price_bin"},
    )
    rows = with_column(five_rows(), "shop.price", pa.array([1.0, 2e150, 3.0, None, 4.0]))
    with pytest.raises(DataError, match=r"1 rows cannot be averaged \(first at row 1: 2e\+150"):
        fitted(rows, spec=spec)


def test_a_changed_file_is_refused(tmp_path):
    fitted(five_rows()).save(tmp_path / "a")
    other = with_column(five_rows(), "city", pa.array(["bonn"] * 5))
    fitted(other).save(tmp_path / "b")
    shutil.copy(tmp_path / "b" / "vocab" / "city.parquet", tmp_path / "a" / "vocab")
    with pytest.raises(IntegrityError, match=r"city.parquet: is not the vocabulary of .*fit.json"):
        FitState.load(tmp_path / "a")
    path = tmp_path / "b" / "fit.json"
    path.write_bytes(path.read_bytes().replace(b'"rows":5', b'"rows":6'))
    with pytest.raises(IntegrityError, match="does not match its own sha256"):
        FitState.load(tmp_path / "b")
    with pytest.raises(IntegrityError, match=r"fit.json: is absent"):
        FitState.load(tmp_path / "c")


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["a", "b", "c", "\u00e9", None]), min_size=1, max_size=40))
def test_counts_are_exact(cities):
    rows = pa.concat_tables([five_rows()] * 8).slice(0, len(cities))
    rows = with_column(rows, "city", pa.array(cities, pa.string()))
    rows = with_column(rows, "visits__city", pa.nulls(len(cities), pa.list_(pa.string())))
    part = partial_fit(rows, SPEC, "rows", AS_OF)
    expected = {v: cities.count(v) for v in sorted({c for c in cities if c is not None})}
    found = part.counts.get("city", pa.table({"value": [], "count": []})).to_pydict()
    assert dict(zip(found["value"], found["count"], strict=True)) == expected
