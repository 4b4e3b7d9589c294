"""What a delivery log told of a creative, and of others of its kind, against what was expected."""

from dataclasses import dataclass
from datetime import date
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.ingest.delivery import Delivery, read_delivery
from recsys_mtl.ingest.survival import LandmarkRules, lives_of

PEERS = ("click_ratio", "advertiser_click_ratio", "advertiser_stop_ratio", "campaign_volume")
PRIOR_EVENTS = 3
"""Clicks, or stops, as expected that every ratio begins with."""

_UNIT = 1_000_000
_DAYS, _IMPRESSIONS, _CLICKS, _CLICKS_DUE, _STOPS, _STOPS_DUE = range(6)


@dataclass(frozen=True, slots=True, eq=False)
class Peers:
    """Totals of the log of all creatives, for columns of their rows on any day.

    Of a row on day t, with n impressions, c clicks, d delivered days and s stops before the age of
    wear-out summed over the creative-days before t,

        click_ratio             ln (c + 3) / (E[c] + 3)      of the creative
        advertiser_click_ratio  ln (c + 3) / (E[c] + 3)      of the advertiser's other creatives
        advertiser_stop_ratio   ln (s + 3) / (E[s] + 3)      of these
        campaign_volume         ln (n / v + 1) / (d + 1)     of the campaign's other creatives

    E sums what each creative-day was expected to bring: its impressions times the click rate of the
    genre; the share of stops on delivered days of its age. Both are those of the log up to and with
    that day. v is the mean of n / d of all creatives. Where nothing is known a column is 0.

    A stop is counted from the day after it could be told (silence takes its days to prove one), at
    the age of the last day delivered by then. Expectations are kept in millionths, so that sums are
    exact and no later row can change their last digit. Ratios and smoothing are our reading.
    """

    creatives: pa.Array
    """Ids of the A creatives."""
    groups: dict[str, np.ndarray]
    """Number of each creative's campaign, advertiser, itself, and of all (0), int64[A]."""
    totals: dict[str, "Totals"]
    """Of each such group, six sums."""

    @classmethod
    def of(cls, log: pa.Table, rules: LandmarkRules, as_of: date) -> Self:
        """Totals of a log.

        Args:
            log: as `survival.landmark_rows` takes it.
            rules: of stops.
            as_of: last complete day; rows may be as late as the day after.

        Raises:
            DataError: as `survival.landmark_rows`.
        """
        delivery = read_delivery(log, as_of)
        size = len(delivery.static)
        groups = {name: _codes(delivery.static, name) for name in ("campaign", "advertiser")}
        groups |= {"creative": np.arange(size), "all": np.zeros(size, np.int64)}
        creative, day, sums = _events(delivery, rules)
        totals = {name: Totals.of(group[creative], day, sums) for name, group in groups.items()}
        return cls(delivery.static["creative"].combine_chunks(), groups, totals)

    def beside(self, rows: pa.Table) -> pa.Table:
        """The rows with the columns `PEERS`, float64.

        Args:
            rows: of `survival.landmark_rows`, of creatives of the log.
        """
        at = pc.index_in(rows["creative"], self.creatives).to_numpy().astype(np.int64)
        day = rows["day"].cast(pa.int32()).to_numpy().astype(np.int64)
        before = {name: self.totals[name].before(of[at], day) for name, of in self.groups.items()}
        own, everyone = before["creative"], before["all"]
        advertiser, campaign = before["advertiser"] - own, before["campaign"] - own
        volume = everyone[:, _IMPRESSIONS] / np.maximum(everyone[:, _DAYS], 1)
        shown = campaign[:, _IMPRESSIONS] / np.maximum(volume, 1)
        columns = (
            _log_ratio(own, _CLICKS, _CLICKS_DUE),
            _log_ratio(advertiser, _CLICKS, _CLICKS_DUE),
            _log_ratio(advertiser, _STOPS, _STOPS_DUE),
            np.log((shown + 1) / (campaign[:, _DAYS] + 1)),
        )
        for name, values in zip(PEERS, columns, strict=True):
            rows = rows.append_column(name, pa.array(values))
        return rows


@dataclass(frozen=True, slots=True, eq=False)
class Totals:
    """Sums of k values over n events by group and day."""

    key: np.ndarray
    """int64[n], rising: group and day in one number."""
    sums: np.ndarray
    """int64 or float64[n + 1, k], before each event in this order."""
    first_day: int
    span: int

    @classmethod
    def of(cls, group: np.ndarray, day: np.ndarray, values: np.ndarray) -> Self:
        """Group int64[n] from 0 on, day int64[n] and values [n, k] of the events."""
        first_day = int(day.min(initial=2**31))
        span = max(int(day.max(initial=0)) - first_day, 0) + 2
        key = group * span + day - first_day
        order = np.argsort(key, kind="stable")
        sums = np.zeros((len(key) + 1, values.shape[1]), np.result_type(values, np.int64))
        np.cumsum(values[order], axis=0, out=sums[1:])
        return cls(key[order], sums, first_day, span)

    def before(self, group: np.ndarray, day: np.ndarray) -> np.ndarray:
        """Sums of each group's events before a day, [m, k]."""
        until = group * self.span + np.clip(day - self.first_day, 0, self.span - 1)
        begin, end = np.searchsorted(self.key, [group * self.span, until])
        found: np.ndarray = self.sums[end] - self.sums[begin]
        return found


def _events(delivery: Delivery, rules: LandmarkRules) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Creative int64[n], day int64[n] and the six sums int64[n, 6] of all that happened."""
    shown = np.flatnonzero(delivery.amounts["impressions"] > 0)
    creative, day = delivery.creative[shown], delivery.day[shown]
    impressions, clicks = (delivery.amounts[name][shown] for name in ("impressions", "clicks"))
    delivered = np.zeros((len(shown), 6), np.int64)
    delivered[:, _DAYS], delivered[:, _IMPRESSIONS], delivered[:, _CLICKS] = 1, impressions, clicks
    genre = _codes(delivery.static, "genre")[creative]
    seen = Totals.of(genre, day, np.stack([impressions, clicks], axis=1)).before(genre, day + 1)
    delivered[:, _CLICKS_DUE] = impressions * _share(seen)
    early, due, stops = _stops_due(delivery, rules, shown)
    delivered[early, _STOPS_DUE] = due
    stopped = np.zeros((len(stops[0]), 6), np.int64)
    stopped[:, _STOPS] = 1
    return (
        np.append(creative, stops[0]),
        np.append(day, stops[1]),
        np.concatenate([delivered, stopped]),
    )


def _stops_due(
    delivery: Delivery, rules: LandmarkRules, shown: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Stops before the age of wear-out, expected and told.

    Returns:
        Which of the `shown` creative-days were at risk of one, int64[k]; their expectations,
        int64[k]; creatives and days of those that were told, int64[s] each.
    """
    lives, _ = lives_of(delivery, rules)
    start, told = (np.full(len(delivery.static), -(2**40)) for _ in range(2))
    start[lives.creative], told[lives.creative] = lives.start, lives.told
    creative, day = delivery.creative[shown], delivery.day[shown]
    age = day - start[creative] + 1
    early = np.flatnonzero((age < rules.age_of_wear_out) & (day <= told[creative]))
    # The last delivery until a stop was told ends its creative's list of such days.
    is_last = np.append(creative[early][1:] != creative[early][:-1], True)[: len(early)]
    last = early[is_last]
    # A later one, of an age of wear-out, makes it no early stop.
    after = np.append(creative, -1)[last + 1] == creative[last]
    after &= np.append(day, 0)[last + 1] <= told[creative[last]]
    last = last[~after & (told[creative[last]] <= delivery.last_day)]
    stops = creative[last], told[creative[last]]
    risk = np.zeros((len(early) + len(last), 2), np.int64)
    risk[: len(early), 0], risk[len(early) :, 1] = 1, 1
    ages, days = np.append(age[early], age[last]), np.append(day[early], stops[1])
    seen = Totals.of(ages, days, risk).before(age[early], day[early] + 1)
    return early, _share(seen), stops


def _share(seen: np.ndarray) -> np.ndarray:
    """Events per chance in millionths, int64[n], of (chances, events) int64[n, 2]."""
    share: np.ndarray = seen[:, 1] * _UNIT // seen[:, 0]
    return share


def _log_ratio(sums: np.ndarray, found: int, due: int) -> np.ndarray:
    expected = sums[:, due] / _UNIT + PRIOR_EVENTS
    ratio: np.ndarray = np.log((sums[:, found] + PRIOR_EVENTS) / expected)
    return ratio


def _codes(static: pa.Table, name: str) -> np.ndarray:
    """Numbers of ids, int64[A]; unknown ones share one."""
    ids = static[name].combine_chunks().dictionary_encode(null_encoding="encode")
    codes: np.ndarray = ids.indices.to_numpy()
    return codes.astype(np.int64)
