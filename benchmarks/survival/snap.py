"""Ads of the Snap Political Ads Library: lifetimes as set up, and stops seen between exports.

`EndDate` is when an ad was set up to end. Spend and impressions of an export tell how long an ad
has run by then, so covariates are only what was chosen before it ran.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.survival.data import Sample, Split
from recsys_mtl.metrics.clusters import Clusters
from recsys_mtl.metrics.survival.outcomes import Outcomes

SPLIT_AT = datetime(2020, 8, 1)
BEFORE, DECISION, AFTER = "2020-09-22", "2020-09-28", "2020-09-29"
"""Exports of the observed stops: delivering between the first two, not between the last two."""
_LOCAL = ("Electoral Districts", "Radius Targeting", "Metros", "Postal Codes")
_IS_SET = "(Included)"

COVARIATES: dict[str, pl.Expr] = {
    "united_states": pl.col("CountryCode") == "united states",
    "one_gender": pl.col("Gender").is_not_null(),
    "from_over_18": pl.col("AgeBracket").str.extract(r"(\d+)").cast(pl.Int64).fill_null(0) > 18,
    "up_to_an_age": pl.col("AgeBracket").fill_null("").str.contains("-", literal=True),
    "regions": pl.col(f"Regions {_IS_SET}").is_not_null(),
    "local_areas": pl.any_horizontal(pl.col(f"{n} {_IS_SET}").is_not_null() for n in _LOCAL),
    "interests": pl.col("Interests").is_not_null(),
    "own_segments": pl.col("Segments").is_not_null(),
    "language_or_background": pl.any_horizontal(
        pl.col("Language", "AdvancedDemographics").is_not_null()
    ),
    "opens_web_page": pl.col("CreativeProperties").is_not_null(),
    "candidate_or_ballot": pl.col("CandidateBallotInformation").is_not_null(),
}
"""Eleven, all chosen when the ad is set up: whom it is shown to, what it opens, what it is for."""


def load_lifetimes(folder: Path, train_known_at: datetime | None) -> Split:
    """Ads started before and after 1 August 2020, by how long they were set up to run.

    A stop is an end that was reached before the last export; other ads are censored there.

    Args:
        folder: of `snap_ads/snapshots.parquet`.
        train_known_at: training rows are censored at this time instead, when given: with the
            split's time nothing is used that was not known then.

    Returns:
        Ads that end after they start; clusters are organisations.
    """
    ads, last = _export(folder, AFTER)
    ads = ads.filter(pl.col("EndDate").is_null() | (pl.col("EndDate") > pl.col("StartDate")))
    ads = ads.filter(pl.col("StartDate") < last)
    early = ads.filter(pl.col("StartDate") < SPLIT_AT)
    late = ads.filter(pl.col("StartDate") >= SPLIT_AT)
    test = _lifetimes(late, last)
    clusters = Clusters.of(late["OrganizationName"].to_numpy())
    return Split(_lifetimes(early, train_known_at or last), test, clusters, _age(late, last))


def _lifetimes(ads: pl.DataFrame, known_at: datetime) -> Sample:
    ended = (ads["EndDate"] <= known_at).fill_null(False).to_numpy(writable=True)
    full, seen = _days(ads["EndDate"] - ads["StartDate"]), _age(ads, known_at)
    return Sample(_covariates(ads), Outcomes(np.where(ended, full, seen), ended))


@dataclass(frozen=True, slots=True, eq=False)
class Statuses:
    """Ads at one export, and whether they delivered between it and the next."""

    x: np.ndarray
    """float64[n, 13]: the eleven covariates, no set end, log days that were set."""
    age: np.ndarray
    """float64[n], days at the export."""
    is_over: np.ndarray
    """bool[n]: the end that was set has passed at the export."""
    delivers: np.ndarray
    """bool[n]: impressions grew until the next export."""
    ads: pl.DataFrame
    """Their rows of the export; `before` and `age_before` of that before."""


def load_statuses(folder: Path) -> tuple[Statuses, Statuses]:
    """Ads of 22 September (all that had impressions), and those at risk on 28 September.

    At risk are the 753 ads with more impressions on the 28th than on the 22nd. The first ads'
    deliveries are known on the 28th, those of the second on the 29th.
    """
    before, at_before = _export(folder, BEFORE)
    decision, at_decision = _export(folder, DECISION)
    after, _ = _export(folder, AFTER)
    first = before.filter(pl.col("Impressions") > 0)
    earlier = before.select("ADID", before=pl.col("Impressions"))
    at_risk = decision.join(earlier, on="ADID", maintain_order="left")
    at_risk = at_risk.filter(pl.col("Impressions") > pl.col("before"))
    at_risk = at_risk.with_columns(age_before=pl.Series(_age(at_risk, at_before)))
    return _statuses(first, at_before, decision), _statuses(at_risk, at_decision, after)


def _statuses(ads: pl.DataFrame, at: datetime, following: pl.DataFrame) -> Statuses:
    later = following.select("ADID", later=pl.col("Impressions"))
    ads = ads.join(later, on="ADID", maintain_order="left")
    planned = (ads["EndDate"] - ads["StartDate"]).dt.total_seconds() / 86_400
    no_end = planned.is_null().to_numpy()
    log_planned = planned.fill_null(0).clip(lower_bound=0).log1p().to_numpy()
    return Statuses(
        np.column_stack([_covariates(ads), no_end, log_planned]),
        _age(ads, at),
        (ads["EndDate"] <= at).fill_null(False).to_numpy(),
        (ads["later"] > ads["Impressions"]).to_numpy(),
        ads,
    )


def _export(folder: Path, name: str) -> tuple[pl.DataFrame, datetime]:
    """Rows of one export of the 2020 library, and its time: the newest start in it."""
    every = pl.scan_parquet(folder / "snap_ads" / "snapshots.parquet")
    ads = every.filter(pl.col("snapshot") == name).collect().sort("StartDate", "ADID")
    return ads, ads["StartDate"].to_list()[-1]


def _covariates(ads: pl.DataFrame) -> np.ndarray:
    found = ads.select(expr.cast(pl.Float64).alias(name) for name, expr in COVARIATES.items())
    return found.to_numpy(writable=True)


def _age(ads: pl.DataFrame, at: datetime) -> np.ndarray:
    return _days(ads.select(pl.lit(at) - pl.col("StartDate")).to_series())


def _days(spans: pl.Series) -> np.ndarray:
    return (spans.dt.total_seconds() / 86_400).to_numpy(writable=True)
