"""From delivery logs to the loss: planted hazards come back, and the three classic mistakes show.

The mistakes: to count exposure of a creative from its birth although the log begins later, to leave
out censored rows, and to know clicks of days after the landmark.
"""

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys_mtl.artifacts.commit import read_table
from recsys_mtl.batches.reader import EncodedShards
from recsys_mtl.ingest.job import ingest
from recsys_mtl.ingest.landmarks import ROWS, landmarks, of_creatives
from recsys_mtl.spec.layout import TIME
from recsys_mtl.spec.load import load_pipeline
from recsys_mtl.training.learner import Learner

FIRST, DAYS, BEFORE = date(2026, 3, 1), 30, 40
EARLY, LATE, CLOSING = 0.15, 0.04, 0.03
"""Chances per day: to be stopped before and from age 10 on, and that the campaign ends."""
WEAR_OUT, END = 10, 60
SPEC = """\
spec_version: 1
name: planted
sources:
  creatives:
    keys: {row_id: row_id, group: campaign, time: time}
    survival:
      {name: stop, entry: entry, exit: exit, event: stopped, cause: cause,
       causes: [cut_out, wear_out], weight: ctr_weight, horizons: [7]}
tables:
  advertiser: {dim: 4, ids: {kind: hash, buckets: 50, seed: 1}}
features:
  - {name: advertiser, kind: id, table: advertiser}
  - {name: impressions, kind: number, transform: [{clip: [0, 1000000]}, {log1p: true}]}
  - {name: clicks, kind: number, transform: [{clip: [0, 1000000]}, {log1p: true}]}
split: {policy: time, valid_from: 2026-03-01, test_from: 2026-03-10}
"""
PIPELINE = """\
pipeline_version: 1
name: planted
spec: spec.yaml
home: HOME
data: {root: ROOT, source: creatives}
creatives:
  source: creatives
  delivery: {path: "delivery/{date}.parquet"}
  landmarks: LANDMARKS
  stop_source: flag
  ctr_weight: paper
  test: 2d
ingest: {workers: 1}
model:
  tower: {kind: single_task, hidden: [8], dim: 8}
  hazard: {kind: daily, edges: [1, 10, 60], hidden: []}
training: {seed: 1}
gate: {margins: {}, ungated: [stop]}
"""


def planted_log(ads=20_000):
    """One row per creative and day of its life; some were launched before the log begins."""
    rng = np.random.default_rng(3)
    launch = rng.integers(-BEFORE, DAYS, ads)
    early, late = rng.geometric(EARLY, ads), rng.geometric(LATE, ads)
    age = np.where(early < WEAR_OUT, early, WEAR_OUT - 1 + late)
    stop, close = launch + age - 1, launch + rng.geometric(CLOSING, ads)
    ad, day = np.divmod(np.arange(ads * DAYS), DAYS)
    closes = (day == close[ad]) & (stop[ad] >= day)
    told = ((launch[ad] <= day) & (day <= np.minimum(stop, close - 1)[ad])) | closes
    ad, day, closes = ad[told], day[told], closes[told]
    shown = rng.integers(100, 200, len(ad)) * ~closes
    start = np.datetime64(FIRST)
    return pa.table(
        {
            "creative": ad,
            "campaign": ad // 5,
            "advertiser": ad // 100,
            "genre": pa.array(["games"] * len(ad)),
            "day": pa.array(start + day).cast(pa.date32()),
            "impressions": shown,
            "clicks": shown // 50,
            "conversions": 0 * ad,
            "spend": 0.0 * ad,
            "status": np.where(closes, "ended", "active"),
            "launched": pa.array(start + launch[ad]).cast(pa.date32()),
            "stopped": (day == stop[ad]) & ~closes,
        }
    )


def run(folder, log, marks):
    """Pipeline, its landmarks artifact and its encoded rows."""
    (folder / "logs" / "delivery").mkdir(parents=True)
    for i in range(DAYS):
        day = FIRST + timedelta(i)
        rows = log.filter(pa.compute.equal(log["day"], pa.scalar(day)))
        pq.write_table(rows, folder / "logs" / "delivery" / f"{day}.parquet")
    (folder / "spec.yaml").write_text(SPEC)
    text = PIPELINE.replace("HOME", str(folder / "out")).replace("ROOT", str(folder / "logs"))
    (folder / "pipeline.yaml").write_text(text.replace("LANDMARKS", str(list(marks))))
    loaded = load_pipeline(folder / "pipeline.yaml")
    made = landmarks(loaded, None)
    return loaded, made, ingest(of_creatives(loaded, made), None)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return run(tmp_path_factory.mktemp("planted"), planted_log(), [1])


@pytest.fixture(scope="module")
def train(planted):
    """Encoded train rows as training reads them, in one batch."""
    loaded, _, encoded = planted
    (batch,) = EncodedShards(encoded, loaded.layout).batches("train", 10**6)
    return loaded, batch


def fitted(loaded, batch):
    """Daily hazards of the intervals at the minimum of the training loss over one z for all."""
    objective = Learner(loaded.pipeline, loaded.layout)._survival
    z = torch.full((1, 2, 2), -3.0, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([z], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss, total = objective.loss(z.expand(batch.num_rows, 2, 2), batch.survival)
        (loss / total).backward()
        return loss / total

    optimiser.step(closure)
    hazards = torch.cat([torch.zeros(1, 1, 2), z.detach()], 1).softmax(1)[0, 1:]
    return hazards.sum(0).numpy(), hazards.numpy()


def exposure(entry, exit_):
    """Days at risk before and from age 10 on."""
    early = np.maximum(np.minimum(exit_, WEAR_OUT - 1) - entry + 1, 0)
    return np.array([early.sum(), (exit_ - entry + 1 - early).sum()])


TRUTH = np.array([EARLY, LATE])


def errors(found, days):
    """Deviations from the planted hazards in standard errors of so many days at risk."""
    return (found - TRUTH) / np.sqrt(TRUTH * (1 - TRUTH) / days)


def test_late_entries_are_at_risk_from_their_entry_only(train):
    """Exposure from birth would find the early hazard of these very rows far too low."""
    loaded, batch = train
    entry, exit_, event, _ = (t.numpy() for t in batch_times(batch))
    assert (entry > 1).mean() > 0.15
    days = exposure(entry, exit_)
    stops = np.array([(event[exit_ < WEAR_OUT] > 0).sum(), (event[exit_ >= WEAR_OUT] > 0).sum()])
    from_birth = stops / exposure(np.ones_like(entry), exit_)
    assert errors(from_birth, days)[0] < -10
    hazards, by_cause = fitted(loaded, batch)
    assert (np.abs(errors(hazards, days)) < 4).all()
    assert by_cause[1, 0] < 1e-4 and by_cause[0, 1] < 1e-4


def test_censored_rows_are_trained_on_and_leave_the_hazards_as_they_are(train, planted):
    """Without them the same rows give hazards that are far too high."""
    loaded, batch = train
    rows = read_table(planted[1].path(ROWS)).to_pandas()
    rows = rows[rows["part"] == "train"]
    entry, exit_, event, _ = (t.numpy() for t in batch_times(batch))
    assert batch.num_rows == len(rows)
    assert (event == 0).sum() == (rows["stopped"] == 0).sum() > 0.2 * len(rows)
    days, stopped = exposure(entry, exit_), event > 0
    without = exposure(entry[stopped], exit_[stopped])
    stops = np.array([(exit_[stopped] < WEAR_OUT).sum(), (exit_[stopped] >= WEAR_OUT).sum()])
    assert (errors(stops / without, days) > 10).all()
    assert (np.abs(errors(fitted(loaded, batch)[0], days)) < 4).all()


def test_a_head_starts_at_the_hazards_of_encoded_rows(train):
    loaded, batch = train
    learner = Learner(loaded.pipeline, loaded.layout)
    learner.start_at_marginal([batch])
    z = learner.model.dense_part.hazard(torch.zeros(1, 8)).detach()
    start = torch.cat([torch.zeros(1, 1, 2), z], 1).softmax(1)[0, 1:].sum(0).numpy()
    np.testing.assert_allclose(start, fitted(loaded, batch)[0], rtol=0.01)


def batch_times(batch):
    times = batch.survival
    return times.entry, times.exit, times.event, times.weight


def test_clicks_from_the_landmark_on_change_neither_input_nor_weight(tmp_path):
    """Two futures that differ in every count give the same rows up to the day they part."""
    log = planted_log(ads=600)
    parting = FIRST + timedelta(18)
    later = pa.compute.greater_equal(log["day"], pa.scalar(parting)).to_numpy()
    shown = log["impressions"].to_numpy()
    other = log
    for name in ("impressions", "clicks", "conversions"):
        # Every impression is clicked, and there are seven times as many.
        values = np.where(later, 7 * shown, log[name].to_numpy())
        other = other.set_column(other.column_names.index(name), name, pa.array(values))
    seen = []
    for name, each in (("one", log), ("other", other)):
        _, made, encoded = run(tmp_path / name, each, [1, 2, 3, 7, 10])
        files = [e for e in encoded.files if e.path.endswith(".parquet") and "part-" in e.path]
        table = pa.concat_tables(read_table(encoded.dir / e.path) for e in files)
        seen.append((table, read_table(made.path(ROWS))))
    limit = int((parting - date(1970, 1, 1)).days) * 86_400_000_000
    until = [table.filter(pa.compute.less_equal(table[TIME], limit)) for table, _ in seen]
    assert until[0].num_rows > 300
    assert until[0].equals(until[1])
    assert "survival__stop__weight" in until[0].column_names and "clicks" in until[0].column_names
    assert not seen[0][0].equals(seen[1][0])
    known = [rows.filter(pa.compute.less_equal(rows["day"], parting)) for _, rows in seen]
    assert known[0].equals(known[1])
