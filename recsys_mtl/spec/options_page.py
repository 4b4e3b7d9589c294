"""Every option of the pipeline or policy file, made from the classes that read it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from recsys_mtl.spec.pipeline import Pipeline

Schema = dict[str, Any]
"""A node of pydantic's JSON schema."""

_TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
}
_PATTERNS = {
    "^[a-z][a-z0-9_]{0,63}$": "name",
    "^[0-9]{1,7}[smhd]$": "duration, as `7d`",
    "^-?[0-9]{1,3}[hm]$": "offset, as `9h`",
}
_BOUNDS = {
    "minimum": ">= {:g}",
    "exclusiveMinimum": "> {:g}",
    "maximum": "<= {:g}",
    "exclusiveMaximum": "< {:g}",
}
_TOP = "the file"
_HEAD = """# Pipeline file

Reference, `pipeline_version: 1`. Generated from the classes that read the file: do not edit.
Unknown keys are errors. `absent` is what an option is when the file does not name it and it has no
value; `required` means that the file must. A type that is a link is a block of options; `NAME`
stands for a name of yours. Any value can be set for one run: `--set training.epochs=1`, or
`RECSYS_SET_TRAINING__EPOCHS=1`.
"""


@dataclass(frozen=True, slots=True)
class Option:
    """One key of a block, in words."""

    name: str
    type: str
    default: str
    bounds: str
    description: str


@dataclass(frozen=True, slots=True)
class Block:
    """A group of options that stands at one place of the file, or at several."""

    title: str
    """Dotted path; with the kind in brackets where several kinds may stand."""
    also: tuple[str, ...]
    """Other paths of the same group."""
    about: str
    options: tuple[Option, ...]


def option_blocks(file: type[BaseModel] = Pipeline) -> list[Block]:
    """All blocks in the order of the file."""
    schema = file.model_json_schema()
    defs: dict[str, Schema] = {**schema["$defs"], _TOP: schema}
    places: dict[str, list[str]] = {}
    for place, name in _places(defs, _TOP, ""):
        places.setdefault(name, []).append(place)
    titles = {name: found[0] for name, found in places.items()}
    return [
        Block(
            place or "The file",
            tuple(also),
            defs[name]["description"].partition("\n\n")[0].replace("\n", " "),
            tuple(_options(defs[name], titles)),
        )
        for name, (place, *also) in places.items()
    ]


def options_page() -> str:
    """The page of the pipeline file, as Markdown."""
    return f"{_HEAD}\n{options_sections(Pipeline)}\n"


def options_sections(file: type[BaseModel]) -> str:
    """A section for each block of a file."""
    parts = []
    for block in option_blocks(file):
        also = ", ".join(f"`{place}`" for place in block.also)
        about = block.about + (f" Also at {also}." if also else "")
        parts.append(f"## {block.title}\n\n{about}\n\n{options_table(block.options)}")
    return "\n\n".join(parts)


def options_table(options: tuple[Option, ...]) -> str:
    """Options as a Markdown table."""
    lines = ["| option | type | default | bounds | meaning |", "|---|---|---|---|---|"]
    for o in options:
        cells = (f"`{o.name}`", o.type, o.default, o.bounds, o.description)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _places(defs: dict[str, Schema], name: str, at: str) -> Iterator[tuple[str, str]]:
    """Where each class stands: (dotted path, class), depth first."""
    yield at, name
    for key, node in defs[name].get("properties", {}).items():
        above, bracket, kind = at.partition(" (")
        path = f"{above}.{key}".lstrip(".") + bracket + kind
        for suffix, inner in _classes(node):
            yield from _places(defs, inner, path + suffix)


def _classes(node: Schema) -> Iterator[tuple[str, str]]:
    """Classes that may stand at a node, each with what its path ends in."""
    if "$ref" in node:
        yield "", _class_of(node)
    for kind, ref in node.get("discriminator", {}).get("mapping", {}).items():
        yield f" ({kind})", ref.rpartition("/")[2]
    for member in node.get("anyOf", ()):
        yield from _classes(member)
    for member in node.get("patternProperties", {}).values():
        for suffix, name in _classes(member):
            yield ".NAME" + suffix, name


def _class_of(node: Schema) -> str:
    return str(node["$ref"].rpartition("/")[2])


def _options(definition: Schema, titles: dict[str, str]) -> Iterator[Option]:
    required = definition.get("required", ())
    for name, node in definition["properties"].items():
        yield Option(
            name,
            _type(node, titles),
            _default(node, name in required),
            ", ".join(_bounds(node)),
            " ".join(node.get("description", "").split()).replace("|", "\\|"),
        )


def _type(node: Schema, titles: dict[str, str]) -> str:
    if "patternProperties" in node:
        (member,) = node["patternProperties"].values()
        return f"map of names to: {_type(member, titles)}"
    if "additionalProperties" in node:
        return f"map of texts to: {_type(node['additionalProperties'], titles)}"
    blocks = [titles[name] for _, name in _classes(node)]
    if blocks:
        return " or ".join(f"[{title}](#{anchor(title)})" for title in blocks)
    if "anyOf" in node:
        return " or ".join(_type(m, titles) for m in node["anyOf"] if m.get("type") != "null")
    if node.get("type") == "array":
        return f"list of: {_type(node['items'], titles)}"
    if "const" in node or "enum" in node:
        choices = node.get("enum", [node.get("const")])
        return ", ".join(f"`{choice}`" for choice in choices)
    if "pattern" in node:
        return _PATTERNS[node["pattern"]]
    return _TYPES[node["type"]]


def anchor(title: str) -> str:
    """What a heading is linked by: the rule of Python-Markdown."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower())


def _default(node: Schema, is_required: bool) -> str:
    if is_required:
        return "required"
    if node.get("type") == "object":
        return "`{}`"
    value = node.get("default")
    if isinstance(value, dict):
        return f"`{value['kind']}`" if "kind" in value else "as there"
    return "absent" if value is None else f"`{json.dumps(value)}`".replace('"', "")


def _bounds(node: Schema) -> Iterator[str]:
    for key, text in _BOUNDS.items():
        if key in node:
            yield text.format(node[key])
    for member in node.get("anyOf", ()):
        yield from _bounds(member)
    if node.get("type") == "array":
        yield from (f"each {bound}" for bound in _bounds(node["items"]))
