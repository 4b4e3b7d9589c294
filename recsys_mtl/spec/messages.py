"""Sentences for pydantic's field errors: what was found, what was expected."""

import re
from typing import Any

from pydantic_core import ErrorDetails

from recsys_mtl.spec.suggest import did_you_mean

_SHOWN = 80
_EXPECTED = {
    "bool_type": "true or false",
    "date_from_datetime_inexact": "a date without a time",
    "date_from_datetime_parsing": "a date such as 2026-03-01",
    "date_parsing": "a date such as 2026-03-01",
    "date_type": "a date such as 2026-03-01",
    "dict_type": "`key: value` entries",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "model_attributes_type": "`key: value` entries",
    "model_type": "`key: value` entries",
    "string_type": "text",
    "tuple_type": "a list",
}
_BOUNDS = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "too_short": "{min_length} or more entries",
    "too_long": "{max_length} or fewer entries",
    "literal_error": "{expected}",
}
_PATTERNS = {
    "[a-z]": "a name of a-z, 0-9 and _, at most 64 long, starting with a letter",
    "[smhd]": "a duration such as 7d, 12h, 30m or 1s",
    "[hm]": "an offset such as 9h, -3h or 330m",
}


def explain(alternatives: list[ErrorDetails]) -> tuple[str, str]:
    """Message and way out of a location's errors; several are the members of a union."""
    first = alternatives[0]
    kinds = {error["type"] for error in alternatives}
    if "missing" in kinds and not isinstance(first["loc"][-1], int):
        return "required, but absent", "Add it."
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, "), "Rename it."
    if first["type"] == "union_tag_not_found":
        tag = _context(first)["discriminator"]
        return f"key {tag} is required, but absent", "Add it."
    if first["type"] == "union_tag_invalid":
        context = _context(first)
        found = f"found {context['tag']!r} for {context['discriminator']}"
        return f"{found}; expected one of {context['expected_tags']}", ""
    expected = list(dict.fromkeys(_expected(error) for error in alternatives))
    message = f"found {_shown(first['input'])}; expected {' or '.join(expected)}"
    return message + _hint(alternatives), ""


def _expected(error: ErrorDetails) -> str:
    kind = error["type"]
    if kind == "missing":
        return "more entries"
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    if kind in _BOUNDS:
        return _BOUNDS[kind].format(**_context(error))
    if kind == "string_pattern_mismatch":
        pattern = _context(error)["pattern"]
        return next((text for part, text in _PATTERNS.items() if part in pattern), pattern)
    return error["msg"].removeprefix("Input should be ")


def _context(error: ErrorDetails) -> dict[str, Any]:
    context = error.get("ctx", {})
    return {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in context.items()}


def _hint(alternatives: list[ErrorDetails]) -> str:
    """Did-you-mean among the words of a choice."""
    for error in alternatives:
        if error["type"] == "literal_error" and isinstance(error["input"], str):
            words = re.findall(r"'([^']*)'", _context(error)["expected"])
            hint = did_you_mean(error["input"], words)
            return hint if "did you mean" in hint else ""
    return ""


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "`key: value` entries"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
