"""Equal for files that mean the same, different for files that do not."""

import random
from pathlib import Path

import pytest
import yaml

from recsys_mtl.spec.fingerprint import canonical, fingerprint, input_fp, spec_fp
from recsys_mtl.spec.load import load_feature_spec
from tests.spec.files import SPEC, edited


def load(tmp_path, text: str):
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    return load_feature_spec(path)


def shuffled(value, rng: random.Random):
    """The same value with the keys of every mapping in another order."""
    if isinstance(value, dict):
        keys = list(value)
        rng.shuffle(keys)
        return {k: shuffled(value[k], rng) for k in keys}
    return [shuffled(v, rng) for v in value] if isinstance(value, list) else value


def test_canonical_json_by_hand():
    assert canonical({"b": [1, 2.5], "a": "\u00e9"}) == '{"a":"\u00e9","b":[1,2.5]}'.encode()
    # printf '{"a":1}' | sha256sum
    assert fingerprint({"a": 1}).startswith("015abd7f5cc57a2d")


def test_infinity_has_no_fingerprint():
    with pytest.raises(ValueError, match="JSON"):
        fingerprint(float("inf"))


def test_comments_layout_key_order_and_written_defaults_do_not_count(tmp_path):
    spec = load(tmp_path, SPEC)
    plain = yaml.safe_load(SPEC)
    others = ["# a comment\n" + SPEC.replace("name: feed\n", "name: feed  # another\n")]
    others += [yaml.safe_dump(shuffled(plain, random.Random(i)), sort_keys=False) for i in range(5)]
    others.append(edited(SPEC, ("max_len: 4}", "max_len: 4, pooling: mean, side: context}")))
    others.append(edited(SPEC, ("[0, 99]", "[0.0, 99.0]"), ("2026-03-01", "'2026-03-01'")))
    assert {spec_fp(load(tmp_path, text)) for text in others} == {spec_fp(spec)}


SHIPPED = sorted((Path(__file__).resolve().parents[2] / "feature_specs").glob("*.yaml"))


@pytest.mark.parametrize(
    "text", [SPEC, *(p.read_text() for p in SHIPPED)], ids=["small", *(p.stem for p in SHIPPED)]
)
def test_a_dump_loads_as_the_same_object(tmp_path, text):
    spec = load(tmp_path, text)
    dumped = yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False)
    again = load(tmp_path, dumped)
    assert again == spec
    assert spec_fp(again) == spec_fp(spec)


@pytest.mark.parametrize(
    ("edit", "changes_input"),
    [
        (("dim: 4", "dim: 8"), True),
        (("seed: 17", "seed: 18"), True),
        (("max_len: 10", "max_len: 11"), True),
        (("parent: click", "parent: click, maturity: 1d"), True),
        (("test_from: 2026-03-02", "test_from: 2026-03-03"), False),
        (("split:", "quality: {max_null_rate: 0.5}\nsplit:"), False),
    ],
)
def test_what_changes_which_fingerprint(tmp_path, edit, changes_input):
    before, after = load(tmp_path, SPEC), load(tmp_path, edited(SPEC, edit))
    assert spec_fp(before) != spec_fp(after)
    assert (input_fp(before) != input_fp(after)) is changes_input


def test_the_order_of_features_counts(tmp_path):
    user, item = SPEC.splitlines()[17:19]
    swapped = edited(SPEC, (f"{user}\n{item}", f"{item}\n{user}"))
    assert input_fp(load(tmp_path, swapped)) != input_fp(load(tmp_path, SPEC))
