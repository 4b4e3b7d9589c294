"""Overrides of a pipeline file: `RECSYS_SET_A__B=c` from the environment, `--set a.b=c` on top."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from recsys_mtl.errors import ConfigError, Problem
from recsys_mtl.spec.parse import has_free_keys, keys_at, models_at
from recsys_mtl.spec.suggest import did_you_mean
from recsys_mtl.spec.yaml_nodes import Document, Loc, read_override


@dataclass(frozen=True, slots=True)
class _Override:
    origin: str
    loc: Loc
    text: str


def apply_overrides(
    document: Document,
    model: type[BaseModel],
    environment: dict[str, tuple[str, str]],
    flags: Sequence[str],
) -> tuple[dict[str, str], list[Problem]]:
    """Change the document's values; flags win over the environment, which wins over the file.

    Args:
        document: the file; values and origins are changed in place.
        model: class of the whole file, which says what keys there are.
        environment: dotted path to (value, name of the variable).
        flags: `a.b=c` each.

    Returns:
        Dotted path of each value that was set to its flag or variable, and the problems.
    """
    problems: list[Problem] = []
    entries = [
        _Override(name, tuple(dotted.split(".")), text)
        for dotted, (text, name) in environment.items()
    ]
    for flag in flags:
        dotted, equals, text = flag.partition("=")
        if equals:
            entries.append(_Override(f"--set {flag}", tuple(dotted.split(".")), text))
        else:
            fix = "Write --set a.b=value."
            problems.append(Problem(f"--set {flag}", "no '=' found", fix, "S002"))
    # A kind decides which options there are, so it comes before them whatever the order.
    for entry in sorted(entries, key=lambda entry: entry.loc[-1] != "kind"):
        problems += _apply(document, model, entry)
    return {".".join(map(str, loc)): origin for loc, origin in document.origins.items()}, problems


def _apply(document: Document, model: type[BaseModel], entry: _Override) -> list[Problem]:
    for depth, part in enumerate(entry.loc):
        above = entry.loc[:depth]
        known = keys_at(model, document.values, above)
        if part not in known and not has_free_keys(model, above):
            hint = did_you_mean(str(part), known) if known else _no_keys(above)
            return [Problem(entry.origin, f"unknown key {part!r}{hint}", "", "S002")]
    try:
        value, problems = read_override(entry.text, entry.origin, entry.loc)
    except ConfigError as error:
        return error.problems
    here: Any = document.values
    for depth, part in enumerate(entry.loc[:-1]):
        if not isinstance(here.get(part), dict):
            here[part] = _new_block(model, entry.loc[:depth], str(part))
        here = here[part]
    last = entry.loc[-1]
    if last == "kind" and here.get("kind") != value:
        here.clear()  # Options of another kind do not apply.
    here[last] = value
    document.origins[entry.loc] = entry.origin
    return problems


def _new_block(model: type[BaseModel], above: Loc, key: str) -> dict[str, Any]:
    """A block that the file leaves to its default: of the default's kind."""
    models = models_at(model, above)
    defaults = [m.model_fields[key].default for m in models if key in m.model_fields]
    kinds = [default.kind for default in defaults if hasattr(default, "kind")]
    return {"kind": kinds[0]} if kinds else {}


def _no_keys(above: Loc) -> str:
    dotted = ".".join(map(str, above))
    return f"; {dotted} is one value, set it as a whole"
