import json

from benchmarks import results

FOUND = {"ours 1e4": [2.0, 4.0, 3.0], "theirs 1e4": [6.0, 4.0, 30.0], "alone": [1.0, 1.0, 1.0]}


def test_ratios_are_taken_within_a_round():
    """6/2, 4/4, 30/3: the median is 3; of the medians it would be 2."""
    rows, ratios = results.show("ms", FOUND, {"theirs 1e4": "ours 1e4"})
    assert ratios == {"theirs 1e4 / ours 1e4": 3.0}
    assert [row["value"] for row in rows] == [3.0, 6.0, 1.0]
    assert rows[1]["spread"] == [4.0, 30.0]


def test_one_base_is_that_of_all_cases():
    _, ratios = results.show("ms", FOUND, "alone")
    assert ratios == {"ours 1e4 / alone": 3.0, "theirs 1e4 / alone": 6.0, "alone / alone": 1.0}


def test_a_file_holds_what_was_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    results.report("loss", "ms", FOUND, "alone", is_kept=False)
    assert "theirs 1e4 / alone" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    results.report("loss", "ms", FOUND, "alone", is_kept=True)
    record = json.loads((tmp_path / "loss.json").read_text())
    assert "theirs 1e4 / alone" in capsys.readouterr().out
    assert (record["rows"], record["ratios"]) == results.show("ms", FOUND, "alone")
    assert record["machine"]["torch"]


def test_rounds_are_interleaved():
    calls = []

    def of(name, seconds):
        return lambda: calls.append(name) or seconds

    found = results.interleaved({"a": of("a", 1.0), "b": of("b", 2.0)}, 2)
    assert found == {"a": [1.0, 1.0], "b": [2.0, 2.0]}
    assert calls == ["a", "b", "a", "b"]
