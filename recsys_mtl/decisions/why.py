"""Why a creative is treated as it is: codes for machines, one sentence for people."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.decisions.restraint import Restrained
from recsys_mtl.decisions.signs import Signs
from recsys_mtl.decisions.thresholds import bound_in_words, spoken
from recsys_mtl.ingest.delivery import AD_GROUP
from recsys_mtl.spec.policy_file import Policy


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """All that led to the decisions about B creatives."""

    signs: Signs
    wants_stop: np.ndarray
    """bool[B], before restraints."""
    wants_replacement: np.ndarray
    """bool[B]"""
    hold_out: np.ndarray
    """bool[B]"""
    restrained: Restrained

    @property
    def flags(self) -> dict[str, np.ndarray]:
        """Codes with the creatives that have them, bool[B] each, in the order of their telling."""
        signs = self.signs
        flags = {name: cause.is_likely for name, cause in signs.causes.items()}
        flags["below_target"] = signs.is_below
        flags["few_impressions"] = signs.is_likely & ~signs.is_shown
        flags["not_below_target"] = signs.is_likely & signs.is_shown & ~signs.is_below
        is_met = np.any([cause.met_days > 0 for cause in signs.causes.values()], axis=0)
        flags["too_few_days"] = is_met & ~self.wants_stop
        ready = self.wants_replacement & ~self.restrained.stops & ~self.hold_out
        flags["replace_first"] = ready
        flags["hold_out"] = self.hold_out & (signs.is_likely | signs.is_below)
        flags["kept_last"] = self.restrained.kept_last
        flags["capped"] = self.restrained.capped
        flags["no_sign"] = ~(signs.is_likely | signs.is_below)
        return flags


def reasons_of(case: Case) -> pa.ListArray:
    """Codes of each creative: list<string>[B]."""
    flags = case.flags
    held = np.stack(list(flags.values()), axis=1)
    _, code = np.nonzero(held)
    offsets = np.concatenate([[0], np.cumsum(held.sum(1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(list(flags)).take(pa.array(code)))


def sentences_of(
    case: Case, policy: Policy, thresholds: Mapping[str, float | None], live: pa.Table
) -> pa.Array:
    """A sentence for each creative: string[B].

    Args:
        case: what led to the decisions.
        policy: the rules.
        thresholds: of each cause; None where it never stops.
        live: the creatives.
    """
    rules, flags = policy.restraint, case.flags
    cap, keep = rules.cap_per_advertiser, rules.keep_live
    group = "ad group" if AD_GROUP in live.column_names else "campaign"
    parts = [
        _cause_part(case, policy, thresholds),
        _rate_part(case, live),
        _where(flags["replace_first"], _likely_days(case, policy)),
        _where(flags["too_few_days"], _days(case, policy)),
        _where(flags["hold_out"], "it is in the hold-out, which is never stopped"),
        _where(flags["kept_last"], f"its {group} must keep {keep:,} live, so replace it first"),
        _where(flags["capped"], f"its advertiser's {cap} stops of today go to more urgent ones"),
    ]
    return pc.binary_join_element_wise(
        pc.binary_join_element_wise(*parts, "; ", null_handling="skip"), ".", ""
    )


def _where(mask: np.ndarray, text: "str | np.ndarray") -> pa.Array:
    """The text where the mask holds, else null."""
    full = np.broadcast_to(np.asarray(text), mask.shape)
    return pa.array(full, pa.string(), mask=~mask)


def _likely_days(case: Case, policy: Policy) -> np.ndarray:
    """How long the cause that asks for a replacement has been likely."""
    causes = case.signs.causes
    asking = [c.likely_days for name, c in causes.items() if policy.causes[name].replace_first]
    days = np.char.mod("%d", np.max(asking, axis=0, initial=0)) if asking else np.asarray("")
    return _joined(
        "the stop has been likely for ", days, " days in a row, so have a successor ready"
    )


def _days(case: Case, policy: Policy) -> np.ndarray:
    """How far the cause is that has the fewest days to go."""
    causes = case.signs.causes
    needed = np.array([policy.days_needed(name) for name in causes])
    met = np.stack([cause.met_days for cause in causes.values()])
    nearest = np.where(met > 0, needed[:, None] - met, needed.max() + 1).argmin(0)
    days = np.char.mod("%d", np.choose(nearest, met))
    words = [f" of the {n} days in a row that a stop needs" for n in needed.tolist()]
    return _joined("this is day ", days, np.choose(nearest, words))


def _cause_part(case: Case, policy: Policy, thresholds: Mapping[str, float | None]) -> pa.Array:
    """The cause that comes nearest to a stop: a likely one before others, then by probability."""
    causes = case.signs.causes
    weight = np.stack([cause.probability + cause.is_likely for cause in causes.values()])
    nearest = weight.argmax(0)
    texts = []
    for name, cause in causes.items():
        bound = bound_in_words(thresholds[name])
        end = f" of such creatives for {spoken(name)} within {policy.horizon} days ({bound})"
        texts.append(_joined("operators stop ", percents(cause.probability), end))
    return pa.array(np.choose(nearest, texts), pa.string())


def _rate_part(case: Case, live: pa.Table) -> pa.Array:
    """What its clicks say."""
    signs, clicks, shown = case.signs, live["clicks"].to_numpy(), live["impressions"].to_numpy()
    few = _joined(np.char.mod("%d", shown), " impressions are too few to judge its click rate")
    rate, target = clicks / np.maximum(shown, 1), np.char.mod("%.2f%%", 100 * signs.target)
    counts = _joined(" (", np.char.mod("%d", clicks), " of ", np.char.mod("%d", shown), ") ")
    start = _joined("its click rate of ", np.char.mod("%.2f%%", 100 * rate), counts)
    sure = _joined(target, " (", percents(np.floor(100 * signs.evidence) / 100), " sure)")
    texts = [
        _joined(start, "is below the target of ", sure),
        _joined(start, "may be below the target of ", sure),
        _joined(start, "reaches the target of ", target),
    ]
    kind = np.select([signs.is_below, rate < signs.target], [0, 1], default=2)
    return pa.array(np.where(signs.is_shown, np.choose(kind, texts), few), pa.string())


def percents(shares: np.ndarray) -> np.ndarray:
    """Whole percents, str[B]; what is nearly sure is not called sure."""
    whole = np.char.mod("%.0f%%", 100 * shares)
    return np.where((shares > 0.995) & (shares < 1), "over 99%", whole)


def _joined(*parts: "str | np.ndarray") -> np.ndarray:
    text = np.asarray("")
    for part in parts:
        text = np.char.add(text, part)
    return text
