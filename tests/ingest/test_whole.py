"""What ingest refuses, over a whole world: code, place, way out, and nothing left to read."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.errors import ConfigError, DataError, RecsysError
from recsys_mtl.ingest import scan, whole
from recsys_mtl.ingest.job import ingest, validate

from .worlds import DAY, FIRST, ROWS, day_name, edit, load, with_column, with_value, write_feed

DAY_1 = f"rows/{day_name(1)}.parquet"


@pytest.fixture
def feed(tmp_path):
    return write_feed(tmp_path / "feed")


def refused(tmp_path, feed, change=None, change_spec=None, kind=DataError) -> RecsysError:
    """The error of an ingest, after checking that `validate` says the same and nothing is left."""
    loaded = load(tmp_path / "p", feed, change, change_spec)
    with pytest.raises(kind) as caught:
        ingest(loaded, None)
    assert list((tmp_path / "p").rglob("MANIFEST.json")) == []
    if kind is DataError:
        try:
            problems, splits = validate(loaded, None)
        except DataError as error:
            problems, splits = error.problems, {}
        assert (problems, splits) == (caught.value.problems, {})
        assert not [
            p for p in (tmp_path / "p" / "out" / "tiny" / "validate").rglob("*") if p.is_dir()
        ]
    return caught.value


def only(error, code):
    assert [p.code for p in error.problems] == [code], str(error)
    return str(error)


def test_a_repeated_row_id_is_found_across_files(tmp_path, feed):
    edit(feed / DAY_1, with_value("rid", 5, 17))
    edit(feed / DAY_1, with_value("rid", 6, 18))
    text = only(refused(tmp_path, feed), "D071")
    there = feed / "rows" / f"{day_name(0)}.parquet"
    assert text == (
        f"{feed / DAY_1}: column 'rid': 2 row ids repeat (first at row 5: that of row 17 of"
        f" {there}). Remove the repeats, or use `row_id: assign`. Nothing was published. [D071]"
    )


def test_repeated_row_ids_in_one_file_are_counted(tmp_path, feed):
    edit(feed / DAY_1, with_column("rid", [ROWS] * 3 + list(range(ROWS + 3, 2 * ROWS))))
    text = only(refused(tmp_path, feed), "D071")
    assert "2 row ids repeat (first at row 1: that of row 0 of this file)" in text


def test_row_ids_whose_hashes_meet_are_no_repeats(tmp_path, feed, monkeypatch):
    def few_bits(values, seed):
        return values.to_numpy().astype(np.uint64) % np.uint64(7)

    monkeypatch.setattr(scan, "h64", few_bits)
    monkeypatch.setattr(whole, "h64", few_bits)
    assert ingest(load(tmp_path / "q", feed), None).meta["rows_out"] == 4 * ROWS
    edit(feed / DAY_1, with_value("rid", 5, 17))
    assert "1 row ids repeat" in only(refused(tmp_path, feed), "D071")


def test_a_row_without_an_id(tmp_path, feed):
    edit(feed / DAY_1, with_value("rid", 5, None))
    text = only(refused(tmp_path, feed), "D007")
    assert f"{feed / DAY_1}: column 'rid': 1 rows have no row id (first at row 5)" in text


def test_rows_of_a_later_shard_are_numbered_in_their_file(tmp_path):
    feed = write_feed(tmp_path / "feed", row_group=10)
    edit(feed / DAY_1, with_value("click", 47, 2))
    edit(feed / DAY_1, with_value("ts", 41, None))

    def small(p):
        p["ingest"]["shard_rows"] = 10

    pq.write_table(pq.read_table(feed / DAY_1), feed / DAY_1, row_group_size=10)
    text = only(refused(tmp_path, feed, small), "D005")
    assert f"{feed / DAY_1}: column 'click': 1 rows hold no label (first 2 at row 47)" in text


def test_too_many_rows_without_keys(tmp_path, feed):
    edit(feed / DAY_1, with_column("user_id", lambda v: [None] * 20 + v[20:]))
    edit(feed / DAY_1, with_column("ts", lambda v: [*v[:-10], *[None] * 10]))
    text = only(refused(tmp_path, feed), "D007")
    assert text.startswith(
        f"{feed / DAY_1}: 30 of 240 rows lack a key (10 with no ts, 20 with no user_id), more than"
        " ingest.reject_budget 0.1 allows"
    )


def test_types_that_differ_between_files(tmp_path, feed):
    def text(values):
        return [str(v) for v in values]

    edit(feed / DAY_1, with_column("item_id", text))
    edit(feed / f"rows/{day_name(3)}.parquet", with_column("rid", text))
    problems = refused(tmp_path, feed).problems
    mixed = {p.where.rsplit("/")[-1]: p.message for p in problems if p.code == "D033"}
    assert set(mixed) == {
        f"{day_name(1)}.parquet: column 'item_id'",
        f"{day_name(3)}.parquet: column 'rid'",
    }
    first = feed / f"rows/{day_name(0)}.parquet"
    expected = f"holds string ids, but int ids in {first}; 7 and '7' are different"
    assert set(mixed.values()) == {expected}


def test_a_type_that_is_wrong_in_the_test_split_only(tmp_path, feed):
    last = f"rows/{day_name(3)}.parquet"
    edit(feed / last, with_column("item_id", [0.5] * ROWS))
    text = only(refused(tmp_path, feed), "D001")
    assert f"{feed / last}: column 'item_id': {ROWS} ids are no integers" in text


def test_missing_values_beyond_their_bound(tmp_path, feed):
    for day in range(2):
        edit(
            feed / f"rows/{day_name(day)}.parquet",
            with_column("price", [None] * 45 + [1.0] * 5 + [2.0] * 10),
        )
    text = only(refused(tmp_path, feed), "D009")
    assert text.startswith("column 'price': missing in 75.0% of train rows, more than 50.0%.")
    assert "set quality.per_feature.price.max_null_rate" in text

    def allow(spec):
        spec["quality"]["per_feature"] = {"price": {"max_null_rate": 0.75}}

    assert ingest(load(tmp_path / "q", feed, None, allow), None).meta["rows_out"] == 4 * ROWS


def test_a_side_table_that_most_rows_do_not_find(tmp_path, feed):
    edit(feed / "users.parquet", lambda t: t.slice(0, 1))
    codes = [p.code for p in refused(tmp_path, feed).problems]
    assert codes == ["D009", "D009"]
    text = str(refused(tmp_path, feed))
    assert "side table 'users': " in text and "raise quality.max_unmatched_rate" in text


@pytest.mark.parametrize(("value", "kind"), [(0, "positive"), (1, "negative")])
def test_a_label_of_one_class(tmp_path, feed, value, kind):
    for day in range(2):
        edit(feed / f"rows/{day_name(day)}.parquet", with_column("buy", [value] * ROWS))
        edit(
            feed / f"rows/{day_name(day)}.parquet", with_column("click", [1] * (ROWS - 1) + [value])
        )
    texts = [str(p) for p in refused(tmp_path, feed).problems]
    assert any(f"label 'buy': none of 120 observed train rows is {kind}" in t for t in texts)


def test_a_wrong_time_unit_leaves_no_row_in_the_window(tmp_path, feed):
    def wrong(spec):
        spec["sources"]["rows"]["keys"]["time_unit"] = "s"

    for day in range(4):
        path = feed / f"rows/{day_name(day)}.parquet"
        edit(path, lambda t: t.set_column(3, "ts", t["ts"].cast(pa.int64())))
    text = str(refused(tmp_path, feed, None, wrong))
    assert "column 'ts': holds times that do not fit into 64 bits of microseconds" in text
    assert "Correct `time_unit`" in text
    for day in range(4):
        path = feed / f"rows/{day_name(day)}.parquet"
        edit(path, lambda t: t.set_column(3, "ts", pa.array(t["ts"].to_numpy() // 1000)))
    problems = refused(tmp_path, feed).problems
    assert {p.code for p in problems if p.where.endswith(" rows")} == {"D041"}
    assert "rows lie between 1970-01-21" in str(problems[0])


def test_a_split_without_rows_is_refused_before_training(tmp_path, feed):
    def by_column(spec):
        spec["split"] = {"policy": "column", "column": "part", "train": "a", "test": "b"}
        spec["split"]["valid_fraction"] = 0.3

    for day in range(4):
        edit(feed / f"rows/{day_name(day)}.parquet", with_column("part", ["a"] * ROWS))
    text = only(refused(tmp_path, feed, lambda p: p.pop("split"), by_column), "D041")
    assert text.startswith("test rows: column 'part' has no row of the test split.")


def test_a_constant_number_is_found_by_validate_too(tmp_path, feed):
    for day in range(4):
        edit(feed / f"rows/{day_name(day)}.parquet", with_column("price", [3.0] * ROWS))
    assert "constant (3) in the train rows" in only(refused(tmp_path, feed), "D010")


def test_one_fault_in_many_files_does_not_hide_another(tmp_path):
    feed = write_feed(tmp_path / "feed", days=8)
    for day in range(8):
        edit(feed / f"rows/{day_name(day)}.parquet", lambda t: t.rename_columns({"price": "prise"}))
    edit(feed / f"rows/{day_name(7)}.parquet", with_value("rid", 0, 1))
    edit(feed / f"rows/{day_name(6)}.parquet", lambda t: t.rename_columns({"prise": "price"}))
    edit(feed / f"rows/{day_name(6)}.parquet", with_value("click", 4, 9))
    texts = [str(p) for p in refused(tmp_path, feed).problems]
    assert len(texts) == 5
    assert sum("'price' is missing, did you mean 'prise'?" in t for t in texts) == 3
    assert f"{day_name(7)}.parquet: the same in 4 more shards. [D001]" in texts[3]
    assert "first 9 at row 4" in texts[4]


def test_one_fault_of_a_side_table_is_reported_once(tmp_path, feed):
    edit(feed / "users.parquet", lambda t: pa.concat_tables([t, t.slice(0, 2)]))
    assert "users.parquet: column 'user_id': repeats 2 keys" in only(
        refused(tmp_path, feed), "D007"
    )


def test_a_split_counted_back_needs_a_window(tmp_path, feed):
    def flat(p):
        p["data"]["rows"] = {"path": "rows/*.parquet"}

    error = refused(tmp_path, feed, flat, kind=ConfigError)
    assert "split: is counted back from the end of the window" in str(error)
    assert "Pass --interval-end" in str(error)
    loaded = load(tmp_path / "p", feed, flat)
    assert ingest(loaded, day_name(4)).meta["splits"]["test"]["rows"] == ROWS


def test_a_maturity_needs_a_window(tmp_path, feed):
    def flat(p):
        p.pop("split")
        p["data"]["rows"] = {"path": "rows/*.parquet"}

    def mature(spec):
        spec["sources"]["rows"]["labels"][1]["maturity"] = "1d"

    error = refused(tmp_path, feed, flat, mature, kind=ConfigError)
    assert "the maturity of buy is judged at the end of the window" in str(error)
    assert (FIRST + 4) * DAY == ingest(load(tmp_path / "p", feed), None).meta["interval"]["end_us"]
