"""Did-you-mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl.spec.suggest import closest, did_you_mean

WORDS = ["dim", "ids", "name", "kind", "column", "table", "transform", "max_len"]


@pytest.mark.parametrize(
    ("word", "best"),
    [
        ("dims", "dim"),
        ("dmi", "dim"),
        ("id", "ids"),
        ("nmae", "name"),
        ("Table", "table"),
        ("collumn", "column"),
        ("transfrom", "transform"),
        ("transformation", "transform"),
        ("maxlen", "max_len"),
        ("pooling", None),
        ("x", None),
    ],
)
def test_the_closest_word(word, best):
    assert closest(word, WORDS) == best


def test_a_word_is_no_misspelling_of_itself():
    assert closest("dim", ["dim"]) is None


def test_the_hint_names_the_best_else_all_when_few_else_none():
    assert did_you_mean("dims", WORDS) == ", did you mean 'dim'?"
    assert did_you_mean("zzz", ["b", "a"]) == "; known: a, b"
    assert did_you_mean("zzz", [f"w{i}" for i in range(13)]) == ""
    assert did_you_mean("zzz", []) == ""


@given(st.sampled_from(["transform", "sequences", "bucketize"]), st.data())
def test_two_edits_of_a_long_word_find_it(word, data):
    for _ in range(2):
        i = data.draw(st.integers(0, len(word) - 1))
        word_or = data.draw(st.sampled_from(["drop", "q", "swap"]))
        if word_or == "drop":
            word = word[:i] + word[i + 1 :]
        elif word_or == "swap":
            word = word[:i] + word[i + 1 : i + 2] + word[i] + word[i + 2 :]
        else:
            word = word[:i] + "q" + word[i + 1 :]
    known = ["transform", "sequences", "bucketize"]
    assert word in known or closest(word, known) is not None
