"""What the rules across fields see: plain values of the right types, not the parsed model.

So they run on whatever could be read even when some field failed, and every problem of a file
is reported in one go.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from recsys_mtl.errors import Problem
from recsys_mtl.spec.parse import Parsed
from recsys_mtl.spec.yaml_nodes import Document, Loc

Fault = tuple[Loc, str, str, str]
"""Location, code, what is wrong, what to do."""
Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class View:
    """Access to a file's values; what is absent or was refused reads as empty."""

    values: Values
    faulty: frozenset[Loc] = frozenset()

    @classmethod
    def of(cls, parsed: Parsed[Any]) -> "View":
        """View of what parsed."""
        return cls(parsed.values, parsed.faulty)

    def is_faulty(self, loc: Loc) -> bool:
        """Whether a field at or below a location was refused: its absence proves nothing."""
        return any(bad[: len(loc)] == loc for bad in self.faulty)

    def get(self, *keys: str) -> Any:
        """A value below mappings, None when absent."""
        here: Any = self.values
        for key in keys:
            here = here.get(key) if isinstance(here, dict) else None
        return here

    def named(self, *keys: str) -> dict[str, Values]:
        """Blocks of a mapping, e.g. sources or tables."""
        return mapping_of(self.values, *keys)

    def listed(self, key: str) -> Iterator[tuple[Loc, Values]]:
        """Blocks of a top-level list with their locations."""
        yield from list_of(self.values, (), key)

    def labels(self) -> Iterator[tuple[str, Loc, Values]]:
        """(source, location, label) of every label, survival labels included."""
        for name, source in self.named("sources").items():
            for loc, label in list_of(source, ("sources", name), "labels"):
                yield name, loc, label
            if isinstance(source.get("survival"), dict):
                yield name, ("sources", name, "survival"), source["survival"]

    def sequence_fields(self) -> Iterator[tuple[Loc, Values, Values]]:
        """(location of the field, sequence, field)."""
        for loc, sequence in self.listed("sequences"):
            for field_loc, field in list_of(sequence, loc, "fields"):
                yield field_loc, sequence, field

    def sources_of(self, block: Values) -> dict[str, Values]:
        """Sources that see a feature or sequence."""
        sources, chosen = self.named("sources"), block.get("sources")
        if chosen is None:
            return sources
        return {name: source for name, source in sources.items() if name in chosen}


def mapping_of(values: Values, *keys: str) -> dict[str, Values]:
    """The mappings in a mapping below `keys`."""
    here = View(values).get(*keys)
    return {k: v for k, v in here.items() if isinstance(v, dict)} if isinstance(here, dict) else {}


def list_of(values: Values, loc: Loc, key: str) -> Iterator[tuple[Loc, Values]]:
    """The mappings in the list `values[key]` with their locations."""
    items = values.get(key)
    for i, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict):
            yield (*loc, key, i), item


def located(document: Document, faults: list[Fault]) -> list[Problem]:
    """Problems at their lines."""
    return [Problem(document.where(loc), text, fix, code) for loc, code, text, fix in faults]
