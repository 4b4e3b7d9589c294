"""S010 to S014: names, tables, references and transforms."""

import pytest

from tests.spec.files import OTHER, SPEC, edited, shown, spec_lines

BROKEN = {
    "a feature named twice": (
        [("name: tags", "name: age")],
        [(21, "features.3.name", "name 'age' stands twice. Rename one. [S010]")],
    ),
    "a label named like a feature": (
        [("name: buy,", "name: age,")],
        [(12, "sources.views.labels.1.name", "name 'age' stands twice. Rename one. [S010]")],
    ),
    "a field named twice": (
        [("target: item_id}", "target: item_id}\n      - {name: item, column: x, table: item}")],
        [(30, "sequences.0.fields.1.name", "name 'item' stands twice. Rename one. [S010]")],
    ),
    "a side joined twice": (
        [("key: item}", "key: item}\n      - {side: items, key: x}")],
        [(8, "sources.views.joins.1.side", "side 'items' stands twice. Rename one. [S010]")],
    ),
    "unknown table": (
        [("table: user}", "table: usr}")],
        [
            (
                14,
                "tables.user",
                "table 'user' is never used. Remove it, or name it in a feature. [S011]",
            ),
            (18, "features.0.table", "unknown table 'usr', did you mean 'user'? [S011]"),
        ],
    ),
    "unused table": (
        [("  price: {dim", "  spare: {dim: 4, ids: {kind: vocab}}\n  price: {dim")],
        [
            (
                16,
                "tables.spare",
                ("table 'spare' is never used. Remove it, or name it in a feature. [S011]"),
            )
        ],
    ),
    "unknown source": (
        [("name: age,", "name: age, sources: [view],")],
        [(21, "features.3.sources.0", "unknown source 'view', did you mean 'views'? [S011]")],
    ),
    "no source": (
        [("name: age,", "name: age, sources: [],")],
        [
            (
                21,
                "features.3.sources",
                ("an empty list: no source would see it. Remove `sources` to serve all. [S011]"),
            )
        ],
    ),
    "no feature": (
        [
            ("sources:\n", OTHER),
            ("name: user_id,", "name: user_id, sources: [views],"),
            ("name: item_id,", "name: item_id, sources: [views],"),
            ("name: tags,", "name: tags, sources: [views],"),
            ("name: age,", "name: age, sources: [views],"),
            ("name: price,", "name: price, sources: [views],"),
            ("name: clicks\n", "name: clicks\n    sources: [views]\n"),
        ],
        [
            (
                4,
                "sources.other",
                "source 'other' sees no feature. Add one, or remove the source. [S011]",
            )
        ],
    ),
    "bounds of no feature": (
        [("split:", "quality: {per_feature: {aeg: {max_null_rate: 0.1}}}\nsplit:")],
        [(30, "quality.per_feature.aeg", "unknown feature 'aeg', did you mean 'age'? [S011]")],
    ),
    "unknown side": (
        [("items.tags", "item.tags")],
        [
            (
                20,
                "features.2.column",
                ("source 'views' joins no side table 'item', did you mean 'items'? [S011]"),
            )
        ],
    ),
    "target on another table": (
        [("target: item_id", "target: user_id")],
        [
            (
                29,
                "sequences.0.fields.0.target",
                ("target 'user_id' is not an id feature on table 'item'; known: item_id. [S011]"),
            )
        ],
    ),
    "target unseen": (
        [("sources:\n", OTHER), ("name: item_id,", "name: item_id, sources: [views],")],
        [
            (
                34,
                "sequences.0.fields.0.target",
                (
                    "source 'other' sees the sequence but not its target 'item_id'. Change "
                    "`sources` of one of them. [S011]"
                ),
            )
        ],
    ),
    "bucketize not last": (
        [("{bucketize: [1, 5]}", "{bucketize: [1, 5]}, {clip: [0, 1]}")],
        [
            (
                22,
                "features.4.transform.0",
                "bucketize is not the last step. Move it to the end. [S013]",
            )
        ],
    ),
    "bucketize without table": (
        [(", table: price}", "}"), ("  price: {dim: 4, ids: {kind: range, size: 3}}\n", "")],
        [(21, "features.4", "bucketize needs a table. Add `table`, of kind range. [S013]")],
    ),
    "table without bucketize": (
        [("transform: [{bucketize: [1, 5]}], ", "")],
        [
            (
                22,
                "features.4.table",
                (
                    "a number has a table only with bucketize. Remove `table`, or end the "
                    "transform with bucketize. [S013]"
                ),
            )
        ],
    ),
    "fill of buckets": (
        [("table: price}", "table: price, missing: {fill: 1}}")],
        [
            (
                22,
                "features.4.missing",
                ("a bucketised number's missing value is id 0. Remove `missing.fill`. [S013]"),
            )
        ],
    ),
    "edges unordered": (
        [("[1, 5]", "[5, 1]")],
        [(22, "features.4.transform", "boundaries must increase. Sort them, drop repeats. [S013]")],
    ),
    "range size": (
        [("size: 3", "size: 4")],
        [
            (
                16,
                "tables.price.ids",
                ("2 boundaries need a table of kind range with size 3. Change `ids`. [S013]"),
            )
        ],
    ),
    "kind of bucket table": (
        [("{kind: range, size: 3}", "{kind: vocab}")],
        [
            (
                16,
                "tables.price.ids",
                ("2 boundaries need a table of kind range with size 3. Change `ids`. [S013]"),
            )
        ],
    ),
    "two ops": (
        [("{clip: [0, 99]}, {log1p: true}", "{clip: [0, 99], log1p: true}")],
        [
            (
                21,
                "features.3.transform.0",
                "a step has one operation, found 2. Write one per list item. [S014]",
            )
        ],
    ),
    "empty step": (
        [("{clip: [0, 99]},", "{clip: [0, 99]}, {},")],
        [
            (
                21,
                "features.3.transform.1",
                "a step has one operation, found 0. Write one per list item. [S014]",
            )
        ],
    ),
    "clip order": (
        [("[0, 99]", "[99, 0]")],
        [(21, "features.3.transform.0", "clip needs low < high, found [99, 0]. Swap them. [S014]")],
    ),
    "zscore std": (
        [("{zscore: fit}", "{zscore: [0, 0]}")],
        [
            (
                21,
                "features.3.transform.2",
                (
                    "zscore needs a deviation above 0, found 0. Change it, or write "
                    "`zscore: fit`. [S014]"
                ),
            )
        ],
    ),
    "log1p without clip": (
        [("{clip: [0, 99]}, ", "")],
        [
            (
                21,
                "features.3.transform.0",
                (
                    "log1p needs an earlier clip with low > -1. Put `{clip: [0, ...]}` "
                    "before it. [S014]"
                ),
            )
        ],
    ),
    "log1p low": (
        [("[0, 99]", "[-1, 99]")],
        [
            (
                21,
                "features.3.transform.1",
                (
                    "log1p needs an earlier clip with low > -1. Put `{clip: [0, ...]}` "
                    "before it. [S014]"
                ),
            )
        ],
    ),
    "log1p after zscore": (
        [("{log1p: true}, {zscore: fit}", "{zscore: fit}, {log1p: true}")],
        [
            (
                21,
                "features.3.transform.2",
                (
                    "log1p needs an earlier clip with low > -1. Put `{clip: [0, ...]}` "
                    "before it. [S014]"
                ),
            )
        ],
    ),
    "clip of 3": (
        [("[0, 99]", "[0, 99, 100]")],
        [
            (
                21,
                "features.3.transform.0.clip",
                "found a list of 3; expected 2 or fewer entries. [S003]",
            )
        ],
    ),
    "clip of 1": (
        [("[0, 99]", "[0]")],
        [(21, "features.3.transform.0.clip", "found a list of 1; expected more entries. [S003]")],
    ),
}
GOOD = {
    "the base": [],
    "a field named like a feature": [("name: item, column: item", "name: age, column: item")],
    "a table that only a sequence reads": [
        ("  - {name: item_id, kind: id, column: item, table: item}\n", ""),
        (", target: item_id", ""),
        ("  - {name: tags, kind: id_list, column: items.tags, table: item, max_len: 4}\n", ""),
    ],
    "a feature of one source": [
        ("sources:\n", OTHER),
        ("name: age,", "name: age, sources: [other],"),
    ],
    "bounds of a feature": [
        ("split:", "quality: {per_feature: {age: {max_null_rate: 0.1}}}\nsplit:")
    ],
    "buckets after a clip": [("{bucketize: [1, 5]}", "{clip: [0, 9]}, {bucketize: [1, 5]}")],
    "a written default of buckets": [("table: price}", "table: price, missing: {fill: 0}}")],
    "an indicator of buckets": [("table: price}", "table: price, missing: {indicator: true}}")],
    "fixed moments": [("{zscore: fit}", "{zscore: [0.5, 2]}")],
    "log1p above -1": [("[0, 99]", "[-0.99, 99]")],
    "log1p of log1p": [("{log1p: true}", "{log1p: true}, {log1p: true}")],
}


@pytest.mark.parametrize(("edits", "lines"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_gives_its_line(tmp_path, edits, lines):
    assert spec_lines(tmp_path, edited(SPEC, *edits)) == shown("spec.yaml", lines)


@pytest.mark.parametrize("edits", GOOD.values(), ids=GOOD)
def test_its_neighbour_loads(tmp_path, edits):
    assert spec_lines(tmp_path, edited(SPEC, *edits)) == []
