"""From plain values to a strict model, with every problem at its own line."""

import types
import typing
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from recsys_mtl.errors import Problem
from recsys_mtl.spec.suggest import did_you_mean
from recsys_mtl.spec.yaml_nodes import Document, Loc

M = TypeVar("M", bound=BaseModel)


def parse(document: Document, model: type[M]) -> tuple[M | None, list[Problem]]:
    """Validate a document's values; None with its problems when any field failed."""
    try:
        return model.model_validate(document.values), []
    except ValidationError as error:
        return None, _problems(document, model, error.errors())


def _problems(
    document: Document, model: type[BaseModel], errors: list[ErrorDetails]
) -> list[Problem]:
    found: dict[tuple[Loc, str], Problem] = {}
    missing: dict[Loc, list[tuple[str, Problem]]] = {}
    misspelt: dict[Loc, set[str]] = {}
    for error in errors:
        loc = _file_loc(document.values, error["loc"])
        kind = error["type"]
        if kind == "extra_forbidden":
            key, hint = str(loc[-1]), did_you_mean(str(loc[-1]), keys_at(model, document, loc[:-1]))
            problem = Problem(document.where(loc), f"unknown key {key!r}{hint}", "", "S002")
            found[(loc, kind)] = problem
            misspelt.setdefault(loc[:-1], set()).update(hint.split("'")[1:2])
        elif kind == "missing":
            problem = Problem(document.where(loc), "required, but absent", "", "S003")
            missing.setdefault(loc[:-1], []).append((str(loc[-1]), problem))
        elif kind == "too_short" and _holds_items(document, loc):
            continue  # Its items failed by themselves and are reported.
        else:
            message = _message(error)
            found[(loc, message)] = Problem(document.where(loc), message, "", "S003")
    absent = [
        problem
        for parent, entries in missing.items()
        for key, problem in entries
        if key not in misspelt.get(parent, set())
    ]
    return [*found.values(), *absent]


def _holds_items(document: Document, loc: Loc) -> bool:
    return (*loc, 0) in document.lines


def _message(error: ErrorDetails) -> str:
    text = error["msg"].removeprefix("Value error, ")
    value = error.get("input")
    shown = repr(value)
    if isinstance(value, dict | list | BaseModel) or len(shown) > 80:
        return text
    return f"{text}, found {shown}"


def _file_loc(values: Any, loc: Loc) -> Loc:
    """The location without the tags that pydantic inserts for unions and validators."""
    kept: list[str | int] = []
    here = values
    for i, part in enumerate(loc):
        if isinstance(here, dict) and (part in here or i == len(loc) - 1):
            here = here.get(part)
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        else:
            continue
        kept.append(part)
    return tuple(kept)


def keys_at(model: type[BaseModel], document: Document, loc: Loc) -> set[str]:
    """Keys that the model allows at a location of the document."""
    candidates: list[Any] = [model]
    here: Any = document.values
    for part in loc:
        candidates = [step for c in candidates for step in _descend(c, part)]
        here = _child(here, part)
    models = [m for c in candidates for m in _models(c)]
    kind = here.get("kind", here.get("policy")) if isinstance(here, dict) else None
    chosen = [m for m in models if kind is None or _accepts(m, kind)]
    return {name for m in (chosen or models) for name in m.model_fields}


def _child(value: Any, part: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(part)
    return value[part] if isinstance(value, list) and isinstance(part, int) else None


def _accepts(model: type[BaseModel], kind: Any) -> bool:
    field = model.model_fields.get("kind") or model.model_fields.get("policy")
    return field is None or kind in typing.get_args(field.annotation)


def _descend(annotation: Any, part: str | int) -> list[Any]:
    steps = []
    for inner in _unwrap(annotation):
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            field = inner.model_fields.get(str(part))
            steps += [field.annotation] if field else []
        elif typing.get_origin(inner) is dict:
            steps.append(typing.get_args(inner)[1])
        elif typing.get_origin(inner) is tuple and isinstance(part, int):
            steps.append(typing.get_args(inner)[0])
    return steps


def _models(annotation: Any) -> list[type[BaseModel]]:
    return [a for a in _unwrap(annotation) if isinstance(a, type) and issubclass(a, BaseModel)]


def _unwrap(annotation: Any) -> list[Any]:
    """Members of a union, without Annotated and None."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _unwrap(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [m for arg in typing.get_args(annotation) for m in _unwrap(arg)]
    return [] if annotation is type(None) else [annotation]
