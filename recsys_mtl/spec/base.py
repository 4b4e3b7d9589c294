"""Building blocks shared by the feature spec and the pipeline file."""

from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
)

_US = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}


class Strict(BaseModel):
    """Base of every configuration class: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _no_double_underscore(name: str) -> str:
    if "__" in name:
        raise ValueError(f"name {name!r} holds '__', which is reserved for derived columns")
    return name


Name = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$"),
    AfterValidator(_no_double_underscore),
]
FromList = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
"""Marks a tuple that YAML writes as a list; its elements stay strict."""
Duration = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,7}[smhd]$")]

UtcOffset = Annotated[str, StringConstraints(pattern=r"^-?[0-9]{1,3}[hm]$")]


def duration_us(text: str) -> int:
    """Microseconds of a duration such as `7d`, `12h` or `1s`, or of an offset such as `-3h`."""
    return int(text[:-1]) * _US[text[-1]]
