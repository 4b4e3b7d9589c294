"""The section on experts shows the numbers of experts.json, and what they mean."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from recsys_mtl.reports.experts import experts_section, heat_map
from recsys_mtl.reports.html import render_report

from .test_html import REPORT, Reader


def expert(name, load=0.5, occupancy=0.6, layer="1"):
    figures = {"zero_share": 0.91, "dead_share": 0.12, "rms": 1.5, "load": load}
    return {"layer": layer, "expert": name, "occupancy": occupancy, **figures}


def gate(reader, weights, layer="1"):
    return {"layer": layer, "reader": reader, "effective": weights}


ALARM = {
    "kind": "degradation",
    "level": "alarm",
    "layer": "1",
    "sentence": "95% of the weight of shared/0 comes from click <b>.",
    "intervention": "weight of shared/0 taken away",
    "verdict": "confirmed",
}
WARNING = {**ALARM, "level": "warn", "intervention": "", "verdict": "not tested"}
EXPERTS = {
    "rows": 20000,
    "experts": [
        expert("click/0", 0.25, None),
        expert("shared/0", 0.70),
        expert("like/0", 0.1, None),
        expert("shared/0", layer="2"),
    ],
    "gates": [
        gate("click", {"click/0": 0.25, "shared/0": 0.75}),
        gate("like", {"like/0": 0.40, "shared/0": 0.60}),
        gate("click", {"shared/0": 1.0}, layer="2"),
    ],
    "alarms": [WARNING, ALARM],
}


def parts(svg, tag):
    return [e for e in ElementTree.fromstring(svg).iter() if e.tag == tag]


def test_heat_map_has_a_cell_for_every_gate_and_expert():
    svg = heat_map("1", EXPERTS["gates"][:2])
    texts = [e.text for e in parts(svg, "text")]
    assert texts[:5] == ["click/0", "shared/0", "like/0", "click", "like"]
    assert texts[5:] == ["0.25", "0.75", "0.60", "0.40"]
    fills = [e.get("fill") for e in parts(svg, "rect")]
    # White to #0072b2; the slot that a gate does not have is grey.
    assert fills == ["#bfdcec", "#4095c5", "#e4e4e4", "#e4e4e4", "#66aad1", "#99c7e0"]


def test_cells_stand_in_the_row_of_their_gate_and_the_column_of_their_expert():
    boxes = parts(heat_map("1", EXPERTS["gates"][:2]), "rect")
    rows = [float(b.get("y")) for b in boxes]
    columns = [float(b.get("x")) for b in boxes]
    assert rows[:3] == [rows[0]] * 3 and rows[3] > rows[0]
    assert columns[:3] == columns[3:] == sorted(columns[:3])


def test_weight_above_one_is_as_dark_as_it_gets():
    svg = heat_map("2", [gate("a", {"a/0": 1.3, "shared/0": 1.0})])
    assert [e.get("fill") for e in parts(svg, "rect")] == ["#0072b2", "#0072b2"]
    assert "1.30" in svg


def test_every_layer_has_its_map_and_one_sentence_of_meaning():
    page = experts_section(EXPERTS)
    assert page.count("<svg") == 2 and page.count("Each row shows") == 2
    assert "shared/0 counts most (mean weight 0.70), like/0 least (0.10)" in page
    assert "On 20,000 rows of the holdout." in page
    assert (
        "<td>shared/0</td><td>0.91</td><td>0.12</td><td>1.50</td><td>0.70</td><td>0.60</td>" in page
    )
    assert "<td>click/0</td><td>0.91</td><td>0.12</td><td>1.50</td><td>0.25</td><td>-</td>" in page


def test_alarms_come_first_with_their_test():
    page = experts_section(EXPERTS)
    assert re.search(r"alarm</td>.*weight of shared/0 taken away: confirmed.*warn</td>", page)
    assert "comes from click &lt;b&gt;." in page and "not tested" in page


@pytest.mark.parametrize("verdict", ["confirmed", "not confirmed", "needs retraining"])
def test_every_verdict_has_words(verdict):
    page = experts_section({**EXPERTS, "alarms": [{**ALARM, "verdict": verdict}]})
    assert "taken away: " in page


def test_healthy_tower_is_said_to_be_healthy():
    assert "no threshold is passed" in experts_section({**EXPERTS, "alarms": []})


def test_page_has_the_section_only_for_towers_with_gates():
    with_experts = render_report(replace(REPORT, experts=EXPERTS))
    assert "<h2>Experts</h2>" in with_experts and "<h2>Experts</h2>" not in render_report(REPORT)
    reader = Reader()
    reader.feed(with_experts)
    assert len(reader.labels) == 4 and all(reader.labels)
