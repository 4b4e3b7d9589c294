import pyarrow as pa

from recsys_mtl.ingest.inputs import IdUse, id_uses, read_ids

from .five_rows import five_rows, spec_of

LISTS = pa.table({"c": [[None, "a", "b", "c"], ["a", None], None, [None]]})


def test_uses_stand_in_file_order_then_sequences():
    found = [(u.name, u.column, u.table, u.keep) for u in id_uses(spec_of(), "rows")]
    assert found == [
        ("city", "city", "city", "one"),
        ("user", "user_id", "user", "one"),
        ("tags", "tags", "tag", "first"),
        ("hour", "hour", "hour", "one"),
        ("visits__city", "visits__city", "city", "newest"),
    ]


def test_a_list_drops_nulls_before_it_is_cut():
    read = read_ids(LISTS, IdUse("c", "c", "tag", "first", 2), spec_of())
    assert (read.values.to_pylist(), read.offsets.tolist()) == (["a", "b", "a"], [0, 2, 3, 3, 3])
    assert read.num_missing == 2


def test_a_sequence_keeps_nulls_so_that_its_fields_stay_aligned():
    read = read_ids(LISTS, IdUse("c", "c", "tag", "newest", 2), spec_of())
    assert read.values.to_pylist() == ["b", "c", "a", None, None]
    assert read.offsets.tolist() == [0, 2, 4, 4, 5]


def test_one_id_per_row_counts_nulls_as_missing():
    read = read_ids(five_rows(), IdUse("city", "city", "city", "one"), spec_of())
    assert (read.offsets, read.num_missing, read.family) == (None, 1, "string")
