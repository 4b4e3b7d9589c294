"""`recsys-mtl discontinue`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recsys_mtl.cli.options import AsJson, IntervalEnd, Overrides, PipelineFile, Quiet
from recsys_mtl.cli.output import Result, conclude, table
from recsys_mtl.cli.stages import Job, read_json

if TYPE_CHECKING:
    from recsys_mtl.artifacts.manifest import Manifest
    from recsys_mtl.decisions.job import Decided

_MAX_LINES = 30

PolicyFile = Annotated[
    Path, typer.Option(help="Policy file, e.g. policies/ad_creatives.yaml.", show_default=False)
]


def command(
    pipeline: PipelineFile,
    policy: PolicyFile,
    interval_end: IntervalEnd = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Decide which creatives to stop today, by the champion's survival curves and a policy.

    Example: recsys-mtl discontinue pipelines/ad_creatives.yaml --policy policies/ad_creatives.yaml
    """

    def body() -> Result:
        from recsys_mtl.decisions.job import publish_decisions

        job = Job.open(pipeline, overrides, interval_end, quiet)
        decided = _decided(job, policy)
        name = job.loaded.pipeline.name
        return result_of(publish_decisions(job.loaded.home, name, decided))

    conclude(as_json, body)


def _decided(job: Job, policy_path: Path) -> "Decided":
    """Champion's scores, and its predictions of rows that it was not trained on."""
    from recsys_mtl.decisions.job import Decided, Input
    from recsys_mtl.errors import ConfigError, Problem
    from recsys_mtl.evaluation.survival import PREDICTIONS, VALIDATION, evaluate_survival
    from recsys_mtl.ingest.landmarks import DAYS, ROWS
    from recsys_mtl.scoring.creatives import CREATIVES, score_days
    from recsys_mtl.spec.policy_file import load_policy

    label = job.loaded.layout.survival
    if label is None:
        where, text = str(job.loaded.pipeline_path), "the pipeline has no survival label"
        raise ConfigError(Problem(where, text, "Declare `creatives` and the label's source."))
    policy = load_policy(policy_path, label)
    scores, champion = job.scored_creatives()
    # The candidate's predictions would tell nothing about the champion's probabilities.
    bundle = job.load(champion)
    evaluation = evaluate_survival(job.loaded, bundle, job.landmarks)
    days = score_days(job.loaded, bundle, job.landmarks)
    files = {
        "scores": (scores, CREATIVES),
        "validation": (evaluation, VALIDATION),
        "test": (evaluation, PREDICTIONS),
        "landmarks": (job.landmarks, ROWS),
        "days": (days, DAYS),
    }
    inputs = {key: Input(found.path(name), found.sha) for key, (found, name) in files.items()}
    return Decided(policy, label, champion.version, **inputs)


def result_of(decisions: "Manifest") -> Result:
    """Decisions as lines and fields: those that ask for something, the most urgent first."""
    from recsys_mtl.artifacts.commit import read_table
    from recsys_mtl.decisions.job import DECISIONS, PAGE, POLICY, VALUE
    from recsys_mtl.decisions.page import summary

    meta = decisions.meta
    columns = ["rank", "creative", "advertiser", "action", "landmark", "impressions", "evidence"]
    urgent = read_table(decisions.path(DECISIONS), columns).slice(0, _MAX_LINES).to_pylist()
    rows = [
        [
            str(row["creative"]),
            str(row["advertiser"]),
            row["action"],
            f"{row['landmark']:,}",
            f"{row['impressions']:,}",
            f"{row['evidence']:.2f}",
        ]
        for row in urgent
        if row["action"] != "keep"
    ]
    header = ["creative", "advertiser", "action", "age", "impressions", "P(below target)"]
    mode = "in force" if meta["mode"] == "act" else "shadow mode, nothing is in force"
    lines = [f"{meta['day']} ({mode}). {summary(meta['counts'])}"]
    lines += table(header, rows) if rows else []
    thresholds = read_json(decisions, POLICY)["thresholds"]
    value = read_json(decisions, VALUE)
    lines += ["", *(found["in_words"] for found in thresholds), *value["sentences"], ""]
    lines.append(f"Page: {decisions.path(PAGE)}")
    data = {"artifact": str(decisions.dir), "page": str(decisions.path(PAGE)), **meta}
    return Result(lines, {**data, "thresholds": thresholds, "value": value})
