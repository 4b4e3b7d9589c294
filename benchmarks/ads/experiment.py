"""Everything that is measured in one world."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.ads.baselines import Risks, constant, cox, rules
from benchmarks.ads.contenders import (
    BASE,
    CANDIDATES,
    FUTURE,
    KNOWN,
    MODALITIES,
    RATES,
    WEIGHTS,
    changed,
)
from benchmarks.ads.features import Matrices, click_rate_ratio
from benchmarks.ads.forests import forests
from benchmarks.ads.marginal import fitted
from benchmarks.ads.measure import (
    TEST_DAYS,
    Hazards,
    LandmarkRows,
    calibrated,
    life_of_curves,
    ranked,
    risks,
)
from benchmarks.ads.observer import observed_survival
from benchmarks.ads.operators import Operators
from benchmarks.ads.runs import Setting, open_job, read_rows, served, train
from benchmarks.ads.two_terms import compare
from benchmarks.ads.world import Truth, make, read_days
from recsys_mtl.artifacts.commit import atomic_write, make_dir, write_table
from recsys_mtl.simulate.ads_world import WorldConfig

ORACLE, CONSTANT, COX = "oracle", "constant hazard", "linear Cox"
OBSERVER = "informed observer"
INFERRING = "observer who infers strictness and budgets"
RULES = ("rule: lowest click rate", "rule: lowest smoothed rate over genre")
LEAKED, SERVED, HONEST = "future CTR, as evaluated", "future CTR, as served", "CTR until then"


@dataclass
class Experiment:
    """One world and the seed of its trainings."""

    world: Path
    config: WorldConfig
    common: Sequence[str]
    base: Setting
    """The model that everything is compared with."""

    def __post_init__(self) -> None:
        make(self.world, self.config)
        self.seed = self.config.seed
        self.truth = Truth.read(self.world)
        job = open_job(self.base, self.seed, self.common, self.world)
        self.all_rows = read_rows(job.landmarks)
        is_test = np.array(self.all_rows["part"].to_pylist()) == "test"
        self.test = self.all_rows.filter(pa.array(is_test))
        self.rows = LandmarkRows.of(self.test)
        self.states = self.truth.at(self.rows.creative, self.rows.entry)
        self.matrices = Matrices.of(self.all_rows, self.world)
        curves = self.truth.survival(self.states, TEST_DAYS)
        self.oracle = risks(life_of_curves(curves), self.rows)

    def measured(self) -> dict[str, Any]:
        """Numbers of all cases, written to `measured.json` as they come."""
        found: dict[str, Any] = {"seed": self.seed, "test_rows": len(self.rows.entry), "cases": {}}
        log = read_days(self.world, "delivery")
        found["marginal"] = fitted(log, self.truth, self.config)
        for name, case in self._cases().items():
            found["cases"][name] = case()
            print(f"world {self.seed}  {name:40} {_shown(found['cases'][name])}", flush=True)
            atomic_write(self.world / "measured.json", json.dumps(found, indent=1).encode())
        found["terms"] = compare(self.all_rows, self.matrices, self.seed)
        atomic_write(self.world / "measured.json", json.dumps(found, indent=1).encode())
        return found

    def _cases(self) -> dict[str, Callable[[], dict[str, Any]]]:
        matrices = self.matrices
        part = np.array(self.all_rows["part"].to_pylist())
        used = part != "valid"
        by_rule = rules(self.test, matrices.counts[part == "test"])
        flat = constant(self.all_rows, len(self.rows.entry))
        changes = {**WEIGHTS, **MODALITIES}
        known, future = self._rate_settings()
        used_rows, used_matrices = self.all_rows.filter(pa.array(used)), matrices.take(used)
        trees = forests(used_rows, used_matrices, self.seed)
        return {
            ORACLE: lambda: self._ranked(self.oracle),
            OBSERVER: lambda: self._ranked(self._observer(None)),
            INFERRING: lambda: self._ranked(self._observer(self._operators())),
            CONSTANT: lambda: self._predicted(flat),
            **{n: partial(self._ranked, risk) for n, risk in zip(RULES, by_rule, strict=True)},
            COX: lambda: self._ranked(cox(used_rows, used_matrices)),
            **{name: partial(self._ranked_by, risk) for name, risk in trees.items()},
            **{f"candidate: {c.name}": partial(self._trained, c) for c in CANDIDATES},
            BASE: partial(self._trained, self.base),
            **{name: partial(self._changed, change) for name, change in changes.items()},
            HONEST: partial(self._changed, known),
            LEAKED: partial(self._changed, future),
            SERVED: partial(self._served, future, known),
        }

    def _changed(self, change: Setting) -> dict[str, Any]:
        return self._trained(changed(self.base, change))

    def _trained(self, setting: Setting) -> dict[str, Any]:
        run = train(setting, self.seed, self.common, self.world)
        found = self._predicted(run.hazards)
        return found | {"valid_nll": run.valid_nll, "steps": run.best_step, "cpu_s": run.cpu_s}

    def _served(self, trained: Setting, given: Setting) -> dict[str, Any]:
        learned, shown = changed(self.base, trained), changed(self.base, given)
        return self._predicted(served(learned, shown, self.seed, self.common, self.world))

    def _predicted(self, hazards: Hazards) -> dict[str, Any]:
        risk = risks(hazards.life(self.rows), self.rows)
        return self._ranked(risk) | calibrated(hazards, self.rows, self.truth)

    def _ranked(self, risk: Risks) -> dict[str, Any]:
        return ranked(risk, self.rows, self.oracle)

    def _ranked_by(self, risk: Callable[[], Risks]) -> dict[str, Any]:
        return self._ranked(risk())

    def _operators(self) -> Operators:
        return Operators.of(self.truth, self.world, self.states)

    def _observer(self, operators: Operators | None) -> Risks:
        known = np.setdiff1d(np.unique(self.truth.states.creative), self.rows.creative)
        curves = observed_survival(self.truth, self.world, self.states, known, TEST_DAYS, operators)
        return risks(life_of_curves(curves), self.rows)

    def _rate_settings(self) -> tuple[Setting, Setting]:
        """Click rates of rows until the landmark, and of the creative's whole life, as tables."""
        log = read_days(self.world, "delivery")
        creative = self.all_rows["creative"].to_numpy()
        size = self.config.num_creatives
        totals = {
            name: np.bincount(log["creative"].to_numpy(), log[name].to_numpy(), size)
            for name in ("clicks", "impressions")
        }
        counts = {
            KNOWN: [self.all_rows[name].to_numpy() for name in totals],
            FUTURE: [total.astype(np.int64)[creative] for total in totals.values()],
        }
        for path, (clicks, impressions) in counts.items():
            ratio = np.log(click_rate_ratio(self.all_rows, clicks, impressions))
            make_dir((self.world / path).parent)
            table = pa.table({"row_id": self.all_rows["row_id"], "ctr": ratio})
            write_table(self.world / path, table)
        known, future = RATES.values()
        return known, future


def chosen(world: Path, config: WorldConfig, common: Sequence[str]) -> Setting:
    """The candidate with the best validation likelihood."""
    make(world, config)
    found = {}
    for setting in CANDIDATES:
        run = train(setting, config.seed, common, world)
        found[setting] = run.valid_nll
        print(f"{setting.name}: {run.valid_nll:.4f} nats on validation rows", flush=True)
    return min(found, key=lambda setting: found[setting])


def _shown(case: dict[str, Any]) -> str:
    return "  ".join(f"{scope} {value:.4f}" for scope, (value, _) in case["C"].items())
