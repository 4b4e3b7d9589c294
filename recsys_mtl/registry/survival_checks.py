"""The statistical checks of a survival label: counts, likelihood, and floors that know no champion.

The likelihood is a proper score: nothing gains by hazards that are ordered well and wrong. So one
check of it guards discrimination and calibration of a champion's successor.
"""

import math
from collections.abc import Iterator

from recsys_mtl.metrics.estimate import Estimate, difference
from recsys_mtl.metrics.survival.overall import mean_nll, stop_ratio
from recsys_mtl.registry.decision import Check, Verdict
from recsys_mtl.registry.gate_checks import (
    Power,
    counted,
    enough,
    guardrail,
    no_baseline,
    said,
    signed,
)
from recsys_mtl.registry.survival_holdout import Likelihood, SurvivalHoldout
from recsys_mtl.spec.pipeline import Floor, GateConfig, Margins


def survival_checks(
    holdout: SurvivalHoldout, config: GateConfig, first_champion: bool
) -> Iterator[Check]:
    """All statistical checks on joined rows of a survival label.

    Args:
        holdout: rows with the challenger's likelihood, and the champion's if there is one.
        config: margins, floors and error rates.
        first_champion: let floors decide where no champion can be compared.
    """
    label, champion = holdout.label, holdout.champion
    rest = holdout.stopped, holdout.clusters
    is_gated = label in config.margins
    found = mean_nll(holdout.challenger.nll, *rest)
    if is_gated and champion is None:
        yield _no_baseline(holdout, first_champion)
    if is_gated:
        yield _counts(holdout, found, config)
    if champion is not None:
        pair = found, mean_nll(champion.nll, *rest)
        margin = config.margins.get(label, Margins()).nll
        yield guardrail(label, "nll", pair, margin, Power.of(config), holdout.unit)
    floor = config.floors.get(label, Floor()) if is_gated else None
    marginal = mean_nll(holdout.challenger.marginal_nll, *rest)
    first = floor if champion is None else None
    yield marginal_floor(label, difference(marginal, found), first, config.alpha)
    ratio = _stop_ratio(holdout, holdout.challenger)
    theirs = None if champion is None else _stop_ratio(holdout, champion)
    yield calibration_floor(label, ratio, theirs, floor, config.alpha)


def marginal_floor(label: str, gain: Estimate, floor: Floor | None, alpha: float) -> Check:
    """Is the likelihood better than that of hazards without features, fitted on training rows?

    The gain's lower bound must exceed the floor: a gain at or below it refuses, a gain above it
    whose bound is not holds.

    Args:
        label: its name.
        gain: nats per row.
        floor: reported without a verdict when None.
        alpha: error rate of the bounds.
    """
    numbers = {**counted(gain), "d": gain.value, "se": gain.se}
    bounds, verdict = gain.bounds(alpha), None
    if gain.value is None or bounds is None:
        verdict = None if floor is None else Verdict.HOLD
        text = f"is undefined ({gain.reason})"
    else:
        numbers["L"], numbers["U"] = low, high = bounds
        text = f"{signed(gain.value)}, interval [{signed(low)}, {signed(high)}]"
        if floor is not None:
            numbers["floor"] = floor.gain
            verdict = Verdict.HOLD if gain.value > floor.gain else Verdict.REFUSE
            verdict = Verdict.PROMOTE if low > floor.gain else verdict
            text += f"; its floor is {signed(floor.gain)}"
    sentence = f"{said(verdict)}: {label} NLL gain over hazards without features {text}"
    return Check("floor", verdict, sentence, label, "gain", numbers)


def calibration_floor(
    label: str, ratio: Estimate, champion: Estimate | None, floor: Floor | None, alpha: float
) -> Check:
    """Are about as many stops observed as expected?

    A first champion's interval passes inside the band 1 +- c, holds across its edge and is refused
    outside. A successor is refused outside as well, unless the champion is at least as far from 1
    on the same rows: a margin of likelihood lets hazards drift a little every day, and nobody would
    stop them. Across the edge it passes, so this costs an equal model next to no power.

    Args:
        label: its name.
        ratio: observed over expected stops (`stop_ratio`).
        champion: the same of the champion, where there is one.
        floor: reported without a verdict when None.
        alpha: error rate of each bound.
    """
    numbers = {**counted(ratio), "challenger": ratio.value, "se": ratio.se}
    bounds, verdict = ratio.bounds(alpha), None
    if ratio.value is None or bounds is None:
        verdict = None if floor is None else Verdict.HOLD
        text = f"is undefined ({ratio.reason})"
    else:
        numbers["L"], numbers["U"] = low, high = bounds
        text = f"{ratio.value:.3f}, interval [{low:.3f}, {high:.3f}]"
        if floor is not None:
            numbers["floor"] = floor.calibration
            verdict, where = _in_band(low, high, 1 - floor.calibration, 1 + floor.calibration)
            text += f" {where}"
            if champion is not None and champion.value is not None:
                numbers["champion"] = champion.value
                text += f"; the champion's is {champion.value:.3f}"
                farther = _distance(ratio.value) > _distance(champion.value)
                refused = verdict is Verdict.REFUSE and farther
                verdict = Verdict.REFUSE if refused else Verdict.PROMOTE
    sentence = f"{said(verdict)}: {label} observed over expected stops {text}"
    return Check("calibration", verdict, sentence, label, "calibration", numbers)


def _in_band(low: float, high: float, least: float, most: float) -> tuple[Verdict, str]:
    band = f"{least:g} to {most:g}"
    if least < low and high < most:
        return Verdict.PROMOTE, f"is inside {band}"
    if high < least or most < low:
        return Verdict.REFUSE, f"is outside {band}"
    return Verdict.HOLD, f"reaches beyond {band}"


def _stop_ratio(holdout: SurvivalHoldout, side: Likelihood) -> Estimate:
    return stop_ratio(holdout.stopped, side.expected, holdout.clusters)


def _distance(ratio: float) -> float:
    """From 1; half as many stops are as far off as twice as many."""
    return abs(math.log(ratio)) if ratio > 0 else math.inf


def _no_baseline(holdout: SurvivalHoldout, allowed: bool) -> Check:
    """A champion on another grid is no reason to think less of the challenger, and none to pass."""
    label = holdout.label
    if not holdout.uncovered or allowed:
        return no_baseline([label], allowed)
    sentence = (
        f"HOLD: {label}: {holdout.uncovered}, so they cannot be compared; begin and end "
        "model.hazard.edges where the champion's do, or pass --first-champion to let the floors "
        "decide"
    )
    return Check("first_champion", Verdict.HOLD, sentence, label)


def _counts(holdout: SurvivalHoldout, found: Estimate, config: GateConfig) -> Check:
    needs = (
        (found.n_clusters, config.min_campaigns, holdout.unit),
        (found.n_pos, config.min_stops, "stops"),
    )
    fix = "lengthen creatives.test or raise creatives.test_share"
    return enough(holdout.label, found, needs, fix)
