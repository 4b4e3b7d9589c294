import numpy as np
import pytest

from recsys_mtl.metrics.survival.outcomes import Outcomes

TIME, EVENT = np.array([1, 2, 3]), np.array([True, False, True])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"event": np.array([1, 0, 1])}, "event has type int64; expected bool"),
        ({"time": np.array([1, 2])}, r"time has shape \(2,\), event \(3,\)"),
        ({"time": np.array([1, np.nan, 3])}, "time has values that are not finite"),
        ({"time": np.array([1, 2, 3], np.uint8)}, "time has type uint8; expected signed"),
        ({"entry": np.array([0, 3, 4])}, "2 rows enter after they exit"),
        ({"weight": np.array([1.0, -1.0, 1.0])}, "weight has negative values"),
        ({"weight": np.array([1.0, np.inf, 1.0])}, "weight has values that are not finite"),
    ],
)
def test_impossible_outcomes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Outcomes(**{"time": TIME, "event": EVENT, **change})


@pytest.mark.parametrize(
    ("time", "message"),
    [
        (np.array([1.0, 2.0, 3.0]), "time has type float64; expected interval numbers"),
        (np.array([-1, 2, 3]), "time spans intervals -1 to 3; expected 0 to 3"),
        (np.array([1, 2, 4]), "time spans intervals 1 to 4; expected 0 to 3"),
    ],
)
def test_buckets_are_numbers_in_range(time, message):
    with pytest.raises(ValueError, match=message):
        Outcomes(time, EVENT).check_buckets(4)
    Outcomes(TIME, EVENT, entry=np.zeros(3, int)).check_buckets(4)


def test_take_keeps_columns_together():
    full = Outcomes(TIME, EVENT, TIME - 1, TIME / 2)
    part = full.take(np.array([True, False, True]))
    assert part.time.tolist() == [1, 3]
    assert part.entry.tolist() == [0, 2]
    assert part.weight.tolist() == [0.5, 1.5]
    assert part.event.all()


def test_masses_are_whole_numbers_without_weights():
    assert Outcomes(TIME, EVENT).masses().dtype == np.int64
    assert Outcomes(TIME, EVENT, weight=TIME).masses().tolist() == [1.0, 2.0, 3.0]
