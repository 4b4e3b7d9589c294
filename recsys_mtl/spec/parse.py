"""From plain values to a strict model, with every problem at its own line.

A first fault must not hide the next one: misspelt keys and kinds are reported and mended in a
copy, which is validated again, and what has the right type goes to the rules across fields.
"""

import copy
import types
import typing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from recsys_mtl.errors import Problem
from recsys_mtl.spec.messages import explain
from recsys_mtl.spec.suggest import closest, did_you_mean
from recsys_mtl.spec.yaml_nodes import Document, Loc

M = TypeVar("M", bound=BaseModel)
_TAGS = ("kind", "policy")
"""Keys that choose a member of a union."""
_TAG_ERRORS = ("union_tag_invalid", "union_tag_not_found")
_BOUNDS = (
    "missing",
    "string_pattern_mismatch",
    "value_error",
    "greater_than",
    "greater_than_equal",
    "less_than",
    "less_than_equal",
    "multiple_of",
    "too_short",
)
"""Faults of values that have the right type."""


@dataclass(frozen=True, slots=True)
class Parsed(Generic[M]):
    """A model, or its problems and what could be read nevertheless."""

    model: M | None
    problems: list[Problem]
    values: dict[str, Any]
    """Plain values of the right types; faulty ones and nulls are absent."""
    faulty: frozenset[Loc] = frozenset()
    """Locations of the values that are absent, or out of bounds."""


def parse(document: Document, model: type[M]) -> Parsed[M]:
    """Validate a document's values against a model."""
    mended = _Mended(document, model)
    parsed, errors = mended.validate()
    while any([mended.mend(error) for error in errors]):
        parsed, errors = mended.validate()
    problems = mended.problems + _explained(mended, errors)
    faulty = frozenset(file_loc(mended.values, error["loc"]) for error in errors)
    for error in errors:
        mended.drop(error)
    return Parsed(None if problems else parsed, problems, _without_nulls(mended.values), faulty)


class _Mended(Generic[M]):
    """A copy of a document's values in which misspellings are put right one by one."""

    def __init__(self, document: Document, model: type[M]) -> None:
        self.document = document
        self.model = model
        self.values: dict[str, Any] = copy.deepcopy(document.values)
        self.problems: list[Problem] = []

    def validate(self) -> tuple[M | None, list[ErrorDetails]]:
        try:
            return self.model.model_validate(self.values), []
        except ValidationError as error:
            return None, error.errors(include_url=False)

    def mend(self, error: ErrorDetails) -> bool:
        """Report and repair an unknown key or kind; False for other faults."""
        loc = file_loc(self.values, error["loc"])
        if error["type"] == "extra_forbidden":
            self.rename(loc)
            return True
        if error["type"] not in _TAG_ERRORS or not isinstance(error["input"], dict):
            return False
        tag = error["ctx"]["discriminator"].strip("'")
        block, kinds = error["input"], kinds_at(self.model, loc)
        if tag in block:
            kind = block[tag]
            best = closest(kind, kinds) if isinstance(kind, str) else None
            if best is None:
                return False
            text = f"unknown {tag} {kind!r}{did_you_mean(kind, kinds)}"
            self.problems.append(Problem(self.document.where((*loc, tag)), text, "", "S003"))
            at(self.values, loc)[tag] = best
            return True
        unknown = set(block) - keys_at(self.model, self.values, loc)
        for key in sorted(unknown, key=lambda k: (closest(k, {tag}) is None, k)):
            self.rename((*loc, key))
        return bool(unknown)

    def rename(self, loc: Loc) -> None:
        """Report an unknown key; keep its value under the key that was meant."""
        *above, key = loc
        parent, word = at(self.values, tuple(above)), str(key)
        known = keys_at(self.model, self.values, tuple(above))
        absent = known - set(parent)
        best = closest(word, absent)
        hint = did_you_mean(word, known if best is None else absent)
        where = self.document.where(loc)
        self.problems.append(Problem(where, f"unknown key {word!r}{hint}", "", "S002"))
        value = parent.pop(key)
        if best is None:
            return
        parent[best] = value
        lines = self.document.lines
        for old in [known for known in lines if known[: len(loc)] == loc]:
            lines.setdefault((*above, best, *old[len(loc) :]), lines[old])

    def drop(self, error: ErrorDetails) -> None:
        """Take a value of the wrong type out, so that the rules need not expect it."""
        loc = file_loc(self.values, error["loc"])
        if error["type"] in _BOUNDS or "[key]" in error["loc"] or not loc:
            return
        parent, value, last = at(self.values, loc[:-1]), at(self.values, loc), loc[-1]
        left: Any = None
        if error["type"] in _TAG_ERRORS and isinstance(value, dict):
            left = {k: v for k, v in value.items() if isinstance(v, str)}
        elif error["type"] in ("model_type", "model_attributes_type", "dict_type"):
            left = {}
        if isinstance(parent, dict) and last in parent:
            parent[last] = left
        elif isinstance(parent, list) and isinstance(last, int):
            parent[last] = left


def _explained(mended: _Mended[Any], errors: list[ErrorDetails]) -> list[Problem]:
    """One problem per location; the alternatives of a union are joined."""
    by_loc: dict[Loc, list[ErrorDetails]] = {}
    for error in errors:
        loc = file_loc(mended.values, error["loc"])
        if error["type"] == "too_short" and at(mended.values, loc):
            continue  # Its items failed by themselves and are reported.
        by_loc.setdefault(loc, []).append(error)
    problems = []
    for loc, alternatives in by_loc.items():
        message, fix = explain(alternatives)
        problems.append(Problem(mended.document.where(loc), message, fix, "S003"))
    return problems


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value


def at(values: Any, loc: Loc) -> Any:
    """The value at a location, None when there is none."""
    here = values
    for part in loc:
        if isinstance(here, dict):
            here = here.get(part)
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        else:
            return None
    return here


def file_loc(values: Any, loc: Loc) -> Loc:
    """A location of pydantic's without the tags that it inserts for unions and validators."""
    kept: list[str | int] = []
    here, tag_seen = values, False
    for i, part in enumerate(loc):
        if isinstance(here, dict):
            if not tag_seen and part in [here[t] for t in _TAGS if isinstance(here.get(t), str)]:
                tag_seen = i < len(loc) - 1
                if tag_seen:
                    continue
            if part not in here and (i < len(loc) - 1 or part == "[key]"):
                continue
            here = here.get(part)
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        else:
            continue
        kept.append(part)
        tag_seen = False
    return tuple(kept)


def keys_at(model: type[BaseModel], values: Any, loc: Loc) -> set[str]:
    """Keys that the model allows at a location; empty for mappings with free keys."""
    block = at(values, loc)
    models = models_at(model, loc)
    tags = [block[t] for t in _TAGS if t in block] if isinstance(block, dict) else []
    chosen = [m for m in models if all(_accepts(m, tag) for tag in tags)]
    return {name for m in (chosen or models) for name in m.model_fields}


def kinds_at(model: type[BaseModel], loc: Loc) -> list[str]:
    """Kinds (or policies) that a union allows at a location."""
    return [
        str(kind)
        for m in models_at(model, loc)
        for tag in _TAGS
        if tag in m.model_fields
        for kind in typing.get_args(m.model_fields[tag].annotation)
    ]


def has_free_keys(model: type[BaseModel], loc: Loc) -> bool:
    """Whether a location is a mapping whose keys the user names."""
    return any(typing.get_origin(a) is dict for a in _annotations_at(model, loc))


def _annotations_at(model: type[BaseModel], loc: Loc) -> list[Any]:
    candidates: list[Any] = [model]
    for part in loc:
        candidates = [step for c in candidates for step in _descend(c, part)]
    return [a for c in candidates for a in _unwrap(c)]


def models_at(model: type[BaseModel], loc: Loc) -> list[type[BaseModel]]:
    """Classes that may stand at a location; several for a union."""
    found = _annotations_at(model, loc)
    return [a for a in found if isinstance(a, type) and issubclass(a, BaseModel)]


def _accepts(model: type[BaseModel], tag: Any) -> bool:
    fields = [model.model_fields[t] for t in _TAGS if t in model.model_fields]
    return not fields or any(tag in typing.get_args(f.annotation) for f in fields)


def _descend(annotation: Any, part: str | int) -> list[Any]:
    steps = []
    for inner in _unwrap(annotation):
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found = inner.model_fields.get(str(part))
            steps += [found.annotation] if found else []
        elif typing.get_origin(inner) is dict:
            steps.append(typing.get_args(inner)[1])
        elif typing.get_origin(inner) is tuple and isinstance(part, int):
            steps.append(typing.get_args(inner)[0])
    return steps


def _unwrap(annotation: Any) -> list[Any]:
    """Members of a union, without Annotated and None."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _unwrap(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [m for arg in typing.get_args(annotation) for m in _unwrap(arg)]
    return [] if annotation is type(None) else [annotation]
