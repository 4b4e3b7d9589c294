"""The page: offline, in words, and with the numbers of the table."""

import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser

import pytest

from recsys_mtl.decisions import page as module
from recsys_mtl.decisions.curve import Curve, survival_curve
from recsys_mtl.decisions.decide import decide
from recsys_mtl.decisions.page import PageInput, counts_of, render_page, summary
from recsys_mtl.decisions.thresholds import Rates, Threshold
from recsys_mtl.decisions.value import Value
from tests.decisions.world import DAY, LABEL, THRESHOLDS, live, policy


def shown(table=None, rules=None, thresholds=THRESHOLDS):
    rules = rules or policy(keep_live=0, hysteresis_days=1)
    table = live([0.9, 0.1, 0.2], [0.05, 0.9, 0.1]) if table is None else table
    decided = decide(table, rules, LABEL, thresholds)
    rates = {"games": Rates(50, 20, 20, 0.75, 0.5), "food": Rates(50, 9, 9, 1.0, None)}
    value = Value({"cut_out": rates}, None, ["Played <back>."])
    return PageInput("ads", DAY.isoformat(), decided, rules, LABEL, thresholds, "4", value)


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.labels, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.links += [values[k] for k in ("src", "href") if k in values]
        if tag == "svg":
            self.labels.append(values["aria-label"])
        if tag not in {"meta"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        pass


def test_page_is_self_contained_and_every_curve_is_described():
    text = render_page(shown())
    reader = Reader()
    reader.feed(text)
    assert not reader.links and not reader.open
    assert len(reader.labels) == 3 and "90% after 1" in reader.labels[0]
    assert "<script" not in text and "url(" not in text


def test_what_happens_today_stands_in_words_and_numbers():
    text = render_page(shown())
    assert "Of 3 live creatives: stop 1, prepare a replacement for 1, watch 1, keep 0." in text
    assert "<h2>Stop</h2><h3>1. c0</h3>" in text
    for number in ("12.50", "9.2", "90%, counts from 80% on", "2,000, 10", "0.50%, 3.00%"):
        assert number in text
    assert "Operators stop 90% of such creatives for cut-out within 7 days" in text
    assert "Model version 4" in text


def test_what_the_label_means_is_said():
    text = render_page(shown(rules=policy(hold_out=0.05)))
    assert "not that stopping it helps" in text and "5.0% of creatives, chosen by chance" in text
    assert "Without a hold-out" in render_page(shown())


def test_shadow_mode_changes_the_banner_only():
    pages = [
        render_page(shown(rules=policy(mode, keep_live=0, hysteresis_days=1)))
        for mode in ("shadow", "act")
    ]
    bare = [re.sub(r'<div class="banner".*?</div>', "", page) for page in pages]
    assert bare[0] == bare[1] and pages[0] != pages[1]
    assert "Nothing below is in force" in pages[0] and "In force" in pages[1]


def test_a_cause_that_never_stops_is_said_in_words():
    never = Threshold("cut_out", None, False, Rates(12), best=0.4)
    text = render_page(shown(thresholds=[never, Threshold("wear_out", 0.8)]))
    assert "cut-out: nothing is stopped for it" in text and "the best is right in 40%" in text
    assert "90%, never counts" in text


def test_days_in_a_row_are_those_that_the_action_needs():
    """A replacement counts likely days, a stop those with clicks against the creative."""
    rules = policy(keep_live=0)
    tired = {"cut_out": [0.1], "wear_out": [0.9], "clicks": [90]}
    before = None
    for day in range(3):
        today = live(**tired, day=DAY + timedelta(days=day))
        before = decide(today, rules, LABEL, THRESHOLDS, before)
    page = replace(shown(rules=rules), table=before)
    text = render_page(page)
    assert before["action"].to_pylist() == ["prepare_replacement"]
    assert "on which it counted</td><td>3, a replacement needs 2" in text
    assert "with clicks against it" not in text
    assert "likely for 3 days in a row, so have a successor ready." in text
    bad = live([0.9], clicks=[10])
    text = render_page(replace(page, table=decide(bad, rules, LABEL, THRESHOLDS)))
    assert "with clicks against it as well</td><td>1, a stop needs 2" in text


def test_the_policy_is_judged_below_by_genre_and_in_words():
    text = render_page(shown())
    cells = '<td>games</td><td class="words">cut-out</td><td>50</td><td>20</td><td>75%</td>'
    assert cells in text and "<td>food</td>" not in text
    assert "<li>Played &lt;back&gt;.</li>" in text


def test_an_advertiser_finds_its_creatives_to_act_on():
    table = live([0.9] * 12, advertiser=["x"] * 11 + ["y"])
    text = render_page(shown(table, policy(keep_live=0, hysteresis_days=1, cap_per_advertiser=9)))
    (row,) = re.findall(r"<tr><td>x</td>.*?</tr>", text)
    assert row.endswith("c0, c1, c10, c2, c3, c4, c5, c6 and 1 more</td></tr>")
    assert '<td class="words">c11</td>' in text


def test_words_from_data_are_escaped():
    text = render_page(shown(live([0.9], creative=["<b>"], advertiser=["<i>"], genre=["<u>"])))
    assert not re.search(r"<[biu]>", text) and "&lt;b&gt;" in text


def test_advertisers_are_summed():
    table = live([0.9, 0.1, 0.2], advertiser=["x", "x", "y"])
    text = render_page(shown(table))
    assert "<td>x</td><td>1</td><td>0</td><td>1</td><td>0</td><td>4,000</td><td>20</td>" in text
    assert text.index("<td>x</td>") < text.index("<td>y</td>")


def test_long_lists_are_cut_and_counted(monkeypatch):
    monkeypatch.setattr(module, "MAX_SHOWN", 2)
    text = render_page(shown(live([0.9] * 5)))
    assert text.count("<svg") == 2 and "3 more, less urgent" in text


def test_summary_adds_up():
    decided = shown(live([0.9, 0.1], clicks=[10, 90])).table
    assert counts_of(decided) == {"stop": 1, "prepare_replacement": 0, "watch": 0, "keep": 1}
    assert summary(counts_of(decided)).startswith("Of 2 live creatives: stop 1,")


@pytest.mark.parametrize(("alive", "y"), [(1.0, "4.0"), (0.0, "74.0"), (0.5, "39.0")])
def test_a_curve_starts_alive_today_and_ends_where_it_should(alive, y):
    svg = survival_curve(Curve((0, 10), (1.0, alive)), "c", 7)
    points = re.search(r'points="([^"]*)"', svg).group(1).split()
    assert points == ["34.0,4.0", f"296.0,{y}"]
