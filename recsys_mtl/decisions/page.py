"""The decisions of a day as one page for the people who run the campaigns."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.decisions.curve import Curve, survival_curve
from recsys_mtl.decisions.decide import ACTIONS
from recsys_mtl.decisions.signs import likely_column, met_column
from recsys_mtl.decisions.thresholds import (
    Rates,
    Threshold,
    bound_in_words,
    cause_column,
    in_words,
    spoken,
)
from recsys_mtl.decisions.value import MIN_ROWS, Value
from recsys_mtl.decisions.why import percents
from recsys_mtl.reports.page import banner, page
from recsys_mtl.reports.tables import table
from recsys_mtl.spec.feature_spec import SurvivalLabel
from recsys_mtl.spec.policy_file import Policy

MAX_SHOWN = 100
"""Creatives of one action with their curves; the Parquet file holds all."""
_MAX_ADVERTISERS, _MAX_NAMED = 100, 8
_MIN_KNOWN = 10
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
_CURVES = (
    "Creatives stand in the order of urgency. Curves show the chance that a creative is still "
    "running, by days from today; the dashed line is where the policy looks."
)
_CENSORED = (
    "Rows that could not be followed to the end, because a campaign or the log ended before, are "
    "stood for by those that could."
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
    value: Value


def render_page(shown: PageInput) -> str:
    """The page as text; equal inputs give equal bytes."""
    policy = shown.policy
    counts = counts_of(shown.table)
    parts = [
        f"<h1>{escape(shown.title)}: creatives on {escape(shown.day)}</h1>",
        banner(*_MODES[policy.mode]),
        f"<p>{escape(summary(counts))}</p>",
        f"<p>{escape(_MEANING + _hold_out(policy.restraint.hold_out))}</p>",
        "<h2>By advertiser</h2>",
        _advertisers(shown.table),
        f"<p>{escape(_CURVES)}</p>",
        *(_section(shown, action) for action in _TITLES),
        f"<p>{counts['keep']:,} creatives are kept. All numbers of all creatives are in "
        "<code>decisions.parquet</code>.</p>",
        "<h2>From what probability on a cause counts</h2>",
        _listed(in_words(t, policy.causes[t.cause], policy.horizon) for t in shown.thresholds),
        f"<p>{escape(_CENSORED)}</p>",
        _genres(shown.value.genres),
        "<h2>What this policy would have done</h2>",
        _listed(shown.value.sentences),
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
    return (
        f"{share:.1%} of creatives, chosen by chance, are never stopped here: only they can show "
        "what a stop is worth."
    )


def _listed(sentences: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"


def _genres(genres: Mapping[str, Mapping[str, Rates]]) -> str:
    """How right thresholds are, by cause and genre."""
    rows = [
        [
            genre,
            spoken(cause),
            f"{rates.rows:,}",
            f"{rates.flagged:,}",
            *("-" if r is None else f"{r:.0%}" for r in (rates.precision, rates.recall)),
        ]
        for cause, by_genre in genres.items()
        for genre, rates in by_genre.items()
        if rates.known >= _MIN_KNOWN
    ]
    header = ["genre", "cause", "test rows", "reach it", "of these stopped", "of all stops found"]
    text = (
        f"<p>By genre, where {MIN_ROWS} test rows or more are at hand and {_MIN_KNOWN} that reach "
        "it can be judged. These are small numbers: mind chance.</p>"
    )
    return text + table(header, rows, words={1}) if rows else ""


def _advertisers(decisions: pa.Table) -> str:
    is_action = {
        action: pa.array(decisions["action"].to_numpy(zero_copy_only=False) == action).cast("int64")
        for action in ACTIONS
    }
    names = ("advertiser", "impressions", "clicks", "spend")
    columns = {name: decisions[name] for name in names} | is_action
    sums = [(name, "sum") for name in [*ACTIONS, *names[1:]]]
    grouped = pa.table(columns).group_by("advertiser", use_threads=False).aggregate(sums)
    by = [*((f"{action}_sum", "descending") for action in ACTIONS[:3]), ("advertiser", "ascending")]
    ordered, asked = grouped.sort_by(by), _asked(decisions)
    rows = [
        [
            str(row["advertiser"]),
            *(f"{row[f'{action}_sum']:,}" for action in ACTIONS),
            f"{row['impressions_sum']:,}",
            f"{row['clicks_sum']:,}",
            f"{row['spend_sum']:,.2f}",
            asked.get(row["advertiser"], ""),
        ]
        for row in ordered.slice(0, _MAX_ADVERTISERS).to_pylist()
    ]
    header = ["advertiser", "stop", "prepare", "watch", "keep", *names[1:], "to stop or replace"]
    more = ordered.num_rows - len(rows)
    listed = table(header, rows, words={len(header) - 1})
    return listed + (f"<p>{more:,} more.</p>" if more > 0 else "")


def _asked(decisions: pa.Table) -> dict[Any, str]:
    """Creatives that something is asked of, by advertiser, the most urgent first."""
    is_asked = pc.is_in(decisions["action"], pa.array(ACTIONS[:2]))
    columns = decisions.filter(is_asked).select(["advertiser", "creative"])
    grouped = columns.group_by("advertiser", use_threads=False).aggregate([("creative", "list")])
    return {
        row["advertiser"]: ", ".join(map(str, row["creative_list"][:_MAX_NAMED]))
        + (f" and {more:,} more" if (more := len(row["creative_list"]) - _MAX_NAMED) > 0 else "")
        for row in grouped.to_pylist()
    }


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
        ["impressions, clicks", f"{row['impressions']:,}, {row['clicks']:,}"],
        ["conversions, spend", f"{row['conversions']:,}, {row['spend']:,.2f}"],
        ["click rate, target", f"{_rate(row)}, {row['target_ctr']:.2%}"],
        ["chance that its rate is below the target", f"{row['evidence']:.0%}"],
        *(fact for t in shown.thresholds for fact in _cause_facts(shown, row, t.cause)),
    ]
    where = f"Advertiser {row['advertiser']}, campaign {row['campaign']}, {row['genre']}"
    return (
        f"<h3>{row['rank']:,}. {escape(str(row['creative']))}</h3>"
        f"<p>{escape(where)}</p><p>{escape(_capital(row['why']))}</p>"
        f'<div class="figure">{curve}</div>{table(["what", "value"], facts)}'
    )


def _rate(row: Row) -> str:
    return f"{row['clicks'] / row['impressions']:.2%}" if row["impressions"] else "-"


def _cause_facts(shown: PageInput, row: Row, cause: str) -> list[list[str]]:
    """Chance of a stop by one cause, and how many days in a row it has counted."""
    policy = shown.policy
    probability = np.array(row[cause_column(shown.label, cause, policy.horizon)])
    chance = str(percents(probability))
    bound = bound_in_words(row[f"{cause}__threshold"])
    facts = [[f"{spoken(cause)} within {policy.horizon} days", f"{chance}, {bound}"]]
    likely, met = row[likely_column(cause)], row[met_column(cause)]
    if likely and policy.causes[cause].replace_first:
        needed = f"{likely:,}, a replacement needs {policy.restraint.hysteresis_days:,}"
        facts.append(["... and days in a row on which it counted", needed])
    if met:
        needed = f"{met:,}, a stop needs {policy.days_needed(cause):,}"
        facts.append(["... and days in a row with clicks against it as well", needed])
    return facts


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
