"""S001: the safe subset of YAML, and values that YAML reads differently from people."""

import pytest

from recsys_mtl.errors import ConfigError
from recsys_mtl.spec.yaml_nodes import read_override, read_yaml
from tests.spec.files import SPEC, edited, spec_lines


def problems(tmp_path, text: bytes | str) -> list[str]:
    path = tmp_path / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        found = read_yaml(path).problems
    except ConfigError as error:
        found = error.problems
    return [str(p).replace(f"{tmp_path}/", "") for p in found]


REFUSED = {
    "duplicate key": ("a: 1\nb: 2\na: 3\n", "a.yaml:3: a: key 'a' stands twice. Remove one."),
    "boolean key": ("on: 1\n", 'a.yaml:1: on: key on is a boolean in YAML. Quote it: "on".'),
    "list as a key": ("a: 1\n? [b]\n: 2\n", "a.yaml:2: a: a key is not text. Write `key: value`."),
    "alias": ("a: &x 1\nb: *x\n", None),
    "tag": ("a: !!int '3'\n", "a.yaml:1: tag tag:yaml.org,2002:int is refused. Remove it."),
    "python tag": (
        "a: !!python/object/apply:os.system ['true']\n",
        "a.yaml:1: tag tag:yaml.org,2002:python/object/apply:os.system is refused. Remove it.",
    ),
    "deep": ("a: " + "[" * 30 + "]" * 30, "a.yaml:1: nested deeper than 20 levels. Flatten it."),
    "very deep": ("a: " + "[" * 9000, "a.yaml:1: nested deeper than 20 levels. Flatten it."),
    "large": ("#" * 1_000_001, "a.yaml: more than 1,000,000 bytes. Declare less in one file."),
    "list": ("- a\n", "a.yaml:1: expected `key: value` lines."),
    "empty": ("", "a.yaml:1: expected `key: value` lines."),
    "unclosed": ("a: [1\nb: 2\n", "a.yaml:2: not YAML: expected ',' or ']', but got ':'."),
    "two documents": ("a: 1\n---\nb: 2\n", "a.yaml:2: not YAML: but found another document."),
    "bytes": (
        b"a: \xff\n",
        "a.yaml:1: not YAML: unacceptable character #x00ff: invalid start byte.",
    ),
    "exponent": ("a: 1e5\n", "a.yaml:1: a: 1e5 is text in YAML. Write 100000.0, or quote it."),
    "tiny": ("a: 1e-7\n", "a.yaml:1: a: 1e-7 is text in YAML. Write 1.0e-7, or quote it."),
    "no": ("a: no\n", "a.yaml:1: a: no is the boolean false in YAML. Write that, or quote it."),
    "base 60": (
        "a: 1:30\n",
        "a.yaml:1: a: 1:30 is the number 90 in YAML (base 60). Write that, or quote it.",
    ),
    "octal": (
        "a: 012\n",
        "a.yaml:1: a: 012 is the number 10 in YAML (octal). Write that, or quote it.",
    ),
    "no date": (
        "a: 2026-02-30\n",
        "a.yaml:1: a: '2026-02-30' cannot be read: day is out of range for month. "
        "Correct or quote it.",
    ),
}


@pytest.mark.parametrize(("text", "line"), REFUSED.values(), ids=REFUSED)
def test_what_is_outside_the_subset_is_refused(tmp_path, text, line):
    found = problems(tmp_path, text)
    if line is None:
        refusal = "anchors and aliases are refused. Repeat it. [S001]"
        assert found == [f"a.yaml:1: {refusal}", f"a.yaml:2: {refusal}"]
    else:
        assert len(found) == 1
        assert found[0].startswith(line)
        assert found[0].endswith("[S001]")


def test_misread_values_come_as_what_was_meant(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: 1e5\nb: no\nc: '1e5'\nd: '012'\ne: true\nf: 0\n")
    document = read_yaml(path)
    assert document.values == {"a": 1e5, "b": False, "c": "1e5", "d": "012", "e": True, "f": 0}
    assert [p.where.rpartition(" ")[2] for p in document.problems] == ["a", "b"]


def test_the_suggested_number_is_read_as_one(tmp_path):
    path = tmp_path / "a.yaml"
    for text in ("1e5", "1e-7", "2.5E20", "-3e300"):
        fix = problems(tmp_path, f"a: {text}\n")[0].split("Write ")[1].split(",")[0]
        path.write_text(f"a: {fix}\n")
        assert read_yaml(path).values["a"] == float(text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none.yaml: cannot be read: No such file"):
        read_yaml(tmp_path / "none.yaml")


def test_the_line_of_an_absent_place_is_its_parents(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("x: 1\nblock:\n  - {a: 1}\n  - b: 2\n")
    document = read_yaml(path)
    assert document.where(("block", 1, "c", 0)) == f"{path}:4: block.1.c.0"
    assert document.where(()) == f"{path}:1: a"


def test_a_misread_value_is_not_reported_as_a_wrong_type_too(tmp_path):
    text = edited(
        SPEC, ("valid_from: 2026-03-01", "valid_from: 2026-13-01"), ("seed: 17", "seed: 1e1")
    )
    assert spec_lines(tmp_path, text) == [
        "spec.yaml:14: tables.user.ids.seed: 1e1 is text in YAML. Write 10.0, or quote it. [S001]",
        "spec.yaml:30: split.valid_from: '2026-13-01' cannot be read: month must be in 1..12. "
        "Correct or quote it. [S001]",
    ]


def test_overrides_keep_to_the_same_subset():
    assert read_override("[1, a]", "--set x", ("x",)) == ([1, "a"], [])
    assert read_override("", "--set x", ("x",)) == (None, [])
    value, found = read_override("1e-3", "--set x=1e-3", ("x",))
    assert value == 0.001
    assert [str(p) for p in found] == [
        "--set x=1e-3: x: 1e-3 is text in YAML. Write 0.001, or quote it. [S001]"
    ]
    with pytest.raises(ConfigError, match=r"^--set x:1: nested deeper"):
        read_override("[" * 2000, "--set x", ("x",))
