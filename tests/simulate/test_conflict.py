"""The world of conflicting tasks: its truth is in the logs, and one representation loses."""

from collections import defaultdict
from datetime import UTC, date, datetime, time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from recsys_mtl.cli.main import app
from recsys_mtl.metrics.oracle import auc_regret
from recsys_mtl.simulate import conflict, planted
from recsys_mtl.simulate.conflict import BEHAVIOURS, PARENTS, TASKS, WorldConfig, write_world
from recsys_mtl.spec.load import load_pipeline

ROOT = Path(__file__).parents[2]
SMALL = {"num_users": 400, "num_items": 100, "num_days": 3, "rows_per_day": 8_000}
RATES = {task.name: task.base_rate for task in TASKS}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("conflict")
    return root, write_world(root, WorldConfig(**SMALL))


class Truth:
    """Parts of the logits of rows of the default world: of the ids, and of every history."""

    def __init__(self) -> None:
        config = WorldConfig()
        self.world = world = conflict.make_world(config)
        self.rows = rows = conflict.draw_rows(config, 2_000, 4)
        z = world.id_factors(rows) @ world.directions.T
        responses = [planted.response(z[:, t], task.degree) for t, task in enumerate(TASKS)]
        self.of_ids = np.stack(responses, axis=1)
        affinities = world.affinities(rows)
        self.of_histories = {m: affinity @ world.directions.T for m, affinity in affinities.items()}
        """Behaviour to float64[N, T]: what that history would say to each task."""
        own = [self.of_histories[task.history][:, t] for t, task in enumerate(TASKS)]
        self.of_own = np.stack(own, axis=1)
        signals = world.signals(rows)
        self.biases = planted.solve_biases(signals, RATES, PARENTS)
        self.p = planted.end_to_end(conflict.step_rates(world, rows), PARENTS)

    def regret(self, t: int, of_history: np.ndarray, rows: slice = slice(None)) -> float:
        """Loss of AUC of a predictor that is exact but for what the history says to task t."""
        task = TASKS[t]
        logit = self.biases[task.name] + conflict.mixed(self.of_ids[:, t], of_history)
        above = 1.0 if task.parent is None else self.p[task.parent]
        return auc_regret((above * planted.sigmoid(logit))[rows], self.p[task.name][rows])


@pytest.fixture(scope="module")
def truth():
    return Truth()


def columns(folder, names):
    table = pq.read_table(folder, columns=names)
    return [table[name].to_numpy() for name in names]


def test_rates_and_missing_labels_are_those_of_the_tasks(files):
    for task in TASKS:
        (p,) = columns(files[0] / "oracle", [f"p_{task.name}"])
        (label,) = columns(files[0] / "impressions", [f"is_{task.name}"])
        known = ~np.isnan(label)
        assert p.mean() == pytest.approx(task.base_rate, rel=1e-9)
        error = label[known].mean() - p[known].mean()
        assert abs(error) < 4 * np.sqrt((p * (1 - p)).mean() / known.sum()), task
        spread = np.sqrt(task.missing * (1 - task.missing) / len(p))
        assert abs((~known).mean() - task.missing) <= 4 * spread, task


def test_outcomes_and_probabilities_keep_the_funnel(files):
    for child, parent in PARENTS.items():
        labels = columns(files[0] / "impressions", [f"is_{child}", f"is_{parent}"])
        assert (labels[0] <= labels[1]).all()
        p = columns(files[0] / "oracle", [f"p_{child}", f"p_{parent}"])
        assert (p[0] <= p[1]).all()


def test_truth_is_a_function_of_logged_ids_and_times(files):
    """Recompute the logits of 30 rows from the files, event by event."""
    root, world = files
    rows = pq.read_table(root / "impressions").slice(20_000, 30).to_pylist()
    p = pq.read_table(root / "oracle").slice(20_000, 30).to_pylist()
    users = {user["user_id"]: user for user in pq.read_table(root / "users.parquet").to_pylist()}
    events = defaultdict(list)
    for event in pq.read_table(root / "behaviour").sort_by("time").to_pylist():
        events[event["user_id"], event["action"]].append((event["time"], event["item_id"]))
    scale = {m: np.sqrt(np.mean(world.interests(m, world.logs[m]) ** 2)) for m in BEHAVIOURS}
    assert scale == pytest.approx(dict.fromkeys(BEHAVIOURS, 1.0))
    for task in (t for t in TASKS if t.parent is None):
        offsets = []
        for row, true in zip(rows, p, strict=True):
            own = events[row["user_id"], task.history]
            newest = [item for at, item in own if at < row["time"]][-conflict.HISTORY_LENGTH :]
            ids = {**users[row["user_id"]], "item": row["item_id"], "hour": row["hour"]}
            q = sum(table[ids[field]] for field, table in world.tables.items()) / 2
            w, item = world.directions[TASKS.index(task)], world.tables["item"]
            of_history = w @ (item[newest].mean(0) * item[row["item_id"]])
            of_ids = planted.response(np.array([w @ q]), task.degree)
            p_t = true[f"p_{task.name}"]
            offsets.append((np.log(p_t / (1 - p_t)), of_ids[0], of_history))
        logit, *parts = np.array(offsets).T
        inputs = np.stack([*parts, np.ones(len(logit))], axis=1)
        fit, residual, *_ = np.linalg.lstsq(inputs, logit, rcond=None)
        assert residual[0] < 1e-12
        assert fit[0] == pytest.approx(conflict.STRENGTH * np.sqrt(1 - conflict.INTEREST_SHARE))


def test_days_are_disjoint_and_behaviour_starts_before_them(files):
    ids = []
    for log in ("impressions", "candidates", "oracle", "behaviour"):
        paths = sorted((files[0] / log).iterdir())
        assert len(paths) == (6 if log == "behaviour" else 3)
        for path in paths:
            table = pq.read_table(path)
            midnight = datetime.combine(date.fromisoformat(path.stem), time(), UTC)
            hours = [(t - midnight).total_seconds() / 3600 for t in table["time"].to_pylist()]
            assert 0 <= min(hours) <= max(hours) < 24
            assert hours == sorted(hours)
            ids += table["impression_id"].to_pylist() if log == "impressions" else []
    assert sorted(ids) == list(range(3 * 8_000))


def test_equal_seeds_give_equal_bytes_and_other_seeds_other_ones(tmp_path):
    small = {"num_users": 50, "num_items": 20, "num_days": 1, "rows_per_day": 200}
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        write_world(tmp_path / name, WorldConfig(**small, seed=seed))
    for path in sorted((tmp_path / "a").rglob("*.parquet")):
        a, b, c = (
            (tmp_path / name / path.relative_to(tmp_path / "a")).read_bytes() for name in "abc"
        )
        assert a == b != c


def test_directions_conflict_across_categories_as_configured(files):
    expected = planted.block_correlation(2, 3, 0.6, -0.5)
    assert np.allclose(files[1].directions @ files[1].directions.T, expected, atol=1e-7)


def test_an_infeasible_correlation_is_refused_with_its_bound(tmp_path):
    with pytest.raises(ValidationError, match=r"across is -0.9; .* between -0.7333 and 0.7333"):
        WorldConfig(across=-0.9)
    setting = ["--set", "across=-0.9"]
    result = CliRunner().invoke(app, ["simulate", "conflict", "--out", str(tmp_path), *setting])
    assert result.exit_code == 2
    assert "must lie between -0.7333 and 0.7333" in result.output
    assert not list(tmp_path.iterdir())


def test_the_pipeline_knows_the_tasks_of_the_world():
    loaded = load_pipeline(ROOT / "pipelines/conflict.yaml")
    labels = loaded.spec.sources["impressions"].labels
    assert [label.name for label in labels] == list(RATES)
    assert {label.name: label.parent for label in labels if label.parent} == PARENTS
    groups = {name: tuple(t.name for t in tasks) for name, tasks in conflict.CATEGORIES.items()}
    assert loaded.pipeline.model.task_groups == groups
    assert {s.max_len for s in loaded.spec.sequences} == {conflict.HISTORY_LENGTH}


def best_shared(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mixture whose worst correlation with a column is the highest, and its signed R^2."""
    correlation = np.corrcoef(columns.T)
    weights = np.random.default_rng(0).normal(size=(20_000, columns.shape[1]))
    covariance = weights @ correlation
    r2 = covariance**2 / (covariance * weights).sum(1, keepdims=True)
    best = r2.min(1).argmax()
    mixture = columns / columns.std(0) @ weights[best]
    return mixture, r2[best] * np.sign(covariance[best])


def least_loss(t: int) -> float:
    """AUC that a task must lose without its own history; an exact parent leaves a child little."""
    return 0.08 if TASKS[t].parent is None else 0.02


def test_the_parts_make_the_truth(truth):
    for t in range(len(TASKS)):
        assert truth.regret(t, truth.of_own[:, t]) == pytest.approx(0, abs=1e-12)


def test_no_shared_score_serves_all_tasks(truth):
    """Any shared scalar leaves some task at most R^2 = lambda_max / T of its logit.

    For unit vectors l_t (standardised logits) and s, whatever s is a function of:
    sum_t corr(s, l_t)^2 <= lambda_max(corr). Measured .33; .72 for three shared scalars.
    """
    logits = conflict.mixed(truth.of_ids, truth.of_own)
    share = np.cumsum(np.linalg.eigvalsh(np.corrcoef(logits.T))[::-1]) / len(TASKS)
    assert share[0] < 0.36
    assert share[2] < 0.75
    score, r2 = best_shared(logits)
    assert np.abs(r2).min() < share[0]
    regrets = [auc_regret(score * np.sign(r2[t]), truth.p[name]) for t, name in enumerate(RATES)]
    assert max(regrets) > 0.15
    assert min(regrets) > 0.05


def test_no_shared_interest_serves_all_tasks(truth):
    """All else exact, one interest for all tasks, with a weight of its own for each."""
    shared, _ = best_shared(truth.of_own)
    slopes = shared @ truth.of_own / (shared @ shared)
    regrets = [truth.regret(t, shared * slope) for t, slope in enumerate(slopes)]
    assert max(regrets) > 0.08
    assert min(regrets) > 0.02


@pytest.mark.parametrize("t", range(len(TASKS)))
def test_another_history_does_not_stand_for_the_own_one(truth, t):
    """All else exact, the interest of a wrong history at its best weight."""
    for history in set(BEHAVIOURS) - {TASKS[t].history}:
        wrong = truth.of_histories[history][:, t]
        losses = [truth.regret(t, weight * wrong) for weight in (-0.1, 0.0, 0.1, 0.2, 1.0)]
        assert min(losses) > least_loss(t)


@pytest.mark.parametrize("t", range(len(TASKS)))
def test_a_users_mean_interest_does_not_stand_for_that_of_the_day(truth, t):
    """All else exact, the user's mean over the first seven days, all that an id could learn."""
    world, rows, log = truth.world, truth.rows, truth.world.logs[TASKS[t].history]
    late = slice(7 * 2_000, None)
    early = log.time < rows.time[late][0]
    items = world.tables["item"][log.item[early]].T
    mean = np.stack([np.bincount(log.user[early], factor) for factor in items], axis=1)
    usual = (mean[rows.user] * world.tables["item"][rows.item]) @ world.directions[t]
    weight = (usual @ truth.of_own[:, t]) / (usual @ usual)
    assert truth.regret(t, weight * usual, late) > least_loss(t)
