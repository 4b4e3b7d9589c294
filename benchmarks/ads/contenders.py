"""What is trained: the model of the pipeline file, and one change of it each."""

from benchmarks.ads.measure import TEST_DAYS
from benchmarks.ads.runs import Setting

BASE = "model"
COMMON = (
    "data.window=20d",
    f"creatives.test={TEST_DAYS}d",
    "creatives.batch_rows=128",
    "objectives.tasks.stop.weight=5",
    "training.epochs=10",
    "training.early_stop.every_steps=124",
    "training.dense.lr=0.001",
)
"""Found on validation rows of other worlds, where some twenty settings lay within .01 nats of each
other, but for the pipeline file's own rate of the tables, .1, with which such rows overfit."""
_FINE = "model.hazard.edges=[1,2,3,4,5,6,7,8,9,10,12,14,17,20,25,30,40,60,90,120]"
_RATE = "training.sparse.lr=0.01"
CANDIDATES = (
    Setting("paper-grid", (_RATE,)),
    Setting("fine-grid", (_RATE, _FINE)),
    Setting("fine-grid-no-advertiser", (_RATE, _FINE), without=("advertiser",)),
)
"""The one with the best validation likelihood of the first world is the model. Likelihoods on any
grid are those of the same days. Hazards rise from .02 to .05 between days 10 and 30, one interval
of the paper; an advertiser has some 25 creatives, too few for an embedding of its own."""

WEIGHTS = {
    "weight: none": Setting("weight-none", ("creatives.ctr_weight=none",)),
    "weight: 1 + CTR (paper)": Setting("weight-paper", ("creatives.ctr_weight=paper",)),
    "weight: 1 + smoothed": Setting("weight-smoothed", ("creatives.ctr_weight=smoothed",)),
}
"""Beside the model's own, ratio."""
_IMAGE = tuple(f"image_{k}" for k in range(8))
MODALITIES = {
    "without title": Setting("no-title", without=("title",)),
    "without image": Setting("no-image", without=_IMAGE),
    "without counts": Setting("no-counts", without=("impressions", "clicks")),
    "without history": Setting("no-history", without=("delivered",)),
    "without counts and history": Setting(
        "no-delivery", without=("impressions", "clicks", "delivered")
    ),
}
KNOWN, FUTURE = "rates/known.parquet", "rates/future.parquet"
RATES = {
    "click rate until the landmark": Setting("rate-known", click_rate=KNOWN),
    "click rate of the whole life": Setting("rate-future", click_rate=FUTURE),
}


def changed(base: Setting, change: Setting) -> Setting:
    """The model with a change."""
    return Setting(
        f"{base.name}-{change.name}",
        (*base.overrides, *change.overrides),
        (*base.without, *change.without),
        change.click_rate,
    )
