"""What holds stops back: the hold-out, the last creatives of an ad group, caps of advertisers."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recsys_mtl.ingest.columns import canonical_ids, column_of
from recsys_mtl.ingest.delivery import AD_GROUP
from recsys_mtl.ingest.hashing import h64
from recsys_mtl.spec.policy_file import RestraintPolicy

HOLD_OUT_SEED = 23


@dataclass(frozen=True, slots=True, eq=False)
class Restrained:
    """bool[B] each; no creative has two of them."""

    stops: np.ndarray
    """Wanted, and allowed."""
    kept_last: np.ndarray
    """Wanted, but too few creatives would stay in the campaign, or ad group."""
    capped: np.ndarray
    """Wanted, but more urgent stops of the advertiser use up its cap."""


def held_out(live: pa.Table, share: float) -> np.ndarray:
    """bool[B], creatives of the hold-out: by hash, so the same ones every day."""
    creative = canonical_ids(column_of(live, "creative"), "creative")
    chosen: np.ndarray = h64(creative, HOLD_OUT_SEED) / 2.0**64 < share
    return chosen


def restrain(
    live: pa.Table, wanted: np.ndarray, order: np.ndarray, rules: RestraintPolicy
) -> Restrained:
    """Allow the wanted stops one after the other, the most urgent first, as far as rules go.

    Args:
        live: all B creatives that are alive; `keep_live` holds in each `ad_group` of a campaign if
            the log tells them, else in each campaign.
        wanted: bool[B], stops, hold-out left out.
        order: int64[B], rows from most to least urgent.
        rules: of the policy.
    """
    group = _codes(live, "campaign")
    if AD_GROUP in live.column_names:
        within = _codes(live, AD_GROUP)
        group = np.unique(group * (within.max(initial=0) + 1) + within, return_inverse=True)[1]
    room = np.bincount(group)[group] - rules.keep_live
    kept_last = wanted & (_earlier(group, wanted, order) >= room)
    left = wanted & ~kept_last
    cap = len(left) if rules.cap_per_advertiser is None else rules.cap_per_advertiser
    capped = left & (_earlier(_codes(live, "advertiser"), left, order) >= cap)
    return Restrained(left & ~capped, kept_last, capped)


def _codes(live: pa.Table, column: str) -> np.ndarray:
    """Numbers of a column's values, int64[B]; null is a value."""
    encoded = live[column].combine_chunks().dictionary_encode(null_encoding="encode")
    codes: np.ndarray = encoded.indices.to_numpy().astype(np.int64)
    return codes


def _earlier(group: np.ndarray, chosen: np.ndarray, order: np.ndarray) -> np.ndarray:
    """How many chosen rows of a row's own group come before it in the order, int64[B]."""
    by_group = order[np.argsort(group[order], kind="stable")]
    before = np.cumsum(chosen[by_group]) - chosen[by_group]
    sorted_group = group[by_group]
    first = np.searchsorted(sorted_group, sorted_group)
    counts = np.empty(len(group), np.int64)
    counts[by_group] = before - before[first]
    return counts
