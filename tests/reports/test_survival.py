"""The section on the survival label shows the numbers of survival.json, and what they mean."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from recsys_mtl.evaluation.survival_measures import measure_survival
from recsys_mtl.reports.html import render_report
from recsys_mtl.reports.survival import interval, survival_section
from recsys_mtl.reports.survival_charts import bins_chart, ratio_chart
from tests.evaluation.survival_world import hazards, measured, rows_of, simulate

from .test_html import REPORT, Reader


@pytest.fixture(scope="module")
def survival():
    outcome, quality, creative, day = simulate(600, seed=1)
    hazard = hazards(quality)
    rows = rows_of(outcome, hazard, creative, day)
    report = measure_survival(measured(rows, hazard, simulate(300, seed=2, first=0, end=40)[0]))
    return report | {"label": "stop <b>"}


def elements(svg, tag):
    return [e for e in ElementTree.fromstring(svg).iter() if e.tag == tag]


def test_the_section_is_part_of_the_page_and_reaches_for_nothing(survival):
    page = render_report(replace(REPORT, survival=survival))
    reader = Reader()
    reader.feed(page)
    assert reader.open == [] and all(link.startswith("#") for link in reader.links)
    assert len(reader.labels) == 4 and all(reader.labels)
    assert "Survival: stop &lt;b&gt;" in page and "stop <b>" not in page
    assert "Survival" not in render_report(REPORT)
    assert page == render_report(replace(REPORT, survival=survival))


def test_every_figure_is_shown_with_its_interval(survival):
    section = survival_section(survival)
    for subset in survival["subsets"].values():
        for kinds in subset["c"].values():
            for estimate in kinds.values():
                assert interval(estimate, 3, 0, 1) in section
    for scores in survival["brier"]["horizons"].values():
        assert interval(scores["model"], 4) in section
        assert interval(scores["kaplan_meier"], 4) in section
    ratio = survival["subsets"]["all"]["observed_over_expected"]
    assert f"observed over expected {interval(ratio, 2, low=0)}. 1.2 means" in section
    cell = survival["observed_over_expected"][0]
    assert f"<td>{cell['ratio']:.2f} [{cell['low']:.2f}, {cell['high']:.2f}]</td>" in section
    week = survival["calibration"]["all"]["7"]
    assert f"{week['predicted']:.3f}</td><td>{week['observed']:.3f} (s.e." in section
    assert "genre a" in section and "all, wear_out" in section


def test_what_is_undefined_says_why(survival):
    top = survival_section(survival).split("top quarter of sales, short")[1].split("</tr>")[0]
    assert top.count("no observed row") == 3


def test_intervals_are_wider_with_few_clusters_and_stay_in_bounds():
    many = {"value": 0.9, "se": 0.05, "n_clusters": 1000}
    assert interval(many) == "0.900 [0.802, 0.998]"
    assert interval({**many, "n_clusters": 3}) == "0.900 [0.685, 1.115]"
    assert interval({**many, "n_clusters": 3}, 2, 0, 1) == "0.90 [0.68, 1.00]"
    assert interval({**many, "se": None}) == "0.900"
    assert interval({"value": None, "se": None, "reason": "no stop"}) == "no stop"


def test_ratios_stand_on_a_log_scale_around_one():
    cells = [
        ("half", {"ratio": 0.5, "low": 0.25, "high": 1.0}),
        ("double", {"ratio": 2.0, "low": 1.0, "high": 4.0}),
        ("far & off", {"ratio": 90.0, "low": 0.0, "high": 900.0}),
    ]
    svg = ratio_chart(cells)
    half, double, far = (float(c.get("cx")) for c in elements(svg, "circle"))
    one = (half + double) / 2
    assert double - one == pytest.approx(one - half)
    lines = elements(svg, "line")[-3:]
    assert float(lines[0].get("x2")) == pytest.approx(one)
    assert far == float(lines[2].get("x2")) == one + 2 * (double - one)
    assert "far &amp; off 90.00" in svg


def test_bars_are_shares_and_the_line_is_where_they_would_be_even():
    svg = bins_chart([0.1, 0.3, 0.2, 0.4])
    heights = [float(r.get("height")) for r in elements(svg, "rect")]
    assert [h / heights[0] for h in heights] == pytest.approx([1, 3, 2, 4])
    (line,) = elements(svg, "line")
    assert 120 - float(line.get("y1")) == pytest.approx(2.5 * heights[0])
