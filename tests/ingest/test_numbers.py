import math

import numpy as np
import pytest

from recsys_mtl.errors import ConfigError
from recsys_mtl.ingest.numbers import apply_steps, bucket_ids, fitted_step
from recsys_mtl.spec.feature_spec import NumberFeature


def number(*steps: dict, **more) -> NumberFeature:
    values = {"kind": "number", "name": "x", "transform": list(steps)}
    return NumberFeature.model_validate(values | more)


def test_steps_act_in_order():
    values = np.array([-5.0, 3.0, 50.0, np.nan])
    steps = number({"clip": [0.0, 7.0]}, {"log1p": True}, {"zscore": [1.0, 2.0]}).transform
    expected = [-0.5, (math.log(4) - 1) / 2, (math.log(8) - 1) / 2, np.nan]
    np.testing.assert_allclose(apply_steps(steps, values), expected, rtol=1e-15)


def test_buckets_are_closed_on_the_left():
    feature = number({"bucketize": [1.0, 5.0]}, table="t")
    values = np.array([-9.0, 1.0, 4.999, 5.0, np.nan])
    assert bucket_ids(feature, values).tolist() == [2, 3, 3, 4, 0]


def test_a_number_is_fitted_once():
    assert fitted_step(number({"clip": [0.0, 1.0]}, {"zscore": "fit"})) == 1
    assert fitted_step(number({"zscore": [0.0, 1.0]})) is None
    with pytest.raises(ConfigError, match="feature 'x': `zscore: fit` stands twice"):
        fitted_step(number({"zscore": "fit"}, {"zscore": "fit"}))
