"""One retraining DAG per entry of `pipelines.json`; every task is one `recsys-mtl` verb.

`recsys-mtl schedule export` writes the file. Nothing of the project is imported: the tasks call
the command in the project's own environment, pass the run's interval, and translate exit codes.
"""

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.exceptions import AirflowFailException, AirflowSkipException
from airflow.sdk import CronDataIntervalTimetable, Param, dag, get_current_context, task

ENTRIES = json.loads((Path(__file__).parent / "pipelines.json").read_text())["pipelines"]

REFUSED, HELD, NOTHING_TO_DO = 4, 6, 99
NO_RETRY = {2: "configuration", 3: "data rejected", 5: "integrity violated"}
STEPS = ("validate", "ingest", "train", "evaluate", "gate", "promote", "score")
DECIDE = "discontinue"


def interval_end() -> str:
    """End of the window to work on: the run's data interval, or the parameter of a manual run."""
    context = get_current_context()
    manual = context["params"].get("interval_end")
    if manual:
        return str(manual)
    end = context["dag_run"].data_interval_end
    if end is None:
        raise AirflowFailException(
            "this run has no data interval; trigger it with the parameter interval_end, "
            "for example 2026-03-11"
        )
    return end.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def run_verb(entry: dict, verb: str) -> dict:
    """Run one verb and return its JSON result; raise what its exit code means to Airflow."""
    command = [*entry["command"], verb, entry["file"], "--json", "--interval-end", interval_end()]
    if verb == DECIDE:
        command += ["--policy", entry["policy"]]
    done = subprocess.run(
        command, cwd=entry["folder"], env=dict(os.environ), stdout=subprocess.PIPE, text=True
    )
    lines = done.stdout.strip().splitlines()
    code = done.returncode
    if code == NOTHING_TO_DO:
        raise AirflowSkipException(f"{verb}: nothing to do")
    if code in NO_RETRY:
        raise AirflowFailException(f"{verb}: exit {code}, {NO_RETRY[code]}; see the log above")
    if code not in (0, REFUSED, HELD) or not lines:
        raise RuntimeError(f"{verb}: exit {code}; it is safe to run again")
    return {"exit_code": code, **json.loads(lines[-1])}


def make_dag(entry: dict) -> None:
    """Declare the DAG of one pipeline."""

    @dag(
        dag_id=f"retrain_{entry['name']}",
        schedule=CronDataIntervalTimetable(entry["cron"], timezone=entry["timezone"]),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        tags=["recsys_mtl"],
        params={"interval_end": Param(None, type=["null", "string"], description="ISO time, UTC")},
        default_args={
            "owner": "recsys_mtl",
            "retries": 2,
            "retry_delay": timedelta(minutes=1),
            "retry_exponential_backoff": True,
            "execution_timeout": timedelta(hours=12),
        },
    )
    def retrain() -> None:
        previous = None
        for step in (*STEPS, DECIDE) if entry.get("policy") else STEPS:
            # Both go on with the old champion when there was no promotion.
            rule = "none_failed" if step in ("score", DECIDE) else "all_success"

            @task(task_id=step, trigger_rule=rule)
            def verb(step: str, before: dict | None) -> dict:
                if step == "promote" and before and before["exit_code"] in (REFUSED, HELD):
                    raise AirflowSkipException(f"gate said {before.get('verdict')}")
                result = run_verb(entry, step)
                return {k: result[k] for k in ("exit_code", "verdict", "artifact") if k in result}

            current = verb(step, previous if step == "promote" else None)
            if previous is not None:
                previous >> current
            previous = current

    retrain()


for _entry in ENTRIES:
    make_dag(_entry)
