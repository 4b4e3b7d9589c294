import math
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_mtl.errors import DataError
from recsys_mtl.ingest.fit import finish, partial_fit
from recsys_mtl.ingest.transform import encode

from .five_rows import AS_OF, DAY, FEATURES, KEYS, LABELS, TABLES, five_rows, spec_of

SPEC = spec_of()
FIT = finish([partial_fit(five_rows(), SPEC, "rows", AS_OF)], SPEC, "rows")


def encoded(rows: pa.Table, with_labels: bool = True) -> pa.Table:
    return encode(rows, SPEC, "rows", FIT, with_labels=with_labels, as_of_us=AS_OF)


def with_column(rows: pa.Table, name: str, values) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, values)


def with_price(*price: float) -> pa.Table:
    return with_column(five_rows().slice(0, len(price)), "shop.price", pa.array(price))


def test_five_rows_by_hand():
    """Ids of hash tables and unknown values are golden; moments of price: 1/3, sqrt(2)/3.

    `rome` stands 4 times and `bonn` twice in what the model reads, so they get 3 and 4 after two
    unknown ids; `oslo` stands once, because its visit is cut off by max_len 2.
    """
    low = np.float32(-1 / math.sqrt(2))
    expected = {
        "key__row_id": ["r1", "r2", "r3", "r4", "r5"],
        "key__group": [
            7259628554680249319,
            7259628554680249319,
            3303439293501059696,
            -3960848774195061201,
            -6411193824288604561,
        ],
        "key__time": [0, DAY, 0, 0, DAY + 1],
        "key__split": [0, 0, 0, 0, 0],
        "user": [94, 94, 85, 3, 49],
        "tags": [[3, 2], [2], [], [], [2, 3]],
        "hour": [2, 5, 1, 0, 1],
        "price_b": [3, 4, 2, 0, 0],
        "city": [3, 2, 0, 3, 4],
        "visits__city": [[4, 3], [], [], [2], [3, 0]],
        "price": [low, np.float32(math.sqrt(2)), low, 0.5, 0.5],
        "price__missing": [0.0, 0.0, 0.0, 1.0, 1.0],
        "age": [1.0, 2.0, 3.0, 0.0, 5.0],
        "label__buy": [1.0, 0.0, 0.0, 0.0, 0.0],
        "mask__buy": [True, True, True, False, False],
        "label__click": [1.0, 0.0, 1.0, 0.0, 1.0],
        "mask__click": [True, True, True, False, True],
        "label__seen": [1.0, 0.0, 0.0, 0.0, 0.0],
        "mask__seen": [True, True, False, False, False],
    }
    table = encoded(five_rows())
    assert table.column_names == list(expected)
    assert table.to_pydict() == expected
    assert all(column.null_count == 0 for column in table.columns)


def test_types_are_those_of_the_contract():
    types = {field.name: field.type for field in encoded(five_rows()).schema}
    assert types["key__row_id"] == pa.string()
    assert types["key__group"] == types["key__time"] == types["user"] == pa.int64()
    assert types["key__split"] == pa.int8()
    assert types["tags"] == types["visits__city"] == pa.list_(pa.int64())
    assert types["price"] == types["price__missing"] == types["label__buy"] == pa.float32()
    assert types["mask__buy"] == pa.bool_()


def test_scoring_needs_no_label_and_gives_the_same_inputs():
    rows = five_rows().drop_columns(["is_click", "is_buy", "state", "shown", "key__split"])
    inputs = encoded(rows, with_labels=False)
    assert inputs.equals(encoded(five_rows()).select(inputs.column_names))
    assert not [n for n in inputs.column_names if n.startswith(("label__", "mask__", "key__split"))]


VALUES = st.sampled_from(["rome", "oslo", "bonn", "paris", "\u00e9", "", "a,b", ",b,", None])
ROW = st.fixed_dictionaries(
    {
        "row": st.text(max_size=3),
        "user_id": st.integers(-(2**63), 2**63 - 1),
        "city": VALUES,
        "tags": VALUES,
        "hour": st.integers(-2, 6) | st.none(),
        "shop.price": st.none() | st.floats(-1e30, 1e30) | st.just(math.nan),
        "age": st.integers(-(2**31), 2**31 - 1) | st.none(),
        "visits__city": st.lists(VALUES, max_size=5) | st.none(),
        "is_click": st.sampled_from([0, 1, None]),
        "is_buy": st.sampled_from([0, 1, None]),
        "state": VALUES,
        "shown": st.sampled_from([0, 1, 2, None]),
        "key__time": st.integers(0, 2 * DAY),
        "key__split": st.integers(-1, 2),
    }
)


@settings(max_examples=60)
@given(st.lists(ROW, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_one_by_one_equals_batch_in_any_column_and_row_order(rows, rng):
    table = pa.Table.from_pylist(rows, five_rows().schema)
    batch = encoded(table)
    singles = [encoded(table.slice(i, 1)) for i in range(len(rows))]
    assert pa.concat_tables(singles).combine_chunks().equals(batch)
    alone = [encoded(pa.Table.from_pylist([row], table.schema)) for row in rows]
    assert pa.concat_tables(alone).combine_chunks().equals(batch)
    columns, order = list(table.column_names), list(range(len(rows)))
    rng.shuffle(columns)
    rng.shuffle(order)
    assert encoded(table.select(columns).take(order)).equals(batch.take(order).combine_chunks())


def cast(rows: pa.Table, column: str, kind: pa.DataType) -> pa.Table:
    return with_column(rows, column, rows[column].cast(kind))


def dictionary_lists(rows: pa.Table) -> pa.Table:
    lists = rows["visits__city"].combine_chunks()
    values = lists.flatten().dictionary_encode()
    lengths = [0 if v is None else len(v) for v in lists.to_pylist()]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return with_column(rows, "visits__city", pa.ListArray.from_arrays(offsets, values))


def rewrapped_dictionary(rows: pa.Table) -> pa.Table:
    """A dictionary that holds null, unused and repeated values."""
    values = pa.array(["unused", None, "bonn", "rome", "oslo", "rome"])
    indices = pa.array([5, 4, 1, 3, 2], pa.int8())
    return with_column(rows, "city", pa.DictionaryArray.from_arrays(indices, values))


SAME_VALUES = {
    "int32 hour": lambda t: cast(t, "hour", pa.int32()),
    "uint8 shown": lambda t: cast(t, "shown", pa.uint8()),
    "double hour": lambda t: cast(t, "hour", pa.float64()),
    "float hour with NaN": lambda t: with_column(
        t, "hour", pa.array([0.0, 3.0, 4.0, math.nan, -1.0], pa.float32())
    ),
    "dictionary city": lambda t: with_column(t, "city", t["city"].dictionary_encode()),
    "odd dictionary city": rewrapped_dictionary,
    "large city": lambda t: cast(t, "city", pa.large_string()),
    "view city": lambda t: cast(t, "city", pa.string_view()),
    "dictionary tags": lambda t: with_column(t, "tags", t["tags"].dictionary_encode()),
    "dictionary lists": dictionary_lists,
    "large lists": lambda t: cast(t, "visits__city", pa.large_list(pa.large_string())),
    "bool click": lambda t: cast(t, "is_click", pa.bool_()),
    "double click": lambda t: cast(t, "is_click", pa.float64()),
    "int64 age": lambda t: cast(t, "age", pa.int64()),
    "decimal age": lambda t: cast(t, "age", pa.decimal128(12, 2)),
    "dictionary row": lambda t: with_column(t, "row", t["row"].dictionary_encode()),
    "dictionary state": lambda t: with_column(t, "state", t["state"].dictionary_encode()),
    "chunks": lambda t: pa.concat_tables([t.slice(0, 2), t.slice(2, 0), t.slice(2)]),
    "slice": lambda t: pa.concat_tables([t, t]).combine_chunks().slice(5),
    "extra column": lambda t: t.append_column("other", [[1] * 5]),
}


@pytest.mark.parametrize("change", SAME_VALUES)
def test_same_values_in_another_type_encode_alike(change):
    rows = SAME_VALUES[change](five_rows())
    assert encoded(rows).equals(encoded(five_rows()))
    other = finish([partial_fit(rows, SPEC, "rows", AS_OF)], SPEC, "rows")
    assert other.record() == FIT.record()


def test_no_rows_give_no_rows():
    assert encoded(five_rows().slice(0, 0)).equals(encoded(five_rows()).slice(0, 0))


def test_all_null_columns_are_missing_whatever_their_type():
    rows = five_rows()
    for name in ("city", "tags", "hour", "shop.price", "age", "visits__city"):
        rows = with_column(rows, name, pa.nulls(5))
    table = encoded(rows).to_pydict()
    assert table["city"] == table["hour"] == table["price_b"] == [0] * 5
    assert table["tags"] == table["visits__city"] == [[]] * 5
    assert (table["price"], table["price__missing"]) == ([0.5] * 5, [1.0] * 5)
    assert table["age"] == [0.0] * 5


def test_unknown_values_get_out_of_vocabulary_ids():
    cities = [f"city-{i}" for i in range(200)]
    rows = pa.concat_tables([five_rows()] * 40)
    ids = encoded(with_column(rows, "city", pa.array(cities)))["city"].to_numpy()
    assert set(ids.tolist()) == {1, 2}
    assert 60 < (ids == 1).sum() < 140


def test_rows_without_group_are_their_own_clusters():
    spec = spec_of(keys={"row_id": "assign", "time": "ts"})
    rows = five_rows().append_column("key__row_id", pa.array(np.arange(5)))
    table = encode(rows, spec, "rows", FIT, with_labels=False)
    assert table["key__row_id"].to_pylist() == [0, 1, 2, 3, 4]
    assert len(set(table["key__group"].to_pylist())) == 5


REFUSED = {
    "absent column": (lambda t: t.drop_columns(["city"]), "'city': not in the data.*D001"),
    "other family": (
        lambda t: with_column(t, "user_id", t["user_id"].cast(pa.string())),
        "'user_id': holds string ids, but int ids when the model was fitted.*D033",
    ),
    "other family in a list": (
        lambda t: with_column(t, "visits__city", pa.array([[1]] * 5)),
        "'visits__city': holds int ids, but string.*D033",
    ),
    "strings for a range": (
        lambda t: with_column(t, "hour", pa.array(["1"] * 5)),
        "'hour': holds strings, but table 'hour' is of kind range",
    ),
    "fraction": (
        lambda t: with_column(t, "hour", pa.array([1.0, 2.5, None, 3.5, 1.0])),
        r"'hour': 2 ids are no integers \(first 2.5 at value 1\)",
    ),
    "infinite id": (
        lambda t: with_column(t, "hour", pa.array([math.inf] * 5)),
        "'hour': 5 ids are no integers",
    ),
    "time as id": (lambda t: cast(t, "user_id", pa.timestamp("us")), "an id is int8 to int64"),
    "uint64": (
        lambda t: cast(t, "hour", pa.float64()).set_column(
            t.column_names.index("hour"), "hour", pa.array([1] * 5, pa.uint64())
        ),
        "has type uint64",
    ),
    "scalar for a list": (
        lambda t: with_column(t, "visits__city", t["city"]),
        "'visits__city': has type string; a list of ids is expected.*D034",
    ),
    "ints to split": (
        lambda t: with_column(t, "tags", pa.array([12] * 5)),
        "'tags': has type int64; with separator ',' strings are expected.*D034",
    ),
    "string number": (lambda t: with_column(t, "age", t["city"]), "'age': has type string; a num"),
    "infinity": (
        lambda t: with_column(t, "shop.price", pa.array([0.0, 1.0, math.inf, -math.inf, 0.0])),
        r"'shop.price': 2 rows hold an infinity \(first at row 2\).*D052",
    ),
    "too large for float32": (
        lambda t: with_column(t, "age", pa.array([1e39] * 5)),
        "'age': feature 'age': 5 rows become not finite.*D052",
    ),
    "label 2": (
        lambda t: with_column(t, "is_click", pa.array([0, 2, 1, 2, 0])),
        r"'is_click': 2 rows hold no label \(first 2 at row 1\).*D005",
    ),
    "string label": (
        lambda t: with_column(t, "is_click", t["city"]),
        "'is_click': has type string",
    ),
    "int for positive": (
        lambda t: with_column(t, "state", t["user_id"]),
        "'state': label 'seen': holds int64, but `positive` lists .'full', 'half'.*D005",
    ),
    "null row id": (
        lambda t: with_column(t, "row", pa.array(["a", None, "b", None, "c"])),
        r"'row': 2 rows have no key \(first at row 1\).*D007",
    ),
    "null group": (lambda t: with_column(t, "user_id", pa.array([1, 2, None, 3, 4])), "D007"),
    "null time": (lambda t: with_column(t, "key__time", pa.array([1, 2, None, 3, 4])), "D007"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_columns_are_refused_by_name(case):
    change, message = REFUSED[case]
    with pytest.raises(DataError, match=message) as caught:
        encoded(change(five_rows()))
    assert caught.value.exit_code == 3
    assert all(p.fix and p.code for p in caught.value.problems)


def test_all_problems_are_shown_at_once():
    rows = five_rows().drop_columns(["city", "age"])
    rows = with_column(rows, "shop.price", pa.array([math.inf] * 5))
    rows = with_column(rows, "is_buy", pa.array([3] * 5))
    with pytest.raises(DataError) as caught:
        encoded(rows)
    where = [p.where for p in caught.value.problems]
    assert where == [f"column {c!r}" for c in ("city", "shop.price", "age", "is_buy")]


def test_log1p_of_minus_one_is_refused_not_hidden():
    features = [{"name": "age", "kind": "number", "transform": [{"log1p": True}]}, *FEATURES[:4]]
    tables = {k: v for k, v in TABLES.items() if k != "price_bin"}
    spec = spec_of(features=features, tables=tables)
    rows = with_column(five_rows(), "age", pa.array([0.0, -1.0, -2.0, None, 1.0]))
    with pytest.raises(DataError, match=r"2 rows become not finite \(first at row 1: -1.0"):
        encode(rows, spec, "rows", FIT, with_labels=False)


def test_maturity_needs_the_snapshot_time():
    with pytest.raises(ValueError, match="'buy' has a maturity; pass as_of_us"):
        encode(five_rows(), SPEC, "rows", FIT, with_labels=True)
    labels = [LABELS[1]]
    spec = spec_of(labels=labels, keys=KEYS)
    assert encode(five_rows(), spec, "rows", FIT, with_labels=True)["mask__click"].to_pylist()[0]


def test_numbers_do_not_depend_on_their_place():
    """Bit for bit: vector kernels must not round the tail of an array differently."""
    rng = random.Random(1)
    price = [rng.uniform(0, 100) for _ in range(1001)]
    rows = pa.concat_tables([five_rows().slice(0, 1)] * 1001)
    batch = encoded(with_column(rows, "shop.price", pa.array(price)))["price"].to_pylist()
    assert batch == [encoded(with_price(p))["price"][0].as_py() for p in price[:60]] + batch[60:]
    backwards = encoded(with_column(rows, "shop.price", pa.array(price[::-1])))
    assert backwards["price"].to_pylist()[::-1] == batch
