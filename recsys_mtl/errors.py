"""Errors that a person can act on, one class per exit code."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """One located fault: where it is, what was found, and the way out."""

    where: str
    """`file:line: dotted.location`, or `file: column 'name'`."""
    message: str
    """What was found and what was expected; `{row}` stands for `row`."""
    fix: str = ""
    code: str = ""
    row: int | None = None
    """First faulty row, from 0: in the table at hand, or in the file once `where` names one."""

    @property
    def text(self) -> str:
        """The message with its row."""
        return self.message if self.row is None else self.message.replace("{row}", f"{self.row:,}")

    def __str__(self) -> str:
        stop = "" if self.text.endswith(("?", ".")) else "."
        fix = f" {self.fix}" if self.fix else ""
        code = f" [{self.code}]" if self.code else ""
        return f"{self.where}: {self.text}{stop}{fix}{code}"


class RecsysError(Exception):
    """Base of every expected failure; carries all problems found in one go.

    Args:
        problems: the faults, or one sentence when there is no better location.
    """

    exit_code = 1

    def __init__(self, problems: "list[Problem] | Problem | str") -> None:
        if isinstance(problems, Problem):
            problems = [problems]
        self.problems = problems if isinstance(problems, list) else []
        text = problems if isinstance(problems, str) else "\n".join(map(str, problems))
        super().__init__(text)

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), (self.problems or str(self),)

    def as_json(self) -> list[dict[str, str]]:
        """The problems as plain dictionaries for `--json`."""
        problems = [asdict(p) | {"message": p.text} for p in self.problems]
        for problem in problems:
            del problem["row"]
        return problems or [{"message": str(self)}]


class ConfigError(RecsysError):
    """A spec, pipeline file, flag or path is wrong; retrying cannot help."""

    exit_code = 2


class DataError(RecsysError):
    """The data break the spec; nothing was published."""

    exit_code = 3


class GateRefusedError(RecsysError):
    """The candidate is worse than the champion by more than a margin."""

    exit_code = 4


class IntegrityError(RecsysError):
    """Bytes, fingerprints or numbers are not what was recorded."""

    exit_code = 5


class GateHeldError(RecsysError):
    """There is not enough evidence for a verdict; try the next window."""

    exit_code = 6


class TransientError(RecsysError):
    """A lock is held, a server is down or a disk is full; retry later."""

    exit_code = 75


class NothingToDoError(RecsysError):
    """The window holds no work."""

    exit_code = 99
