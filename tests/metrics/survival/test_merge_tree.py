import numpy as np
import pytest

from recsys_mtl.metrics.survival.merge_tree import lower_before


def by_value(values):
    """Positions by rising value, later first among equals."""
    return np.lexsort((-np.arange(len(values)), values))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 31, 64, 65, 200])
@pytest.mark.parametrize("levels", [2, 7, 1000])
@pytest.mark.parametrize("kind", [np.int64, np.float64])
def test_sums_equal_a_loop(size, levels, kind):
    rng = np.random.default_rng(size * levels)
    values = rng.integers(0, levels, size)
    weight = rng.integers(-3, 4, size).astype(kind)
    expected = [weight[:p][values[:p] < values[p]].sum() for p in range(size)]
    found = lower_before(by_value(values), weight)
    assert found.dtype == kind
    assert found.tolist() == expected


def test_sorted_values_count_everything_before_them():
    assert lower_before(np.arange(5), np.ones(5, np.int64)).tolist() == [0, 1, 2, 3, 4]
    assert lower_before(np.arange(5)[::-1], np.ones(5, np.int64)).tolist() == [0] * 5
