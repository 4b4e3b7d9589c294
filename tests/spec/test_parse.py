"""Every field problem at once, at its line, with the right hint."""

import random
import re
from pathlib import Path

import pytest
import yaml

from tests.spec.files import PIPELINE, SPEC, edited, pipeline_lines, spec_lines

ROOT = Path(__file__).resolve().parents[2]

FIELDS = {
    "number for text": (
        ("table: user}", "table: 5}"),
        "spec.yaml:18: features.0.table: found 5; expected text. [S003]",
    ),
    "list for text": (
        ("table: user}", "table: [user]}"),
        "spec.yaml:18: features.0.table: found a list of 1; expected text. [S003]",
    ),
    "text for a list": (
        ("transform: [{bucketize: [1, 5]}]", "transform: log1p"),
        "spec.yaml:22: features.4.transform: found 'log1p'; expected a list. [S003]",
    ),
    "number for a block": (
        ("keys: {row_id: row, group: user, time: ts}", "keys: 5"),
        "spec.yaml:5: sources.views.keys: found 5; expected `key: value` entries. [S003]",
    ),
    "nothing for a block": (
        ("{row_id: row, group: user, time: ts}", ""),
        "spec.yaml:5: sources.views.keys: found nothing; expected `key: value` entries. [S003]",
    ),
    "absent": (
        (", buckets: 100", ""),
        "spec.yaml:14: tables.user.ids.buckets: required, but absent. Add it. [S003]",
    ),
    "absent at the top": (
        ("name: feed\n", ""),
        "spec.yaml:1: name: required, but absent. Add it. [S003]",
    ),
    "bound": (
        ("dim: 4", "dim: 1028"),
        "spec.yaml:16: tables.price.dim: found 1028; expected at most 1024. [S003]",
    ),
    "multiple": (
        ("dim: 4", "dim: 6"),
        "spec.yaml:16: tables.price.dim: found 6; expected a multiple of 4. [S003]",
    ),
    "infinity": (
        ("[0, 99]", "[0, .inf]"),
        "spec.yaml:21: features.3.transform.0.clip.1: found inf; expected a finite number. [S003]",
    ),
    "upper case": (
        ("name: feed", "name: Feed"),
        "spec.yaml:2: name: found 'Feed'; expected a name of a-z, 0-9 and _, at most 64 long, "
        "starting with a letter. [S003]",
    ),
    "reserved underscores": (
        ("name: feed", "name: my__feed"),
        "spec.yaml:2: name: name 'my__feed' holds '__', which is reserved for derived columns. "
        "Rename it. [S003]",
    ),
    "duration": (
        ("parent: click", "parent: click, maturity: 1 day"),
        "spec.yaml:12: sources.views.labels.1.maturity: found '1 day'; expected a duration such "
        "as 7d, 12h, 30m or 1s. [S003]",
    ),
    "date": (
        ("test_from: 2026-03-02", "test_from: tomorrow"),
        "spec.yaml:30: split.test_from: found 'tomorrow'; expected a date such as 2026-03-01. "
        "[S003]",
    ),
    "choice": (
        ("max_len: 4}", "max_len: 4, pooling: maen}"),
        "spec.yaml:20: features.2.pooling: found 'maen'; expected 'sum' or 'mean', did you mean "
        "'mean'? [S003]",
    ),
    "version": (
        ("spec_version: 1", "spec_version: 2"),
        "spec.yaml:1: spec_version: found 2; expected 1. [S003]",
    ),
    "either of two types": (
        ("{zscore: fit}", "{zscore: fti}"),
        "spec.yaml:21: features.3.transform.2.zscore: found 'fti'; expected 'fit' or a list, did "
        "you mean 'fit'? [S003]",
    ),
    "empty list": (
        ("      - {name: item, column: item, table: item, target: item_id}", "      []"),
        "spec.yaml:28: sequences.0.fields: found a list of 0; expected 1 or more entries. [S003]",
    ),
    "item of a list": (
        ("max_len: 4}", "max_len: 4, sources: [5]}"),
        "spec.yaml:20: features.2.sources.0: found 5; expected text. [S003]",
    ),
    "key of a mapping": (
        ("  views:", "  My views:"),
        "spec.yaml:4: sources.My views: found 'My views'; expected a name of a-z, 0-9 and _, at "
        "most 64 long, starting with a letter. [S003]",
    ),
    "unknown key": (
        ("dim: 4", "width: 4"),
        "spec.yaml:16: tables.price.width: unknown key 'width'; known: dim, ids. [S002]\n"
        "spec.yaml:16: tables.price.dim: required, but absent. Add it. [S003]",
    ),
    "misspelt required key": (
        ("max_len: 4", "max_lenn: 4"),
        "spec.yaml:20: features.2.max_lenn: unknown key 'max_lenn', did you mean 'max_len'? [S002]",
    ),
    "misspelt key and wrong value": (
        ("max_len: 4", "max_lenn: many"),
        "spec.yaml:20: features.2.max_lenn: unknown key 'max_lenn', did you mean 'max_len'? "
        "[S002]\n"
        "spec.yaml:20: features.2.max_len: found 'many'; expected a whole number. [S003]",
    ),
    "key of another kind": (
        ("kind: id, column: user", "kind: id, pooling: sum, column: user"),
        "spec.yaml:18: features.0.pooling: unknown key 'pooling'; known: column, kind, name, "
        "side, sources, table. [S002]",
    ),
    "misspelt kind": (
        (
            "kind: id_list, column: items.tags, table: item, max_len: 4",
            "kind: idlist, column: items.tags, table: item, max_len: 0",
        ),
        "spec.yaml:20: features.2.kind: unknown kind 'idlist', did you mean 'id_list'? [S003]\n"
        "spec.yaml:20: features.2.max_len: found 0; expected at least 1. [S003]",
    ),
    "unknown kind": (
        ("{kind: vocab}", "{kind: trie}"),
        "spec.yaml:15: tables.item.ids: found 'trie' for 'kind'; expected one of 'hash', "
        "'vocab', 'range'. [S003]",
    ),
    "no kind": (
        ("{kind: vocab}", "{}"),
        "spec.yaml:15: tables.item.ids: key 'kind' is required, but absent. Add it. [S003]",
    ),
}


@pytest.mark.parametrize(("edit", "lines"), FIELDS.values(), ids=FIELDS)
def test_a_field_problem_gives_its_line(tmp_path, edit, lines):
    assert spec_lines(tmp_path, edited(SPEC, edit)) == lines.split("\n")


def test_a_field_named_like_the_tag_of_a_union_keeps_its_place(tmp_path):
    split = "split: {policy: column, column: split, train: 5, test: b, valid_fraction: 2}"
    text = SPEC[: SPEC.index("split:")] + split
    assert spec_lines(tmp_path, text) == [
        "spec.yaml:30: split.train: found 5; expected text. [S003]",
        "spec.yaml:30: split.valid_fraction: found 2; expected less than 1. [S003]",
    ]


def test_ten_errors_give_ten_lines(tmp_path):
    text = edited(
        SPEC,
        ("name: feed", "name: Feed"),
        ("      log: {key: user, time: at}", "      log: {key: user, tme: at}"),
        ("parent: click", "parent: clik"),
        ("dim: 8, ids: {kind: hash", "dim: 9, ids: {kind: hash"),
        ("size: 3", "size: 4"),
        ("column: user, table: user}", "column: row, table: user}"),
        ("items.tags", "item.tags"),
        ("[0, 99]", "[99, 0]"),
        ("max_len: 10", "max_len: ten"),
        ("test_from: 2026-03-02", "test_from: 2026-02-02"),
    )
    lines = spec_lines(tmp_path, text)
    assert [line.split(": ")[0] for line in lines] == [
        f"spec.yaml:{n}" for n in (2, 9, 12, 14, 16, 18, 20, 21, 26, 30)
    ]
    codes = [re.search(r"\[(\w+)]$", line).group(1) for line in lines]
    assert codes == "S003 S002 S030 S003 S013 S022 S011 S014 S003 S040".split()


def keys_of(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [k for key, value in node.value for k in (key, *keys_of(value))]
    return (
        [k for v in node.value for k in keys_of(v)] if isinstance(node, yaml.SequenceNode) else []
    )


def misspelt(word: str, rng: random.Random) -> str:
    """One random edit: drop, insert, replace or swap."""
    letters, i = "abcdefghijklmnopqrstuvwxyz_", rng.randrange(len(word))
    edits = [
        word[:i] + word[i + 1 :],
        word[:i] + rng.choice(letters) + word[i:],
        word[:i] + rng.choice(letters) + word[i + 1 :],
        word[:i] + word[i + 1 : i + 2] + word[i] + word[i + 2 :],
    ]
    return rng.choice([e for e in edits if e and e != word] or [word + "z"])


SHORT_VIDEO = (ROOT / "feature_specs" / "short_video.yaml").read_text()
FREE = {"impressions", "behaviour", "user", "video", "interest", "topic", "hour", "duration"}
FREE_OF_PIPELINE = {"items", "log", "click", "buy"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "free", "lines_of"),
    [(SHORT_VIDEO, FREE, spec_lines), (PIPELINE, FREE_OF_PIPELINE, pipeline_lines)],
    ids=["spec", "pipeline"],
)
def test_random_typos_of_every_key_get_the_right_hint(tmp_path, text, free, lines_of):
    rng = random.Random(0)
    keys = [k for k in keys_of(yaml.compose(text)) if k.value not in free] * 2
    missed = []
    for key in keys:
        word = misspelt(key.value, rng)
        start, end = key.start_mark.index, key.end_mark.index
        lines = lines_of(tmp_path, text[:start] + word + text[end:])
        place = f":{key.start_mark.line + 1}: "
        hint = f"unknown key {word!r}, did you mean {key.value!r}? [S002]"
        if not any(place in line and line.endswith(hint) for line in lines):
            missed.append((key.value, word))
    assert len(keys) > 60
    assert len(missed) <= 0.05 * len(keys), missed
