"""What the gate says: a verdict, every check behind it, and the numbers of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Self

from recsys_mtl.artifacts.sealed import canonical

NOT_GATED = "not gated"
Kind = Literal["integrity", "counts", "guardrail", "floor", "first_champion", "calibration"]


class Verdict(StrEnum):
    """Outcomes, worst last in severity; the worst check decides."""

    PROMOTE = "PROMOTE"
    HOLD = "HOLD"
    REFUSE = "REFUSE"
    INTEGRITY = "INTEGRITY"

    @property
    def exit_code(self) -> int:
        """Exit code of the command."""
        return {"PROMOTE": 0, "HOLD": 6, "REFUSE": 4, "INTEGRITY": 5}[self.value]

    @property
    def severity(self) -> int:
        """Rank from 0, the best."""
        return list(Verdict).index(self)


@dataclass(frozen=True, slots=True)
class Check:
    """One question that the gate asked, and its answer in one sentence."""

    kind: Kind
    verdict: Verdict | None
    """What this check alone would decide; None when it is reported but not gated."""
    sentence: str
    task: str = ""
    metric: str = ""
    numbers: Mapping[str, float | int | None] = field(default_factory=dict)
    """Everything the sentence rests on, at full precision."""

    def as_json(self) -> dict[str, Any]:
        """Plain values; `outcome` is the verdict of this check alone, or `not gated`."""
        return {
            "class": self.kind,
            "task": self.task,
            "metric": self.metric,
            "outcome": self.verdict or NOT_GATED,
            "sentence": self.sentence,
            "numbers": dict(self.numbers),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The check behind `as_json`."""
        outcome = record["outcome"]
        return cls(
            kind=record["class"],
            verdict=None if outcome == NOT_GATED else Verdict(outcome),
            sentence=record["sentence"],
            task=record["task"],
            metric=record["metric"],
            numbers=record["numbers"],
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """The gate's decision, complete enough to render a report from it alone."""

    verdict: Verdict
    checks: tuple[Check, ...]
    equal_model_pass_probability: float | None
    """Chance that an equally good model passes all guardrails here; None without a champion."""
    notes: tuple[str, ...]
    """Sentences to print before the checks: power of this holdout, warnings."""
    facts: Mapping[str, Any]
    """Fingerprints of what was compared and the gate's configuration."""

    @property
    def exit_code(self) -> int:
        """0 promote, 4 refuse, 5 integrity, 6 hold."""
        return self.verdict.exit_code

    @property
    def reasons(self) -> tuple[str, ...]:
        """Sentences of the checks that did not pass, worst first."""
        blocking = [c for c in self.checks if c.verdict not in (None, Verdict.PROMOTE)]
        ordered = sorted(blocking, key=lambda c: -c.verdict.severity if c.verdict else 0)
        return tuple(c.sentence for c in ordered)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "reasons": list(self.reasons),
            "checks": [c.as_json() for c in self.checks],
            "equal_model_pass_probability": self.equal_model_pass_probability,
            "notes": list(self.notes),
            "facts": dict(self.facts),
        }

    def to_bytes(self) -> bytes:
        """`decision.json`: canonical, so that equal decisions are equal bytes."""
        return canonical(self.as_json()) + b"\n"

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The decision behind `as_json`."""
        return cls(
            verdict=Verdict(record["verdict"]),
            checks=tuple(Check.from_json(c) for c in record["checks"]),
            equal_model_pass_probability=record["equal_model_pass_probability"],
            notes=tuple(record["notes"]),
            facts=record["facts"],
        )


def worst(checks: Sequence[Check]) -> Verdict:
    """The verdict of all checks together; HOLD when none of them was gated."""
    verdicts = [c.verdict for c in checks if c.verdict is not None]
    return max(verdicts, key=lambda v: v.severity, default=Verdict.HOLD)
