"""Policy file, version 1: when a creative is stopped, for the label that a pipeline predicts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from recsys_mtl.errors import ConfigError
from recsys_mtl.spec.base import Name, Strict
from recsys_mtl.spec.feature_spec import SurvivalLabel
from recsys_mtl.spec.parse import parse
from recsys_mtl.spec.suggest import did_you_mean
from recsys_mtl.spec.view import Fault, View, located
from recsys_mtl.spec.yaml_nodes import read_yaml

Rate = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]


class CausePolicy(Strict):
    """How sure the model must be that operators stop for one cause."""

    precision: Share = Field(
        0.9, description="the lowest threshold that is right so often on validation rows is used"
    )
    min_rows: PositiveInt = Field(
        30, description="validation rows with known outcome that must reach such a threshold"
    )
    threshold: Share | None = Field(None, description="used as it is, instead of `precision`")
    replace_first: bool = Field(
        False, description="ask for a replacement first, and stop after as many days again"
    )


class TargetCtr(Strict):
    """Click rates that are expected."""

    default: Rate = Field(description="of genres that are not named")
    genres: dict[str, Rate] = Field(default_factory=dict)


class EvidencePolicy(Strict):
    """What a creative's own clicks must show before it is stopped.

    P(rate < target | c clicks in n impressions) under a Beta prior with the target as its mean.
    """

    target_ctr: TargetCtr
    min_impressions: int = Field(500, ge=0, description="nobody is judged by fewer")
    probability: Share = Field(0.9, description="of a rate below the target, at least")
    prior_impressions: float = Field(100.0, gt=0, description="what the prior weighs as much as")


class RestraintPolicy(Strict):
    """What holds stops back."""

    hysteresis_days: PositiveInt = Field(2, description="days in a row on which all holds")
    cap_per_advertiser: PositiveInt | None = Field(
        5, description="stops of an advertiser on one day; no cap when null"
    )
    keep_live: int = Field(1, ge=0, description="creatives that stay in each ad group or campaign")
    hold_out: float = Field(
        0.05, ge=0, lt=1, description="share of creatives that are never stopped, by hash"
    )


class Policy(Strict):
    """The whole file."""

    policy_version: Literal[1]
    mode: Literal["shadow", "act"] = Field(
        "shadow", description="shadow: decisions are shown, none is in force"
    )
    horizon: PositiveInt = Field(description="days ahead; one of the label's horizons")
    causes: dict[Name, CausePolicy] = Field(
        min_length=1, description="causes of the label; what is not named stops nothing"
    )
    evidence: EvidencePolicy
    restraint: RestraintPolicy = RestraintPolicy()

    def days_needed(self, cause: str) -> int:
        """Days in a row on which a cause must be met before a stop."""
        days = self.restraint.hysteresis_days
        return 2 * days if self.causes[cause].replace_first else days


def causes_of(label: SurvivalLabel) -> tuple[str, ...]:
    """Names of the label's hazards: its causes, or its own name."""
    return label.causes or (label.name,)


def load_policy(path: Path, label: SurvivalLabel) -> Policy:
    """Load and check a policy file.

    Args:
        path: of the file.
        label: that the pipeline predicts.

    Raises:
        ConfigError: with all problems, each at its line.
    """
    document = read_yaml(path)
    parsed = parse(document, Policy)
    faults = [fault for rule in (_one_threshold, _fits) for fault in rule(View.of(parsed), label)]
    problems = document.problems + parsed.problems + located(document, faults)
    if parsed.model is None or problems:
        raise ConfigError(problems)
    return parsed.model


def _one_threshold(policy: View, label: SurvivalLabel) -> Iterator[Fault]:
    """P030: a threshold is given or chosen."""
    for name, block in policy.named("causes").items():
        unused = [key for key in ("precision", "min_rows") if key in block]
        if "threshold" in block and unused:
            text = f"{' and '.join(unused)} would have no effect beside a fixed threshold"
            yield ("causes", name, unused[0]), "P030", text, "Remove one."


def _fits(policy: View, label: SurvivalLabel) -> Iterator[Fault]:
    """P031: horizon and causes are the label's."""
    horizon, known = policy.get("horizon"), causes_of(label)
    if isinstance(horizon, int) and horizon > 0 and horizon not in label.horizons:
        listed = " and ".join(map(str, label.horizons))
        text = f"label {label.name!r} reads out {listed} days, not {horizon}"
        yield ("horizon",), "P031", text, "Use one of them, or add it to the label and train."
    for name in policy.named("causes"):
        if name not in known:
            text = f"label {label.name!r} has no cause {name!r}{did_you_mean(name, known)}"
            yield ("causes", name), "P031", text, "Correct it."
