"""What a spec compiles to, by hand."""

from recsys_mtl.spec.layout import Bag, compile_layout
from recsys_mtl.spec.load import load_feature_spec
from tests.spec.files import OTHER, SPEC, edited


def layout(tmp_path, source: str, *edits):
    path = tmp_path / "spec.yaml"
    path.write_text(edited(SPEC, *edits))
    return compile_layout(load_feature_spec(path), source)


def test_the_layout_of_the_small_product(tmp_path):
    made = layout(
        tmp_path,
        "views",
        ("[0, 99]}, {log1p: true}, {zscore: fit}]", "[0, 99]}], missing: {indicator: true}"),
    )
    assert made.bags == (
        Bag("user_id", "user", "sum", is_list=False),
        Bag("price", "price", "sum", is_list=False),
        Bag("item_id", "item", "sum", is_list=False),
        Bag("tags", "item", "mean", is_list=True),
    )
    assert made.num_plain_bags == 2
    assert made.dense == ("age", "age__missing")
    assert made.sequences[0].fields == {"clicks__item": "item"}
    assert made.sequences[0].targets == {"clicks__item": "item_id"}
    assert made.sequence_tables == ("item",)
    assert made.task_names == ("click", "buy")
    assert made.parents == (-1, 0)


def test_a_source_sees_its_own_features_tables_and_tasks(tmp_path):
    only = [(f"name: {n},", f"name: {n}, sources: [views],") for n in ("user_id", "price")]
    made = layout(tmp_path, "other", ("sources:\n", OTHER), *only)
    assert [bag.name for bag in made.bags] == ["item_id", "tags"]
    assert list(made.tables) == ["item"]
    assert made.task_names == ("like",)


def test_ids_to_allocate(tmp_path):
    tables = layout(
        tmp_path, "views", ("{kind: vocab}", "{kind: vocab, max_size: 50, oov_buckets: 3}")
    ).tables
    # One for missing, then unknown, then known ids.
    assert {n: t.num_embeddings for n, t in tables.items()} == {
        "user": 1 + 0 + 100,
        "item": 1 + 3 + 50,
        "price": 1 + 1 + 3,
    }
