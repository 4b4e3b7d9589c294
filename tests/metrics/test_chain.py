import numpy as np

from recsys_mtl.metrics.chain import chain_violations


def test_violations_by_hand():
    """Task 1 above its parent 0 in one row of four, task 2 above its parent 0 in three."""
    p = np.array([[0.5, 0.6, 0.7], [0.5, 0.5, 0.6], [0.5, 0.1, 0.9], [0.5, 0.0, 0.4]])
    assert chain_violations(p, (-1, 0, 0)).tolist() == [0, 0.25, 0.75]


def test_each_task_is_compared_with_its_own_parent():
    """The parent may stand behind its child, and a root is compared with nothing."""
    p = np.array([[0.2, 0.9, 0.1]])
    assert chain_violations(p, (2, -1, 1)).tolist() == [1, 0, 0]
    assert chain_violations(p, (-1, -1, -1)).tolist() == [0, 0, 0]


def test_a_product_never_violates():
    rng = np.random.default_rng(0)
    p = rng.random((1000, 4)).cumprod(axis=1)
    assert chain_violations(p, (-1, 0, 1, 2)).tolist() == [0, 0, 0, 0]


def test_without_rows_there_is_no_violation():
    assert chain_violations(np.empty((0, 2)), (-1, 0)).tolist() == [0, 0]
