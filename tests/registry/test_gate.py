import json

import numpy as np
import pyarrow as pa
import pytest

from recsys_mtl.errors import ConfigError, IntegrityError
from recsys_mtl.registry.decision import Decision, Verdict
from recsys_mtl.registry.gate import decide, gate, read_decision
from recsys_mtl.spec.pipeline import Floor, Margins

from .evaluations import DAY, config, contender, probs, table, trained_until, world

W = world(0)
A, B = table(W, probs(W, 1)), table(W, probs(W, 2))
BAD = table(W, probs(W, 3, worse={"like": 2.0}))


def compare(tmp_path, challenger_rows, champion_rows=A, cfg=None, first_champion=False):
    challenger = contender(tmp_path, challenger_rows, "b")
    champion = None if champion_rows is None else contender(tmp_path, champion_rows, "a")
    return gate(challenger, champion, cfg or config(), first_champion=first_champion)


def replaced(rows, name, values):
    return rows.set_column(rows.column_names.index(name), name, pa.array(values))


def test_equal_model_is_promoted(tmp_path):
    decision = compare(tmp_path, B)
    assert (decision.verdict, decision.exit_code, decision.reasons) == (Verdict.PROMOTE, 0, ())
    assert 0.9 < decision.equal_model_pass_probability <= 1
    assert decision.notes[0].startswith("an equally good model passes all guardrails")


def test_clear_loss_on_one_task_is_refused_whatever_the_others_gain(tmp_path):
    decision = compare(tmp_path, table(W, probs(W, 4, noise=0.01, worse={"like": 2.0})))
    assert (decision.verdict, decision.exit_code) == (Verdict.REFUSE, 4)
    assert len(decision.reasons) == 1
    assert decision.reasons[0].startswith("REFUSE: like AUC -0.")


def test_small_holdout_holds(tmp_path):
    decision = compare(tmp_path, B.slice(0, 2000), A.slice(0, 2000), config(auc=0.002))
    assert (decision.verdict, decision.exit_code) == (Verdict.HOLD, 6)
    assert any("users of 500 needed" in reason for reason in decision.reasons)
    assert "below the planned 0.90" in decision.notes[0]


def test_row_order_does_not_matter(tmp_path):
    shuffled = B.take(np.random.default_rng(0).permutation(B.num_rows))
    straight, other = compare(tmp_path / "1", B), compare(tmp_path / "2", shuffled)
    assert other.verdict is straight.verdict
    for x, y in zip(straight.checks, other.checks, strict=True):
        assert x.numbers == pytest.approx(y.numbers)


@pytest.mark.parametrize("broken", ["challenger", "champion"])
@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("row_id", lambda v: np.where(np.arange(len(v)) == 3, v[4], v), "repeat 1 row ids"),
        ("row_id", lambda v: v + (np.arange(len(v)) == 3) * 10**7, "1 only in the challenger's"),
        ("group", lambda v: v[::-1].copy(), "column 'group' differs"),
        ("label__like", lambda v: 1 - v, "column 'label__like' differs"),
        ("mask__like", lambda v: v & (np.arange(len(v)) != 9), "column 'mask__like' differs"),
        ("p__like", lambda v: np.where(np.arange(len(v)) == 3, np.nan, v), "1 of the"),
        ("p__like", lambda v: np.where(np.arange(len(v)) == 3, np.inf, v), "not probabilities"),
        ("p__like", lambda v: v + 0.9, "not probabilities"),
    ],
)
def test_rows_that_differ_void_the_comparison(tmp_path, broken, column, value, words):
    sides = {"challenger": B, "champion": A}
    sides[broken] = replaced(sides[broken], column, value(sides[broken][column].to_numpy()))
    decision = compare(tmp_path, sides["challenger"], sides["champion"])
    assert (decision.verdict, decision.exit_code) == (Verdict.INTEGRITY, 5)
    assert words in decision.reasons[0]
    assert not [c for c in decision.checks if c.kind == "guardrail"]


def test_one_missing_row_and_other_id_types_void_the_comparison(tmp_path):
    fewer = compare(tmp_path / "1", B.slice(1))
    assert "0 only in the challenger's evaluation, 1 only in the champion's" in fewer.reasons[0]
    text = replaced(B, "row_id", [str(i) for i in B["row_id"].to_pylist()])
    types = compare(tmp_path / "2", text)
    assert "different types, string and int64" in types.reasons[0]


def test_holdout_must_be_later_than_what_either_model_saw(tmp_path):
    challenger, champion = contender(tmp_path, B, "b"), contender(tmp_path, A, "a")
    for late, name in ((challenger, "challenger"), (champion, "champion")):
        sides = [trained_until(s, 100 * DAY) if s is late else s for s in (challenger, champion)]
        decision = gate(*sides, config(), first_champion=False)
        assert decision.verdict is Verdict.INTEGRITY
        assert f"before the {name}'s training" in decision.reasons[0]
        assert [c for c in decision.checks if c.kind == "guardrail"]
    unknown = gate(trained_until(challenger, None), champion, config(), first_champion=False)
    assert "does not say until when" in unknown.reasons[0]


@pytest.mark.parametrize("meta", [{"split_policy": "column"}, {"min_time_us": None}])
def test_rows_without_time_order_are_not_checked_for_it(tmp_path, meta):
    challenger = trained_until(contender(tmp_path, B, "b", **meta), None)
    champion = trained_until(contender(tmp_path, A, "a", **meta), None)
    assert gate(challenger, champion, config(), first_champion=False).verdict is Verdict.PROMOTE


@pytest.mark.parametrize("fact", ["bundle_sha", "input_fp"])
def test_evaluation_of_another_bundle_is_refused(tmp_path, fact):
    challenger = contender(tmp_path, B, "b", **{fact: "of something else"})
    decision = gate(challenger, contender(tmp_path, A, "a"), config(), first_champion=False)
    assert decision.verdict is Verdict.INTEGRITY
    assert f"the challenger's evaluation has {fact} of something" in decision.reasons[0]


def test_flipped_byte_raises_and_stores_nothing(tmp_path):
    challenger, champion = contender(tmp_path, B, "b"), contender(tmp_path, A, "a")
    path = champion.evaluation.dir / "part-00001-of-00002.parquet"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"part-00001-of-00002.parquet: sha256 is"):
        decide(tmp_path, "p", challenger, champion, config(), first_champion=False)
    assert not list((tmp_path / "p" / "gate").rglob("*.json"))


def test_stored_decision_is_not_returned_for_files_that_changed_since(tmp_path):
    challenger, champion = contender(tmp_path, B, "b"), contender(tmp_path, A, "a")
    decide(tmp_path, "p", challenger, champion, config(), first_champion=False)
    path = challenger.evaluation.dir / "part-00000-of-00002.parquet"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(IntegrityError, match=r"part-00000-of-00002.parquet: sha256 is"):
        decide(tmp_path, "p", challenger, champion, config(), first_champion=False)


def test_without_champion_the_flag_is_needed(tmp_path):
    refused = compare(tmp_path / "1", B, None)
    assert refused.exit_code == 4
    assert "pass --first-champion" in refused.reasons[0]
    allowed = compare(tmp_path / "2", B, None, first_champion=True)
    assert (allowed.exit_code, allowed.equal_model_pass_probability) == (0, None)
    assert {c.kind for c in allowed.checks} >= {"floor", "first_champion", "calibration"}


def test_first_champion_must_reach_its_floors(tmp_path):
    decision = compare(
        tmp_path, B, None, config(floors={"like": Floor(auc=0.9)}), first_champion=True
    )
    assert decision.exit_code == 4
    assert "its floor is 0.9000" in decision.reasons[0]


def test_constant_predictor_is_no_first_champion(tmp_path):
    constant = {t: np.full(len(W.user), W.labels[t].mean()) for t in W.labels}
    decision = compare(tmp_path, table(W, constant), None, first_champion=True)
    assert decision.exit_code == 4
    assert len(decision.reasons) == 4


def test_new_task_needs_the_flag_and_a_floor(tmp_path):
    old = A.drop_columns(["p__like"])
    assert compare(tmp_path / "1", B, old).exit_code == 4
    decision = compare(tmp_path / "2", B, old, first_champion=True)
    assert decision.exit_code == 0
    assert {c.task for c in decision.checks if c.kind == "floor"} == {"like"}
    assert {c.task for c in decision.checks if c.kind == "guardrail"} == {"click"}


def test_dropped_task_and_idle_flag_are_noted(tmp_path):
    new = B.drop_columns(["p__like", "label__like", "mask__like"])
    decision = compare(tmp_path, new, A, config(tasks=("click",)), first_champion=True)
    assert any("also predicts like" in note for note in decision.notes)
    assert any("--first-champion changes nothing" in note for note in decision.notes)


def test_masked_rows_do_not_count(tmp_path):
    """A model that is wrong only where labels are unobserved is an equal model."""
    hidden = np.random.default_rng(5).random(len(W.user)) < 0.3
    w = world(0)
    w.masks["like"][hidden] = False
    scores = probs(w, 2)
    spoiled = {**scores, "like": np.where(hidden, 0.5, scores["like"])}
    straight = compare(tmp_path / "1", table(w, scores), table(w, probs(w, 1)))
    decision = compare(tmp_path / "2", table(w, spoiled), table(w, probs(w, 1)))
    assert decision.checks[-1].numbers["n"] == int((~hidden).sum())
    assert [c.numbers for c in decision.checks] == [c.numbers for c in straight.checks]


def test_task_of_one_class_holds(tmp_path):
    w = world(0)
    w.labels["like"][:] = False
    decision = compare(tmp_path, table(w, probs(w, 2)), table(w, probs(w, 1)))
    assert decision.exit_code == 6
    assert any("cannot be compared (challenger: no positive row)" in r for r in decision.reasons)


def test_ungated_task_is_reported_only(tmp_path):
    cfg = config(tasks=("click",), ungated=("like",))
    decision = compare(tmp_path, BAD, cfg=cfg)
    assert decision.verdict is Verdict.PROMOTE
    assert any(c.sentence.startswith("not gated: like AUC -0.") for c in decision.checks)


@pytest.mark.parametrize(
    ("cfg", "words"),
    [
        (config(tasks=("click",)), "task 'like' is evaluated but has no margin"),
        (config(tasks=("click", "like", "buy")), "gate.margins.buy: no such task"),
        (config(margins={"click": Margins(), "like": Margins(auc=0.1)}), "sets no margin"),
        (config(margins={}, ungated=("click", "like")), "no task is gated"),
    ],
)
def test_every_task_is_gated_or_named_as_ungated(tmp_path, cfg, words):
    with pytest.raises(ConfigError, match=words):
        compare(tmp_path, B, cfg=cfg)


def test_one_large_cluster_and_saturated_scores_are_noted(tmp_path):
    w = world(0)
    w.user[: len(w.user) // 3] = 0
    scores = probs(w, 2)
    scores["like"][:100] = 1.0
    decision = compare(tmp_path, table(w, scores), table(w, probs(w, 1)))
    assert any("one of the users holds 33% of the rows" in note for note in decision.notes)
    assert any("predictions of like are 0 or 1" in note for note in decision.notes)


def test_second_run_returns_the_stored_bytes(tmp_path):
    challenger, champion = contender(tmp_path, B, "b"), contender(tmp_path, A, "a")
    args = (tmp_path / "home", "short_video", challenger, champion)
    first, stored = decide(*args, config(), first_champion=False)
    path = stored.path("decision.json")
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    again, same = decide(*args, config(), first_champion=False)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert (same.dir, again.to_bytes()) == (stored.dir, before[0])
    assert first.to_bytes() == before[0] == read_decision(stored).to_bytes()
    _, other = decide(*args, config(auc=0.03), first_champion=False)
    assert other.dir != stored.dir


def test_decision_file_holds_every_number(tmp_path):
    decision = compare(tmp_path, B)
    record = json.loads(decision.to_bytes())
    assert Decision.from_json(record).to_bytes() == decision.to_bytes()
    (check,) = [
        c
        for c in record["checks"]
        if (c["task"], c["metric"], c["class"]) == ("like", "auc", "guardrail")
    ]
    assert set(check["numbers"]) == {
        "n", "n_pos", "n_clusters", "challenger", "champion", "d", "se", "L", "U",
        "margin", "mde", "pass_probability",
    }  # fmt: skip
    assert record["facts"]["challenger"]["bundle_sha"] == "bundle of b"
    assert record["facts"]["config"]["alpha"] == 0.05
