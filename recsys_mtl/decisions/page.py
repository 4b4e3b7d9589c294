"""The decisions of a day as one page for the people who run the campaigns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import pyarrow as pa

from recsys_mtl.decisions.curve import Curve, survival_curve
from recsys_mtl.decisions.decide import ACTIONS
from recsys_mtl.decisions.thresholds import Threshold, cause_column, in_words, spoken
from recsys_mtl.reports.page import banner, page
from recsys_mtl.reports.tables import table
from recsys_mtl.spec.feature_spec import SurvivalLabel
from recsys_mtl.spec.policy_file import Policy

MAX_SHOWN = 100
"""Creatives of one action with their curves; the Parquet file holds all."""
_MAX_ADVERTISERS = 100
_TITLES = {"stop": "Stop", "prepare_replacement": "Prepare a replacement", "watch": "Watch"}
_MODES = {
    "shadow": (
        "#e69f00",
        "Shadow mode",
        "Nothing below is in force: this is what the policy would do, for people to compare with "
        "what they do.",
    ),
    "act": (
        "#d55e00",
        "In force",
        "The stops below are in force today; restore a creative if you disagree.",
    ),
}
_MEANING = (
    "The model has learned what operators did. A high probability means that an operator would "
    "stop such a creative, not that stopping it helps: nobody has measured that. "
)
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PageInput:
    """What a page shows."""

    title: str
    day: str
    table: pa.Table
    """Of `decide`."""
    policy: Policy
    label: SurvivalLabel
    thresholds: Sequence[Threshold]
    version: str
    """Of the model."""


def render_page(shown: PageInput) -> str:
    """The page as text; equal inputs give equal bytes."""
    policy = shown.policy
    counts = counts_of(shown.table)
    parts = [
        f"<h1>{escape(shown.title)}: creatives on {escape(shown.day)}</h1>",
        banner(*_MODES[policy.mode]),
        f"<p>{escape(summary(counts))}</p>",
        f"<p>{escape(_MEANING + _hold_out(policy.restraint.hold_out))}</p>",
        "<h2>From what probability on</h2>",
        "<ul>",
        *(
            f"<li>{escape(in_words(t, policy.causes[t.cause], policy.horizon))}</li>"
            for t in shown.thresholds
        ),
        "</ul>",
        "<h2>By advertiser</h2>",
        _advertisers(shown.table),
        *(_section(shown, action) for action in _TITLES),
        f"<p>{counts['keep']:,} creatives are kept. All numbers of all creatives are in "
        "<code>decisions.parquet</code>.</p>",
        f"<p>Model version {escape(shown.version)}.</p>",
    ]
    return page(f"{shown.title}: creatives on {shown.day}", parts)


def counts_of(decisions: pa.Table) -> dict[str, int]:
    """Creatives per action."""
    found = {
        entry["values"]: entry["counts"] for entry in decisions["action"].value_counts().to_pylist()
    }
    return {action: found.get(action, 0) for action in ACTIONS}


def summary(counts: Mapping[str, int]) -> str:
    """The day in a sentence."""
    return (
        f"Of {sum(counts.values()):,} live creatives: stop {counts['stop']:,}, prepare a "
        f"replacement for {counts['prepare_replacement']:,}, watch {counts['watch']:,}, keep "
        f"{counts['keep']:,}."
    )


def _hold_out(share: float) -> str:
    if not share:
        return "Without a hold-out it cannot be measured either."
    return f"So that one can, {share:.1%} of creatives, chosen by chance, are never stopped here."


def _advertisers(decisions: pa.Table) -> str:
    is_action = {
        action: pa.array(decisions["action"].to_numpy(zero_copy_only=False) == action).cast("int64")
        for action in ACTIONS
    }
    names = ("advertiser", "impressions", "clicks", "spend")
    columns = {name: decisions[name] for name in names} | is_action
    sums = [(name, "sum") for name in [*ACTIONS, *names[1:]]]
    grouped = pa.table(columns).group_by("advertiser").aggregate(sums)
    by = [*((f"{action}_sum", "descending") for action in ACTIONS[:3]), ("advertiser", "ascending")]
    ordered = grouped.sort_by(by)
    rows = [
        [
            str(row["advertiser"]),
            *(f"{row[f'{action}_sum']:,}" for action in ACTIONS),
            f"{row['impressions_sum']:,}",
            f"{row['clicks_sum']:,}",
            f"{row['spend_sum']:,.2f}",
        ]
        for row in ordered.slice(0, _MAX_ADVERTISERS).to_pylist()
    ]
    header = ["advertiser", "stop", "prepare", "watch", "keep", *names[1:]]
    more = ordered.num_rows - len(rows)
    return table(header, rows) + (f"<p>{more:,} more.</p>" if more > 0 else "")


def _section(shown: PageInput, action: str) -> str:
    chosen = shown.table.filter(
        pa.array(shown.table["action"].to_numpy(zero_copy_only=False) == action)
    )
    if not chosen.num_rows:
        return ""
    cards = [_card(shown, row) for row in chosen.slice(0, MAX_SHOWN).to_pylist()]
    more = chosen.num_rows - len(cards)
    rest = f"<p>{more:,} more, less urgent, are in the Parquet file.</p>" if more else ""
    return f"<h2>{_TITLES[action]}</h2>{''.join(cards)}{rest}"


def _card(shown: PageInput, row: Row) -> str:
    """One creative: what and why, its curve, its numbers."""
    label, horizon = shown.label, shown.policy.horizon
    curve = survival_curve(Curve.of(row, label.name), str(row["creative"]), horizon)
    facts = [
        ["age in days", f"{row['landmark']:,}"],
        ["expected days left", f"{row[f'{label.name}__days']:.1f}"],
        ["impressions", f"{row['impressions']:,}"],
        ["clicks", f"{row['clicks']:,}"],
        ["conversions", f"{row['conversions']:,}"],
        ["spend", f"{row['spend']:,.2f}"],
        ["target click rate", f"{row['target_ctr']:.2%}"],
        ["probability of a rate below the target", f"{row['evidence']:.2f}"],
    ]
    for cause in (threshold.cause for threshold in shown.thresholds):
        value = row[f"{cause}__threshold"]
        p = f"{row[cause_column(label, cause, horizon)]:.3f}"
        bound = "no threshold" if value is None else f"threshold {value:.3f}"
        facts.append([f"probability of a stop for {spoken(cause)}, {horizon} days", p])
        facts.append([f"its {bound}; days in a row", f"{row[f'{cause}__met_days']:,}"])
    where = f"{row['advertiser']}, campaign {row['campaign']}, {row['genre']}"
    return (
        f"<h3>{row['rank']:,}. {escape(str(row['creative']))}</h3>"
        f"<p>{escape(where)}</p><p>{escape(_capital(row['why']))}</p>"
        f'<div class="figure">{curve}</div>{table(["what", "value"], facts)}'
    )


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
