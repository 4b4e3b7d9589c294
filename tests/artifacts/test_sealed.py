import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl.artifacts.sealed import seal, unseal
from recsys_mtl.errors import IntegrityError

HERE = Path("MANIFEST.json")
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def test_a_record_carries_the_sha256_of_its_canonical_form():
    digest = hashlib.sha256(b'{"a":[1,2.5],"b":null}').hexdigest()
    assert seal({"b": None, "a": [1, 2.5]}) == (
        b'{"a":[1,2.5],"b":null,"sha256":"' + digest.encode() + b'"}\n'
    )


def test_a_number_that_is_not_finite_is_not_sealed():
    with pytest.raises(ValueError):
        seal({"auc": float("nan")})


@given(st.dictionaries(st.text().filter(lambda key: key != "sha256"), values))
def test_unseal_gives_back_what_was_sealed(record):
    assert unseal(seal(record), HERE) == record


@given(st.binary(max_size=60))
def test_unseal_refuses_bytes_that_seal_did_not_write(data):
    with pytest.raises(IntegrityError, match=r"MANIFEST\.json: the record does not match"):
        unseal(data, HERE)


def test_unseal_refuses_an_edited_value_and_a_reformatted_record():
    data = seal({"rows": 10})
    for changed in (data.replace(b"10", b"11"), data.replace(b":", b": "), data + b"\n"):
        with pytest.raises(IntegrityError):
            unseal(changed, HERE)
