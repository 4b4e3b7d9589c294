"""YAML that remembers its lines: a safe subset, loaded to plain values beside their positions."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from recsys_mtl.errors import ConfigError, Problem

Loc = tuple[str | int, ...]
_MAX_BYTES = 1_000_000
_MAX_DEPTH = 20
_FLOAT_AS_TEXT = re.compile(r"^[+-]?\d+(\.\d*)?[eE][+-]?\d+$")
_OCTAL = re.compile(r"^[+-]?0[0-7_]+$")
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Document:
    """Plain values of a YAML file, and where each of them comes from."""

    path: Path
    values: dict[str, Any]
    lines: dict[Loc, int]
    problems: list[Problem]
    """Keys and values that YAML reads differently from what is written (S001)."""
    origins: dict[Loc, str] = field(default_factory=dict)
    """Locations that a flag or variable has set, with its name."""

    def where(self, loc: Loc) -> str:
        """`file:line: dotted.location`, at the nearest enclosing place that the file holds."""
        dotted = ".".join(map(str, loc)) or self.path.stem
        known = loc
        while known and known not in self.lines and known not in self.origins:
            known = known[:-1]
        if known in self.origins:
            return f"{self.origins[known]}: {dotted}"
        return f"{self.path}:{self.lines.get(known, 1)}: {dotted}"


class _Reader:
    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[Loc, int] = {}
        self.problems: list[Problem] = []
        self.constructor = yaml.SafeLoader("")

    def fault(self, node: yaml.Node, loc: Loc, message: str, fix: str) -> None:
        dotted = ".".join(map(str, loc)) or Path(self.name).stem
        where = f"{self.name}:{node.start_mark.line + 1}: {dotted}"
        self.problems.append(Problem(where, message, fix, "S001"))

    def value(self, node: yaml.Node, loc: Loc) -> Any:
        self.lines.setdefault(loc, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, loc)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*loc, i)) for i, child in enumerate(node.value)]
        return self.scalar(node, loc)

    def mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, child in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                self.fault(key_node, loc, "a key is not text", "Write `key: value`.")
                continue
            if key_node.tag == f"{_TAG}bool":
                fix = f'Quote it: "{key}".'
                self.fault(key_node, (*loc, key), f"key {key} is a boolean in YAML", fix)
            if key in values:
                self.fault(key_node, (*loc, key), f"key {key!r} stands twice", "Remove one.")
            self.lines[(*loc, key)] = key_node.start_mark.line + 1
            values[key] = self.value(child, (*loc, key))
        return values

    def scalar(self, node: yaml.Node, loc: Loc) -> Any:
        try:
            value = self.constructor.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            text = getattr(error, "problem", None) or str(error)
            self.fault(node, loc, f"{node.value!r} cannot be read: {text}", "Correct or quote it.")
            return str(node.value)
        if getattr(node, "style", None) is not None:
            return value
        if _FLOAT_AS_TEXT.match(node.value) and isinstance(value, str):
            number = float(node.value)
            fix = f"Write {_yaml_float(number)}, or quote it."
            self.fault(node, loc, f"{node.value} is text in YAML", fix)
            return number
        trap = _trap(str(node.value), value)
        if trap:
            self.fault(node, loc, f"{node.value} is {trap}", "Write that, or quote it.")
        return value


def _yaml_float(number: float) -> str:
    """Shortest form with a point and a signed exponent, which YAML takes as a number."""
    digits, _, exponent = repr(number).partition("e")
    digits = digits if "." in digits else f"{digits}.0"
    return f"{digits}e{int(exponent):+d}" if exponent else digits


def _trap(text: str, value: Any) -> str:
    """What YAML makes of a plain scalar that reads differently to a person, or nothing."""
    if isinstance(value, bool) and text.lower() not in ("true", "false"):
        return f"the boolean {str(value).lower()} in YAML"
    if isinstance(value, int | float) and ":" in text:
        return f"the number {value} in YAML (base 60)"
    if isinstance(value, int) and _OCTAL.match(text) and value > 0:
        return f"the number {value} in YAML (octal)"
    return ""


def read_yaml(path: Path) -> Document:
    """Load a YAML file of the safe subset; values that mislead are in `Document.problems`.

    Raises:
        ConfigError: if the file cannot be read or parsed, is too large or nested too deeply, or
            holds tags, anchors or aliases.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        text = f"cannot be read: {error.strerror}"
        raise ConfigError(Problem(str(path), text, "Check the path.", "S001")) from None
    if len(data) > _MAX_BYTES:
        text = f"more than {_MAX_BYTES:,} bytes"
        raise ConfigError(Problem(str(path), text, "Declare less in one file.", "S001"))
    root = _compose(data, str(path))
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(Problem(f"{path}:1", "expected `key: value` lines", "", "S001"))
    reader = _Reader(str(path))
    values = reader.value(root, ())
    return Document(path, values, reader.lines, reader.problems)


def read_override(text: str, origin: str, loc: Loc) -> tuple[Any, list[Problem]]:
    """The value of an override by the same rules as a file's.

    Raises:
        ConfigError: as `read_yaml`, naming the flag or variable.
    """
    root = _compose(text.encode(), origin)
    if root is None:
        return None, []
    reader = _Reader(origin)
    value = reader.value(root, ())
    dotted = ".".join(map(str, loc))
    return value, [
        Problem(f"{origin}: {dotted}", p.message, p.fix, p.code) for p in reader.problems
    ]


def _compose(data: bytes, name: str) -> yaml.Node | None:
    try:
        _refuse_unsafe(name, data)
        return yaml.compose(data, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        message = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(Problem(f"{name}:{line}", f"not YAML: {message}", "", "S001")) from None


def _refuse_unsafe(name: str, data: bytes) -> None:
    """Refuse tags, anchors, aliases and deep nesting before anything is built from them."""
    problems: list[Problem] = []
    depth = 0
    for event in yaml.parse(data, Loader=yaml.SafeLoader):
        where = f"{name}:{event.start_mark.line + 1 if event.start_mark else 1}"
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            text = f"nested deeper than {_MAX_DEPTH} levels"
            raise ConfigError([*problems, Problem(where, text, "Flatten it.", "S001")])
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            problems.append(Problem(where, "anchors and aliases are refused", "Repeat it.", "S001"))
        elif tag := getattr(event, "tag", None):
            problems.append(Problem(where, f"tag {tag} is refused", "Remove it.", "S001"))
    if problems:
        raise ConfigError(problems)
