"""All that comes from the environment: `${NAME}` in pipeline files, RECSYS_SET_ overrides."""

import os
import re
from typing import Any

from recsys_mtl.errors import Problem
from recsys_mtl.spec.suggest import did_you_mean
from recsys_mtl.spec.yaml_nodes import Document, Loc

ALLOWED = ("DATA_ROOT", "SCORE_ROOT", "RECSYS_HOME")
_REFERENCE = re.compile(r"\$\{([^}]*)\}")
_PREFIX = "RECSYS_SET_"


def environment_overrides() -> dict[str, tuple[str, str]]:
    """`RECSYS_SET_INGEST__ENGINE=ray` as {'ingest.engine': ('ray', variable)}."""
    return {
        name.removeprefix(_PREFIX).lower().replace("__", "."): (value, name)
        for name, value in sorted(os.environ.items())
        if name.startswith(_PREFIX)
    }


def interpolate(document: Document) -> list[Problem]:
    """Replace `${NAME}` in all text values in place; names outside the allow-list are problems."""
    problems: list[Problem] = []
    document.values.update(_walk(document.values, (), document, problems))
    return problems


def _walk(value: Any, loc: Loc, document: Document, problems: list[Problem]) -> Any:
    if isinstance(value, dict):
        return {k: _walk(v, (*loc, k), document, problems) for k, v in value.items()}
    if isinstance(value, list):
        return [_walk(v, (*loc, i), document, problems) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replacement(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in ALLOWED:
            text = f"${{{name}}} is not allowed here{did_you_mean(name, ALLOWED)}"
            problems.append(Problem(document.where(loc), text, "", "S050"))
        elif name not in os.environ:
            dotted = ".".join(map(str, loc))
            fix = f"Export {name}, or pass --set {dotted}=PATH."
            text = f"environment variable {name} is not set"
            problems.append(Problem(document.where(loc), text, fix, "S050"))
        return os.environ.get(name, "")

    return _REFERENCE.sub(replacement, value)
