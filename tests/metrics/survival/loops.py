"""Definitions written as loops over pairs and days, and random outcomes full of ties."""

from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

from recsys_mtl.metrics.survival.outcomes import Outcomes


def outlives(o, j, i):
    later = o.time[j] > o.time[i] or (o.time[j] == o.time[i] and not o.event[j])
    return later and (o.entry is None or o.entry[j] <= o.time[i])


def loop_counts(risk_at, o, event_weight=None):
    """(concordant, discordant, tied, pairs); `risk_at(row, stopped)` at the stop's time."""
    weight = np.ones(len(o)) if o.weight is None else o.weight
    sums = {1: 0.0, -1: 0.0, 0: 0.0}
    pairs = 0
    for i in np.flatnonzero(o.event):
        factor = weight[i] * (1 if event_weight is None else event_weight[i])
        for j in range(len(o)):
            if outlives(o, j, i):
                order = int(np.sign(risk_at(i, i) - risk_at(j, i)))
                sums[order] += factor * weight[j]
                pairs += bool(factor * weight[j])
    return sums[1], sums[-1], sums[0], pairs


def numbers(counts):
    return counts.concordant, counts.discordant, counts.tied, counts.pairs


def day_loop_survival(o, event):
    """Kaplan-Meier of the given events at each day from 0 on, in fractions."""
    alive, curve = Fraction(1), []
    for day in range(int(o.time.max()) + 1):
        entry = np.zeros(len(o)) if o.entry is None else o.entry
        at_risk = sum(1 for i in range(len(o)) if entry[i] <= day <= o.time[i])
        stops = sum(1 for i in range(len(o)) if o.time[i] == day and event[i])
        if stops:
            alive *= 1 - Fraction(stops, at_risk)
        curve.append(alive)
    return curve


@st.composite
def tied_outcomes(draw, max_time=4, min_size=0, late_entry=True, weighted=True):
    rows = draw(st.integers(min_size, 24))

    def column(values):
        return np.array(draw(st.lists(values, min_size=rows, max_size=rows)))

    time = column(st.integers(0, max_time)).astype(np.int64)
    event = column(st.booleans()).astype(bool)
    entry = weight = None
    if late_entry and draw(st.booleans()):
        entry = np.minimum(column(st.integers(0, max_time)).astype(np.int64), time)
    if weighted and draw(st.booleans()):
        weight = column(st.sampled_from([0.0, 0.5, 1.0, 3.0])).astype(float)
    return Outcomes(time, event, entry, weight)


@st.composite
def tied_risks(draw, max_time=4, levels=4, **kinds):
    """Outcomes, and risks in [0, 1] on a grid of `levels`."""
    o = draw(tied_outcomes(max_time, **kinds))
    risk = draw(st.lists(st.integers(0, levels - 1), min_size=len(o), max_size=len(o)))
    return np.array(risk, float) / levels, o
