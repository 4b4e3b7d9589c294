"""Runs the DAGs for real with `dag.test()`; needs the Airflow environment: `make dag-test`.

A fake command that returns chosen exit codes proves the states; one run against the real command
on a small simulated world proves that the seam holds.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from datetime import UTC, datetime
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
HOME = Path(tempfile.mkdtemp(prefix="recsys-dags-"))
os.environ |= {
    "AIRFLOW_HOME": str(HOME / "airflow"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__DAGS_FOLDER": str(HOME / "dags"),
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
}
RUN_AT = datetime(2026, 3, 9, 3, tzinfo=UTC)

FAKE = """
import json, os, sys
from pathlib import Path
verb = sys.argv[1]
codes = json.loads(Path(os.environ["FAKE_CODES"]).read_text())
with open(os.environ["FAKE_LOG"], "a") as log:
    log.write(json.dumps(sys.argv[1:]) + chr(10))
code = codes.get(verb, 0)
print(json.dumps({"status": "ok", "verdict": {0: "PROMOTE", 4: "REFUSE", 6: "HOLD"}.get(code)}))
sys.exit(code)
"""


def load_dag(entry):
    """Parse the DAG folder with `entry` as its only pipeline."""
    from airflow.dag_processing.dagbag import DagBag

    folder = HOME / "dags"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(REPO / "airflow_dags" / "retrain.py", folder)
    (folder / "pipelines.json").write_text(json.dumps({"pipelines": [entry]}))
    start = time.perf_counter()
    bag = DagBag(str(folder))
    assert bag.import_errors == {}, bag.import_errors
    return bag.dags[f"retrain_{entry['name']}"], time.perf_counter() - start


def states(run):
    """State of each task of a finished run."""
    return {ti.task_id: str(ti.state) for ti in run.get_task_instances()}


class FakeCommand(unittest.TestCase):
    def run_with(self, codes, policy=None, **kwargs):
        (HOME / "fake.py").write_text(FAKE)
        (HOME / "codes.json").write_text(json.dumps(codes))
        log = HOME / "calls.log"
        log.unlink(missing_ok=True)
        os.environ |= {"FAKE_CODES": str(HOME / "codes.json"), "FAKE_LOG": str(log)}
        entry = {
            "name": "fake",
            "file": "pipelines/fake.yaml",
            "folder": str(HOME),
            "command": [sys.executable, str(HOME / "fake.py")],
            "cron": "0 3 * * *",
            "timezone": "UTC",
            "policy": policy,
        }
        dag, _ = load_dag(entry)
        for task in dag.tasks:
            task.retries = 0
        kwargs = kwargs or {"logical_date": RUN_AT}
        run = dag.test(**kwargs)
        calls = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return str(run.state), states(run), calls

    def test_all_green_passes_the_interval(self):
        state, tasks, calls = self.run_with({})
        self.assertEqual(state, "success")
        self.assertEqual(set(tasks.values()), {"success"})
        self.assertEqual(
            [c[0] for c in calls],
            ["validate", "ingest", "train", "evaluate", "gate", "promote", "score"],
        )
        for call in calls:
            self.assertEqual(
                call[1:],
                ["pipelines/fake.yaml", "--json", "--interval-end", "2026-03-09T03:00:00Z"],
            )

    def test_held_gate_skips_promotion_and_still_scores(self):
        for code in (4, 6):
            state, tasks, _ = self.run_with({"gate": code})
            self.assertEqual(state, "success")
            self.assertEqual(tasks["gate"], "success")
            self.assertEqual(tasks["promote"], "skipped")
            self.assertEqual(tasks["score"], "success")

    def test_creatives_are_decided_about_after_scoring_where_there_is_a_policy(self):
        _, tasks, _ = self.run_with({})
        self.assertNotIn("discontinue", tasks)
        state, tasks, calls = self.run_with({}, policy="policies/fake.yaml")
        self.assertEqual((state, tasks["discontinue"]), ("success", "success"))
        self.assertEqual([c[0] for c in calls][-2:], ["score", "discontinue"])
        self.assertEqual(
            calls[-1][1:],
            [
                *("pipelines/fake.yaml", "--json", "--interval-end", "2026-03-09T03:00:00Z"),
                *("--policy", "policies/fake.yaml"),
            ],
        )

    def test_exit_codes_of_decisions_mean_what_others_mean(self):
        for codes, expected in (
            ({"gate": 6}, "success"),
            ({"score": 99}, "success"),
            ({"discontinue": 99}, "skipped"),
            ({"discontinue": 2}, "failed"),
            ({"discontinue": 3}, "failed"),
            ({"discontinue": 75}, "failed"),
            ({"score": 3}, "upstream_failed"),
        ):
            with self.subTest(codes=codes):
                _, tasks, _ = self.run_with(codes, policy="p.yaml")
                self.assertEqual(tasks["discontinue"], expected)

    def test_rejected_data_fail_and_nothing_follows(self):
        state, tasks, calls = self.run_with({"ingest": 3})
        self.assertEqual(state, "failed")
        self.assertEqual(tasks["ingest"], "failed")
        self.assertEqual(tasks["train"], "upstream_failed")
        self.assertEqual([c[0] for c in calls], ["validate", "ingest"])

    def test_manual_run_uses_its_parameter_as_one_argument(self):
        hostile = '2026-03-09"; touch x'
        _, _, calls = self.run_with({}, logical_date=None, run_conf={"interval_end": hostile})
        self.assertEqual(calls[0][-1], hostile)
        self.assertFalse((HOME / "x").exists())

    def test_declaration(self):
        entry = {
            "name": "fake",
            "file": "f",
            "folder": ".",
            "command": ["x"],
            "cron": "0 3 * * *",
            "timezone": "UTC",
        }
        dag, seconds = load_dag(entry)
        self.assertLess(seconds, 5)
        self.assertEqual(dag.max_active_runs, 1)
        self.assertFalse(dag.catchup)
        self.assertTrue(all(t.retries >= 2 and t.execution_timeout for t in dag.tasks))
        heavy = {"torch", "ray", "mlflow", "polars", "recsys_mtl"}
        self.assertEqual(heavy & set(sys.modules), set())


class RealCommand(unittest.TestCase):
    def test_small_world_end_to_end(self):
        command = str(REPO / ".venv" / "bin" / "recsys-mtl")
        folder = HOME / "project"
        for part in ("feature_specs", "pipelines", "policies"):
            shutil.copytree(REPO / part, folder / part, dirs_exist_ok=True)
        small = ["num_users=600", "num_videos=60", "num_days=8", "rows_per_day=3000"]
        sizes = [part for size in small for part in ("--set", size)]
        subprocess.run(
            [command, "simulate", "short_video", "--out", "demo", *sizes], cwd=folder, check=True
        )
        exported = subprocess.run(
            [command, "schedule", "export", "--out", "pipelines.json", "--json"],
            cwd=folder,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.assertIn("ok", exported.stdout)
        entries = json.loads((folder / "pipelines.json").read_text())["pipelines"]
        (entry,) = [e for e in entries if e["name"] == "short_video"]
        os.environ["RECSYS_SET_INGEST__ENGINE"] = "local"
        dag, _ = load_dag(entry)
        for task in dag.tasks:
            task.retries = 0
        run = dag.test(logical_date=RUN_AT)
        tasks = states(run)
        # A first champion needs a person's flag, so the gate refuses and nothing is scored.
        self.assertEqual(tasks["evaluate"], "success", tasks)
        self.assertEqual(tasks["gate"], "success", tasks)
        self.assertEqual(tasks["promote"], "skipped", tasks)
        self.assertEqual(tasks["score"], "skipped", tasks)


if __name__ == "__main__":
    subprocess.run(
        [str(Path(sys.executable).parent / "airflow"), "db", "migrate"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    try:
        unittest.main(verbosity=2)
    finally:
        shutil.rmtree(HOME, ignore_errors=True)
