"""The report is one offline page whose numbers are those of the artifacts."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from recsys_mtl.reports.html import ReportInput, render_report

ESTIMATE = {"value": 0.75, "se": 0.01, "n": 1200, "n_pos": 300, "n_clusters": 400}
DECISION = {
    "verdict": "HOLD",
    "reasons": ["HOLD: click AUC -0.0011 <b>, needs about 9,000 more users"],
    "notes": ["an equal model passes with probability 0.42"],
    "checks": [
        {"class": "guardrail", "outcome": "HOLD", "sentence": "click AUC -0.0011", "numbers": {}}
    ],
}
REPORT = ReportInput(
    title="short_video",
    window="2026-03-09 to 2026-03-10",
    metrics={"click": {"auc": ESTIMATE, "ne": {"value": None, "se": None, "reason": "one class"}}},
    slices={"topic": {"topic-1+": {"click": {"auc": ESTIMATE}}}},
    calibration={"click": [{"mean_prob": 0.2, "rate": 0.25, "low": 0.2, "high": 0.3}]},
    decision=DECISION,
    history={"train": {"click": [[0, 0.7], [10, 0.6]]}, "valid": {"click": [[10, 0.65]]}},
    lineage={"spec_fp": "abc"},
    command="recsys-mtl run pipelines/short_video.yaml",
)


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.links, self.labels = [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.links += [values[k] for k in ("src", "href", "xlink:href") if k in values]
        if tag == "svg":
            self.labels.append(values.get("aria-label", ""))
        if tag not in {"meta", "path", "use", "line", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()


def test_a_child_above_its_parent_is_told():
    page = render_report(replace(REPORT, above_parent={"buy": 0.0123}))
    assert "buy is predicted above its parent on 1.23% of rows." in page
    assert "above its parent" not in render_report(REPORT)


def test_page_is_self_contained_and_every_figure_is_described():
    page = render_report(REPORT)
    reader = Reader()
    reader.feed(page)
    assert all(link.startswith("#") for link in reader.links)
    assert len(reader.labels) == 2 and all(reader.labels)
    assert "<script" not in page and len(page) < 1_500_000
    assert not re.search(r"url\((?!#)", page)


def test_numbers_and_interval_are_those_of_the_estimate():
    page = render_report(REPORT)
    assert "0.7500 [0.7304, 0.7696]" in page
    assert "one class" in page and "1,200" in page and "HOLD" in page


def test_words_from_data_are_escaped():
    page = render_report(REPORT)
    assert "-0.0011 &lt;b&gt;, needs" in page


def test_equal_inputs_give_equal_bytes():
    assert render_report(REPORT) == render_report(REPORT)


@pytest.mark.parametrize("change", [{"title": "other"}, {"lineage": {"spec_fp": "abd"}}])
def test_page_depends_on_its_input(change):
    assert render_report(replace(REPORT, **change)) != render_report(REPORT)


def test_page_without_a_decision_says_so():
    assert "has not looked" in render_report(replace(REPORT, decision=None))


def test_oracle_table_appears_only_in_simulated_worlds():
    truth = {"oracle_auc": 0.8, "expected_auc": 0.79, "regret": 0.01, "calibration": 1.02}
    assert "Against the oracle" in render_report(replace(REPORT, oracle={"click": truth}))
    assert "Against the oracle" not in render_report(REPORT)


def test_warnings_of_the_files_stand_below_the_verdict():
    text = "pipe.yaml:9: model.bottom.kind: only its <refinement> is used. [P022]"
    page = render_report(replace(REPORT, warnings=(text,)))
    assert "Warning: pipe.yaml:9: model.bottom.kind: only its &lt;refinement&gt; is used." in page
    assert "Warning:" not in render_report(REPORT)
