"""S050: `${NAME}` of an allow-list."""

import pytest

from recsys_mtl.spec.load import load_pipeline
from tests.spec.files import PIPELINE, SPEC, edited, pipeline_lines, write


def test_allowed_names_are_replaced_within_text(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_ROOT", "/logs")
    text = edited(PIPELINE, ("root: demo", 'root: "${DATA_ROOT}/views"'))
    assert load_pipeline(write(tmp_path, SPEC, text)).pipeline.data.root == "/logs/views"


def test_an_unset_name_is_an_error_with_its_ways_out(tmp_path, monkeypatch):
    monkeypatch.delenv("DATA_ROOT", raising=False)
    text = edited(PIPELINE, ("root: demo", 'root: "${DATA_ROOT}"'))
    assert pipeline_lines(tmp_path, text) == [
        "pipe.yaml:5: data.root: environment variable DATA_ROOT is not set. "
        "Export DATA_ROOT, or pass --set data.root=PATH. [S050]"
    ]
    assert pipeline_lines(tmp_path, text, SPEC, "data.root=here") == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [("DATA_ROT", ", did you mean 'DATA_ROOT'?"), ("HOME", None), ("", None), ("A${B", None)],
)
def test_other_names_are_refused_even_when_set(tmp_path, monkeypatch, name, hint):
    monkeypatch.setenv("DATA_ROT", "x")
    lines = pipeline_lines(tmp_path, edited(PIPELINE, ("root: demo", f'root: "${{{name}}}"')))
    hint = hint or "; known: DATA_ROOT, RECSYS_HOME, SCORE_ROOT."
    assert lines == [f"pipe.yaml:5: data.root: ${{{name}}} is not allowed here{hint} [S050]"]


def test_a_value_from_the_environment_is_not_interpolated_again(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_ROOT", "${SCORE_ROOT}")
    text = edited(PIPELINE, ("root: demo", 'root: "${DATA_ROOT}"'))
    assert load_pipeline(write(tmp_path, SPEC, text)).pipeline.data.root == "${SCORE_ROOT}"
