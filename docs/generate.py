"""Write the generated parts of the documentation: options from the code, tables from results.

    .venv/bin/python -m docs.generate

A page marks a generated part, which is not to be edited, with `<!-- generated: WHAT -->` before it
and `<!-- end -->` after it. WHAT is `options` and the title of a block of the options page,
`policy` for all options of a policy file, `quality` and a world of `benchmarks.quality`, `survival`
and data of `benchmarks.survival`, `ads` for `benchmarks.ads`, `speed` and a benchmark (that of
towers if none is named), `limits` of the expert diagnosis, or `verdicts` of its interventions.
"""

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.ads.page import page
from benchmarks.results import RESULTS
from recsys_mtl.spec.options_page import (
    option_blocks,
    options_page,
    options_sections,
    options_table,
)
from recsys_mtl.spec.policy_file import Policy

DOCS = Path(__file__).parent
OPTIONS = DOCS / "reference" / "pipeline-file.md"
_PART = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    """Bring all generated parts up to date."""
    for path, text in generated_pages().items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            sys.stdout.write(f"written: {path.relative_to(DOCS.parent)}\n")


def generated_pages() -> dict[Path, str]:
    """Every page with generated parts, as it should be."""
    pages = {OPTIONS: options_page()}
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text()
        if path != OPTIONS and _PART.search(text):
            pages[path] = filled(text, path)
    return pages


def filled(text: str, path: Path) -> str:
    """A page with its generated parts made anew.

    Args:
        text: as it is.
        path: where it stands; links are relative to it.
    """
    return _PART.sub(lambda m: f"{m[1]}\n{_part(m[2], path)}\n\n{m[3]}", text)


def _part(what: str, path: Path) -> str:
    kind, _, name = what.partition(" ")
    match kind:
        case "options":
            (block,) = [block for block in option_blocks() if block.title == name]
            page = os.path.relpath(OPTIONS, path.parent)
            return options_table(block.options).replace("](#", f"]({page}#")
        case "policy":
            return options_sections(Policy)
        case "quality":
            return quality(name)
        case "survival":
            return survival(name)
        case "speed":
            return speed(name or "towers")
        case "ads":
            return ads()
        case "limits":
            return limits()
        case "verdicts":
            return verdicts()
    raise ValueError(f"no generated part is called {what!r}; see the head of docs/generate.py")


def quality(world: str) -> str:
    """What `benchmarks.quality` measured in a world."""
    record = _record(f"quality_{world}.json")
    if record is None:
        return _not_measured(f"quality_{world}.json", f"benchmarks.quality {world}")
    # Here, since it brings torch along.
    from benchmarks.quality.table import markdown

    rows = record["rows"]
    rates = ", ".join(f"{rate:g}" for rate in record["learning_rates"])
    seeds = max(len(row["seeds"]) for row in rows)
    parts = [
        f"`python -m benchmarks.quality {world}`, {seeds} seeds, learning rates {rates}. "
        + _machine(record),
        markdown(rows),
    ]
    parts += _per_task("GAUC, mean over seeds:", rows, "gauc")
    parts += _per_task("Regret, oracle AUC minus AUC, mean over seeds:", rows, "regret")
    return "\n\n".join(parts)


def survival(data: str) -> str:
    """What `benchmarks.survival` measured on some data."""
    record = _record(f"survival_{data}.json")
    if record is None:
        return _not_measured(f"survival_{data}.json", f"benchmarks.survival {data} --data DIR")
    metrics = list(dict.fromkeys(row["metric"] for row in record["rows"]))
    cells: dict[str, dict[str, str]] = {}
    for row in record["rows"]:
        shown = f"{row['value']:.3f}"
        shown += "" if row["sd"] is None else f" ± {row['sd']:.3f}"
        shown += f" (s.e. {row['sampling_se']:.3f})" if row["sampling_se"] else ""
        cells.setdefault(row["case"].removeprefix(f"{data}: "), {})[row["metric"]] = shown
    lines = [_machine(record), "", "| | " + " | ".join(metrics) + " |"]
    lines.append("|---|" + "---|" * len(metrics))
    for case, found in cells.items():
        lines.append(f"| {case} | " + " | ".join(found.get(m, "") for m in metrics) + " |")
    return "\n".join(lines)


def ads() -> str:
    """What `benchmarks.ads` measured."""
    record = _record("ads.json")
    if record is None:
        return _not_measured("ads.json", "benchmarks.ads --data DIR")
    return f"{_machine(record)}\n\n{page(record)}"


def speed(benchmark: str = "towers") -> str:
    """What a benchmark that keeps ratios measured."""
    record = _record(f"{benchmark}.json")
    if record is None:
        return _not_measured(f"{benchmark}.json")
    ratios = {pair.partition(" / ")[0]: (pair, value) for pair, value in record["ratios"].items()}
    lines = [_machine(record), "", "| case | median [least, most] | ratio |", "|---|---|---|"]
    for row in record["rows"]:
        least, most = (_figure(end) for end in row["spread"])
        value = f"{_figure(row['value'])} [{least}, {most}] {row['unit']}"
        pair, ratio = ratios.get(row["case"], ("", 0))
        lines.append(f"| {row['case']} | {value} | " + (f"{ratio:.2f} ({pair}) |" if pair else "|"))
    return "\n".join(lines)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def limits() -> str:
    """Where the expert diagnosis warns and where it raises an alarm."""
    from recsys_mtl.evaluation.expert_alarms import LIMITS

    m = LIMITS
    rows = (
        ("collapse", "share of an expert's outputs that are zero", m.zero_warn, m.zero_alarm),
        ("collapse", "largest rms of a layer's experts / smallest", m.rms_ratio_warn, "-"),
        ("polarisation", "entropy of mean weights / ln K, below", m.entropy_warn, m.entropy_alarm),
        ("polarisation", "mean entropy of rows' weights / ln K, below", m.row_entropy_warn, "-"),
        (
            "degradation",
            f"largest task's share of a shared expert, for {m.occupancy_readers} tasks",
            m.occupancy_warn,
            m.occupancy_alarm,
        ),
        ("idle", "mean weight of an expert, at most", m.idle_load, "-"),
        ("underfitting", "weight of own experts / even weight, below", m.own_warn, m.own_alarm),
        ("selector", "attention to one field", m.top_warn, m.top_alarm),
        ("selector", "least cosine between two tasks' attention", "-", m.cosine_alarm),
    )
    lines = ["| kind | figure | warning | alarm |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines)


def verdicts() -> str:
    """What counts as a loss, and as no change, in an intervention."""
    from recsys_mtl.evaluation.interventions import BEYOND_SE, UNUSED_AUC, UNUSED_LOGLOSS

    return (
        f"A task **loses** when its log-loss rises by more than {BEYOND_SE:g} standard errors of "
        f"the paired change and by at least {UNUSED_LOGLOSS:.1%}. **Nothing changes** when its "
        f"log-loss moves by less than {UNUSED_LOGLOSS:.1%} and its AUC by less than {UNUSED_AUC:g}."
    )


def _per_task(caption: str, rows: Sequence[dict[str, Any]], key: str) -> list[str]:
    """A table of one figure by model and task; none where it was not measured."""
    tasks = list(rows[0][key])
    if not tasks:
        return []
    lines = ["| model | " + " | ".join(tasks) + " |", "|---|" + "---|" * len(tasks)]
    for row in rows:
        cells = [row["model"], *(f"{row[key][task]:.4f}" for task in tasks)]
        lines.append("| " + " | ".join(cells) + " |")
    return [caption, "\n".join(lines)]


def _record(name: str) -> dict[str, Any] | None:
    path = RESULTS / name
    return json.loads(path.read_text()) if path.exists() else None


def _not_measured(name: str, module: str = "") -> str:
    how = f" `.venv/bin/python -m {module}` makes it." if module else ""
    return f"Not measured yet: there is no `benchmarks/results/{name}`.{how}"


def _machine(record: dict[str, Any]) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in record["machine"].items())
    return f"Machine: {facts}."


if __name__ == "__main__":
    main()
