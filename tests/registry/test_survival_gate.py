"""The gate on a survival label: what blocks, what passes, and what voids the comparison."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from recsys_mtl.errors import ConfigError, IntegrityError
from recsys_mtl.registry.decision import Decision, Verdict
from recsys_mtl.registry.gate import decide, gate
from recsys_mtl.spec.pipeline import Floor, Margins

from . import evaluations
from .evaluations import DAY
from .survival_evaluations import (
    config,
    contender,
    hazards,
    lives,
    marginal_hazard,
    on_survival,
    table,
)

CLICKS = evaluations.world(0)
A, B = (evaluations.table(CLICKS, evaluations.probs(CLICKS, seed)) for seed in (1, 2))
W = lives(0)
STOPS_A, STOPS_B = (table(W, hazards(W, seed)) for seed in (1, 2))
GARBAGE = table(W, hazards(W, 3, noise=3.0))


def compare(tmp_path, stops, champion_stops=STOPS_A, cfg=None, first_champion=False, **meta):
    """The gate on a joint challenger whose clicks are as good as the champion's."""
    challenger = contender(tmp_path, B, stops, "b", **meta)
    champion = None
    if champion_stops is not None:
        champion = contender(tmp_path, A, champion_stops, "a")
    return gate(challenger, champion, cfg or config(), first_champion=first_champion)


def of_stop(decision, kind):
    (found,) = [c for c in decision.checks if (c.task, c.kind) == ("stop", kind)]
    return found


def replaced(rows, name, values):
    return rows.set_column(rows.column_names.index(name), name, pa.array(values))


def test_an_equal_model_is_promoted(tmp_path):
    decision = compare(tmp_path, STOPS_B)
    assert (decision.verdict, decision.reasons) == (Verdict.PROMOTE, ())
    check = of_stop(decision, "guardrail")
    assert check.sentence.startswith("PASS: stop NLL gain ")
    gain = np.mean(STOPS_A["nll"].to_numpy() - STOPS_B["nll"].to_numpy())
    assert check.numbers["d"] == pytest.approx(gain)
    assert check.numbers["n_clusters"] == 300
    chances = [
        c.numbers["pass_probability"]
        for c in decision.checks
        if c.kind == "guardrail" and c.verdict
    ]
    assert len(chances) == 3
    assert decision.equal_model_pass_probability == pytest.approx(np.prod(chances))


def test_garbage_hazards_are_refused_whatever_the_clicks_gain(tmp_path):
    decision = compare(tmp_path, GARBAGE)
    assert (decision.verdict, decision.exit_code) == (Verdict.REFUSE, 4)
    likelihood, ratio = decision.reasons
    assert likelihood.startswith("REFUSE: stop NLL gain -")
    assert likelihood.endswith("is below the margin -0.1000")
    assert ratio.startswith("REFUSE: stop observed over expected stops 0.")


def test_hazards_that_are_ordered_well_and_wrong_are_refused(tmp_path):
    """Three times the true hazards have the same concordance."""
    decision = compare(tmp_path, table(W, hazards(W, 2, shift=np.log(3))))
    assert decision.verdict is Verdict.REFUSE
    assert of_stop(decision, "calibration").numbers["U"] < 0.6


def test_a_successor_of_a_champion_need_not_gain_over_no_features(tmp_path):
    decision = compare(tmp_path, STOPS_B)
    gain, ratio = of_stop(decision, "floor"), of_stop(decision, "calibration")
    assert (gain.verdict, ratio.verdict) == (None, Verdict.PROMOTE)
    assert gain.sentence.startswith("not gated: stop NLL gain over hazards without features +0.")
    assert ratio.sentence.startswith("PASS: stop observed over expected stops ")
    assert "is inside 0.75 to 1.25; the champion's is " in ratio.sentence
    observed, expected = W.stopped.sum(), STOPS_B["expected"].to_numpy().sum()
    assert ratio.numbers["challenger"] == pytest.approx(observed / expected)


def test_hazards_cannot_drift_out_of_the_band_within_the_margin(tmp_path):
    """However wide the margin of likelihood, and unless the champion is as far out."""
    wide = config(nll=10)
    drifted, worse = (table(W, hazards(W, 2, noise=0.1, shift=shift)) for shift in (0.45, 0.6))
    decision = compare(tmp_path / "1", drifted, cfg=wide)
    (reason,) = decision.reasons
    assert decision.verdict is Verdict.REFUSE
    assert reason.startswith("REFUSE: stop observed over expected stops 0.")
    assert "is outside 0.75 to 1.25; the champion's is " in reason
    assert compare(tmp_path / "2", drifted, worse, wide).verdict is Verdict.PROMOTE
    assert compare(tmp_path / "3", worse, drifted, wide).verdict is Verdict.REFUSE


def test_a_successor_on_the_edge_of_the_band_passes_where_a_first_champion_holds(tmp_path):
    edge = table(W, hazards(W, 2, noise=0.1, shift=0.3))
    assert compare(tmp_path / "1", edge, None, first_champion=True).verdict is Verdict.HOLD
    passed = compare(tmp_path / "2", edge, cfg=config(nll=10))
    assert passed.verdict is Verdict.PROMOTE
    assert "reaches beyond 0.75 to 1.25; the" in of_stop(passed, "calibration").sentence


def test_too_few_campaigns_or_stops_hold(tmp_path):
    campaigns = compare(tmp_path / "1", STOPS_B, cfg=config(min_campaigns=301))
    assert (campaigns.verdict, campaigns.exit_code) == (Verdict.HOLD, 6)
    assert "HOLD: stop has only 300 campaigns of 301 needed" in campaigns.reasons[0]
    stops = compare(tmp_path / "2", STOPS_B, cfg=config(min_stops=10_000))
    assert "stops of 10,000 needed" in stops.reasons[0]


def test_a_small_holdout_holds_and_says_how_many_campaigns_are_missing(tmp_path):
    few = lives(1, num_campaigns=40)
    sides = (table(few, hazards(few, seed)) for seed in (2, 1))
    decision = compare(tmp_path, *sides, cfg=config(nll=0.001, min_campaigns=30, min_stops=50))
    assert decision.verdict is Verdict.HOLD
    assert decision.reasons[0].endswith("more campaigns")
    assert "below the planned 0.90" in decision.notes[0]


def test_row_order_does_not_matter(tmp_path):
    order = np.random.default_rng(0).permutation(STOPS_B.num_rows)
    straight = compare(tmp_path / "1", STOPS_B)
    other = compare(tmp_path / "2", STOPS_B.take(order))
    for x, y in zip(straight.checks, other.checks, strict=True):
        assert x.numbers == pytest.approx(y.numbers)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        (
            "row_id",
            lambda v: np.random.default_rng(0).permutation(v),
            "column 'key__group' differs",
        ),
        ("row_id", lambda v: np.where(np.arange(len(v)) == 3, v[4], v), "repeat 1 row ids"),
        (
            "row_id",
            lambda v: np.where(np.arange(len(v)) == 3, "x", v),
            "1 only in the challenger's",
        ),
        ("event", lambda v: np.where(np.arange(len(v)) == 3, 1 - v, v), "column 'event' differs"),
        ("exit", lambda v: v + (np.arange(len(v)) == 3).astype(np.int32), "column 'exit' differs"),
        ("nll", lambda v: np.where(np.arange(len(v)) == 3, np.nan, v), "1 values of the"),
        ("expected", lambda v: np.where(np.arange(len(v)) == 3, np.inf, v), "are not finite"),
    ],
)
@pytest.mark.parametrize("broken", ["challenger", "champion"])
def test_rows_that_differ_void_the_comparison(tmp_path, broken, column, value, words):
    sides = {"challenger": STOPS_B, "champion": STOPS_A}
    values = sides[broken][column].to_numpy()
    sides[broken] = replaced(sides[broken], column, value(values).astype(values.dtype))
    decision = compare(tmp_path, sides["challenger"], sides["champion"])
    assert (decision.verdict, decision.exit_code) == (Verdict.INTEGRITY, 5)
    assert decision.reasons[0].startswith("INTEGRITY: stop: ")
    assert words in decision.reasons[0]
    assert not [c for c in decision.checks if (c.task, c.kind) == ("stop", "guardrail")]
    assert [c for c in decision.checks if (c.task, c.kind) == ("click", "guardrail")]


def test_another_holdout_voids_the_comparison(tmp_path):
    decision = compare(tmp_path, STOPS_B, holdout_fp="landmarks of yesterday")
    assert decision.verdict is Verdict.INTEGRITY
    assert "different holdouts" in decision.reasons[0]


@pytest.mark.parametrize("fact", ["bundle_sha", "input_fp"])
def test_an_evaluation_of_another_bundle_is_refused(tmp_path, fact):
    decision = compare(tmp_path, STOPS_B, **{fact: "of something else"})
    assert decision.verdict is Verdict.INTEGRITY
    assert f"stop: the challenger's evaluation has {fact} of something" in decision.reasons[0]


@pytest.mark.parametrize(
    ("until", "words"),
    [(100 * DAY, "before the champion's training"), (None, "does not say until when")],
)
def test_landmarks_must_be_later_than_what_either_model_saw(tmp_path, until, words):
    challenger = contender(tmp_path, B, STOPS_B, "b")
    champion = contender(tmp_path, A, STOPS_A, "a")
    early = replace(champion.survival, trained_until_us=until)
    decision = gate(challenger, replace(champion, survival=early), config(), first_champion=False)
    assert decision.verdict is Verdict.INTEGRITY
    assert words in decision.reasons[0]


def covering(rows, last_day):
    """Predictions of a grid that ends earlier."""
    days = rows["at_risk"].to_numpy()
    stopped = rows["stopped"].to_numpy() & (days <= last_day)
    shorter = replaced(rows, "at_risk", np.minimum(days, last_day))
    return replaced(shorter, "stopped", stopped)


def test_likelihoods_of_other_days_are_not_compared(tmp_path):
    champion = covering(STOPS_A, 20)
    held = compare(tmp_path / "1", STOPS_B, champion)
    assert held.verdict is Verdict.HOLD
    days = [int(rows["at_risk"].to_numpy().sum()) for rows in (STOPS_B, champion)]
    assert held.reasons[0].startswith(
        f"HOLD: stop: the challenger's likelihood covers {days[0]:,} days at risk, the champion's "
        f"{days[1]:,}, so they cannot be compared"
    )
    allowed = compare(tmp_path / "2", STOPS_B, champion, first_champion=True)
    assert allowed.verdict is Verdict.PROMOTE
    assert of_stop(allowed, "floor").verdict is Verdict.PROMOTE
    assert not any("changes nothing" in note for note in allowed.notes)


def test_a_champion_without_hazards_is_no_baseline(tmp_path):
    challenger = contender(tmp_path, B, STOPS_B, "b")
    champion = evaluations.contender(tmp_path, A, "a")
    refused = gate(challenger, champion, config(), first_champion=False)
    assert refused.reasons == (
        "REFUSE: no baseline for stop; pass --first-champion to let the floors decide",
    )
    allowed = gate(challenger, champion, config(), first_champion=True)
    assert allowed.verdict is Verdict.PROMOTE
    assert {c.task for c in allowed.checks if c.kind == "floor"} == {"stop"}


def test_a_dropped_label_is_noted(tmp_path):
    challenger = evaluations.contender(tmp_path, B, "b")
    champion = contender(tmp_path, A, STOPS_A, "a")
    decision = gate(challenger, champion, evaluations.config(), first_champion=False)
    assert decision.verdict is Verdict.PROMOTE
    assert any("also predicts stop" in note for note in decision.notes)


def test_first_hazards_pass_their_floors(tmp_path):
    decision = compare(tmp_path, STOPS_B, None, first_champion=True)
    assert decision.verdict is Verdict.PROMOTE
    assert of_stop(decision, "floor").sentence.endswith("; its floor is +0.0000")
    assert of_stop(decision, "calibration").sentence.endswith("is inside 0.75 to 1.25")


def test_first_hazards_must_beat_those_without_features(tmp_path):
    decision = compare(tmp_path, GARBAGE, None, first_champion=True)
    assert decision.exit_code == 4
    assert decision.reasons[0].startswith("REFUSE: stop NLL gain over hazards without features -")
    marginal = compare(tmp_path / "2", table(W, marginal_hazard(W)), None, first_champion=True)
    assert of_stop(marginal, "floor").verdict is Verdict.REFUSE
    assert of_stop(marginal, "floor").numbers["d"] == 0


def test_first_hazards_must_expect_about_the_stops_that_came(tmp_path):
    stops = table(W, hazards(W, 2, noise=0.1, shift=0.45))
    decision = compare(tmp_path, stops, None, first_champion=True)
    assert of_stop(decision, "floor").verdict is Verdict.PROMOTE
    assert decision.verdict is Verdict.REFUSE
    assert decision.reasons[0].endswith("is outside 0.75 to 1.25")
    wide = config(floors={"stop": Floor(calibration=0.6)})
    assert compare(tmp_path / "2", stops, None, wide, True).verdict is Verdict.PROMOTE
    floor = config(floors={"stop": Floor(gain=5)})
    high = compare(tmp_path / "3", STOPS_B, None, floor, True)
    assert high.reasons[0].endswith("its floor is +5.0000")


def test_an_ungated_label_is_reported_only(tmp_path):
    cfg = evaluations.config(ungated=("stop",))
    decision = compare(tmp_path, GARBAGE, cfg=cfg)
    assert decision.verdict is Verdict.PROMOTE
    assert of_stop(decision, "guardrail").sentence.startswith("not gated: stop NLL gain -")
    first = compare(tmp_path / "2", GARBAGE, None, cfg, first_champion=True)
    assert first.verdict is Verdict.PROMOTE


@pytest.mark.parametrize(
    ("cfg", "words"),
    [
        (evaluations.config(), "task 'stop' is evaluated but has no margin"),
        (config(margins={"click": Margins(nll=1)}), "gate.margins.click: sets no margin. Set auc"),
        (config(margins={"stop": Margins(auc=1)}), "gate.margins.stop: sets no margin. Set nll"),
    ],
)
def test_the_label_is_gated_or_named_as_ungated(tmp_path, cfg, words):
    with pytest.raises(ConfigError, match=words):
        compare(tmp_path, STOPS_B, cfg=cfg)


def test_a_product_of_ad_level_rows_alone(tmp_path):
    """Its evaluation has no tasks, so there is nothing but the survival label to judge."""
    nothing = A.select(["row_id", "group", "time"])
    sides = [
        contender(tmp_path, nothing, stops, name)
        for stops, name in ((STOPS_B, "b"), (STOPS_A, "a"))
    ]
    cfg = config(margins={"stop": Margins(nll=0.1)})
    decision = gate(*sides, cfg, first_champion=False)
    assert decision.verdict is Verdict.PROMOTE
    assert {c.task for c in decision.checks} == {"stop"}


def test_one_large_campaign_is_noted(tmp_path):
    w = replace(W, campaign=np.where(np.arange(len(W.score)) % 4 == 0, 0, W.campaign))
    decision = compare(tmp_path, table(w, hazards(w, 2)), table(w, hazards(w, 1)))
    assert any("one of the campaigns of stop holds 25% of the rows" in n for n in decision.notes)


def test_the_evaluation_decides_what_is_stored(tmp_path):
    """Other hazards of the same bundle are another decision; changed bytes are none."""
    home = tmp_path / "home"
    challenger = contender(tmp_path, B, STOPS_B, "b")
    champion = contender(tmp_path, A, STOPS_A, "a")

    def decided(side):
        return decide(home, "p", side, champion, config(), first_champion=False)

    first, stored = decided(challenger)
    assert decided(challenger)[1].dir == stored.dir
    record = json.loads(stored.path("decision.json").read_bytes())
    assert Decision.from_json(record).to_bytes() == first.to_bytes()
    sha = challenger.survival.evaluation.sha
    assert record["facts"]["challenger"]["survival"]["evaluation_sha"] == sha
    again = replace(challenger, survival=on_survival(tmp_path / "again", GARBAGE, "b"))
    refused, other = decided(again)
    assert (refused.verdict, other.dir == stored.dir) == (Verdict.REFUSE, False)
    path = challenger.survival.evaluation.path("predictions.parquet")
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(IntegrityError, match=r"predictions.parquet: sha256 is"):
        decided(challenger)
