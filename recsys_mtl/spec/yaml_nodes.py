"""YAML that remembers its lines: a safe subset, loaded to plain values beside their positions."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recsys_mtl.errors import ConfigError, Problem

Loc = tuple[str | int, ...]
_MAX_BYTES = 1_000_000
_MAX_DEPTH = 20
_FLOAT_AS_TEXT = re.compile(r"^[+-]?\d+(\.\d*)?[eE][+-]?\d+$")


@dataclass(frozen=True, slots=True)
class Document:
    """Plain values of a YAML file and the line of every key and item."""

    path: Path
    values: dict[str, Any]
    lines: dict[Loc, int]

    def where(self, loc: Loc) -> str:
        """`file:line: dotted.location`, at the nearest enclosing place that the file holds."""
        known = loc
        while known and known not in self.lines:
            known = known[:-1]
        dotted = ".".join(map(str, loc)) or self.path.stem
        return f"{self.path}:{self.lines.get(known, 1)}: {dotted}"


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Loc, int] = {}
        self.problems: list[Problem] = []
        self.constructor = yaml.SafeLoader("")

    def fault(self, node: yaml.Node, loc: Loc, message: str, fix: str) -> None:
        dotted = ".".join(map(str, loc)) or self.path.stem
        where = f"{self.path}:{node.start_mark.line + 1}: {dotted}"
        self.problems.append(Problem(where, message, fix, "S001"))

    def value(self, node: yaml.Node, loc: Loc) -> Any:
        self.lines.setdefault(loc, node.start_mark.line + 1)
        if len(loc) > _MAX_DEPTH:
            self.fault(node, loc[:3], f"nested deeper than {_MAX_DEPTH} levels", "Flatten it.")
            return None
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, loc)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*loc, i)) for i, child in enumerate(node.value)]
        return self.scalar(node, loc)

    def mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, child in node.value:
            key = key_node.value
            if not isinstance(key, str) or key_node.tag == "tag:yaml.org,2002:bool":
                self.fault(key_node, loc, f"key {key!r} is not text", f'Quote it: "{key}".')
                continue
            if key in values:
                self.fault(key_node, (*loc, key), f"key {key!r} stands twice", "Remove one.")
            self.lines[(*loc, key)] = key_node.start_mark.line + 1
            values[key] = self.value(child, (*loc, key))
        return values

    def scalar(self, node: yaml.Node, loc: Loc) -> Any:
        if node.tag == "tag:yaml.org,2002:str" and _FLOAT_AS_TEXT.match(node.value):
            if getattr(node, "style", None) is None:
                number = f"{float(node.value):.1e}"
                self.fault(node, loc, f"{node.value} is text in YAML", f"Write {number}.")
            return node.value
        return self.constructor.construct_object(node)


def read_yaml(path: Path) -> Document:
    """Load a YAML file of the safe subset.

    Raises:
        ConfigError: if the file cannot be read or parsed, holds tags, anchors or aliases,
            duplicate keys or keys that YAML does not take as text; all such places at once.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(Problem(str(path), f"cannot be read: {error.strerror}")) from None
    if len(data) > _MAX_BYTES:
        raise ConfigError(Problem(str(path), f"{len(data):,} bytes; at most {_MAX_BYTES:,}"))
    try:
        _refuse_anchors_and_tags(path, data)
        root = yaml.compose(data, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        message = getattr(error, "problem", None) or str(error).splitlines()[0]
        where = f"{path}:{line}"
        raise ConfigError(Problem(where, f"not YAML: {message}", "", "S001")) from None
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(Problem(f"{path}:1", "expected `key: value` lines", "", "S001"))
    reader = _Reader(path)
    try:
        values = reader.value(root, ())
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(
            Problem(f"{path}:1", f"a value cannot be read: {error}", "", "S001")
        ) from None
    if reader.problems:
        raise ConfigError(reader.problems)
    return Document(path, values, reader.lines)


def _refuse_anchors_and_tags(path: Path, data: bytes) -> None:
    problems = []
    for event in yaml.parse(data, Loader=yaml.SafeLoader):
        where = f"{path}:{event.start_mark.line + 1 if event.start_mark else 1}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            problems.append(Problem(where, "anchors and aliases are refused", "Repeat it.", "S001"))
        elif tag := getattr(event, "tag", None):
            problems.append(Problem(where, f"tag {tag} is refused", "Remove it.", "S001"))
    if problems:
        raise ConfigError(problems)
