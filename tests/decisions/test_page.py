"""The page: offline, in words, and with the numbers of the table."""

import re
from html.parser import HTMLParser

import pytest

from recsys_mtl.decisions import page as module
from recsys_mtl.decisions.curve import Curve, survival_curve
from recsys_mtl.decisions.decide import decide
from recsys_mtl.decisions.page import PageInput, counts_of, render_page, summary
from recsys_mtl.decisions.thresholds import Threshold
from tests.decisions.world import DAY, LABEL, THRESHOLDS, live, policy


def shown(table=None, rules=None, thresholds=THRESHOLDS):
    rules = rules or policy(keep_live=0, hysteresis_days=1)
    table = live([0.9, 0.1, 0.2], [0.05, 0.9, 0.1]) if table is None else table
    decided = decide(table, rules, LABEL, thresholds)
    return PageInput("ads", DAY.isoformat(), decided, rules, LABEL, thresholds, "4")


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
    for number in ("12.50", "9.2", "0.900", "threshold 0.800", "2,000", "3.00%"):
        assert number in text
    assert "Operators stop such a creative for cut-out" in text
    assert "Model version 4" in text


def test_what_the_label_means_is_said():
    text = render_page(shown(rules=policy(hold_out=0.05)))
    assert "not that stopping it helps" in text and "5.0% of creatives" in text
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
    thresholds = [Threshold("cut_out", None, rows=12, best=0.4), Threshold("wear_out", 0.8)]
    text = render_page(shown(thresholds=thresholds))
    assert "cut-out: nothing is stopped for it" in text and "the best reaches 40%" in text


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
