import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl.ingest.moments import Sums, sums_of

FLOATS = st.floats(-1e150, 1e150).filter(lambda x: x == 0 or abs(x) > 1e-140)


def test_moments_of_three_numbers():
    assert sums_of(np.array([1.0, 4.0, np.nan, 1.0])).moments() == (2.0, math.sqrt(2))


@given(st.lists(FLOATS, max_size=40))
def test_sums_are_exact(values):
    sums = sums_of(np.array(values, np.float64))
    assert Fraction(sums.total, 2**1074) == sum(map(Fraction, values))
    assert Fraction(sums.squares, 2**1074) == sum(Fraction(v) ** 2 for v in values)
    assert sums.count == len(values)


def test_many_chunks_equal_one_exact_sum():
    """1.2 million values over 30 orders of magnitude, against the exact sum of the library."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=1_200_000) * 10.0 ** rng.integers(-15, 15, 1_200_000)
    assert float(Fraction(sums_of(values).total, 2**1074)) == math.fsum(values)


@given(st.lists(FLOATS, min_size=1, max_size=30), st.integers(0, 30))
def test_merging_is_exact_in_any_split(values, cut):
    array = np.array(values)
    parts = [sums_of(array[:cut]), sums_of(array[cut:])]
    assert parts[1] + parts[0] == sums_of(array) == sum(parts, Sums())


@pytest.mark.parametrize("offset", [0.0, 1e6, 1e9, 1e12])
def test_spread_survives_a_large_mean(offset):
    """Rounded sums of squares would lose all digits of the variance at 1e9."""
    values = offset + np.arange(1001.0)
    mean, std = sums_of(values).moments()
    assert mean == offset + 500
    assert std == pytest.approx(math.sqrt((1001**2 - 1) / 12), rel=1e-15)


def test_a_constant_has_spread_zero():
    assert sums_of(np.full(7, 0.1)).moments() == (0.1, 0.0)
