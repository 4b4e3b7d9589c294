"""Documentation that cannot rot: generated parts, commands, options and links."""

import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml

from docs import generate
from recsys_mtl.cli.main import app
from recsys_mtl.spec.load import load_pipeline
from recsys_mtl.spec.options_page import anchor
from recsys_mtl.spec.policy_file import load_policy

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
DEMO = ROOT / "pipelines" / "short_video.yaml"
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)


def code_of(text: str) -> Iterator[str]:
    """Lines of code blocks, and inline code."""
    for _, _, block in _FENCE.findall(text):
        yield from block.replace("\\\n", " ").splitlines()
    yield from re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))


def snippets(pattern: str) -> list[tuple[str, str]]:
    """(page, code) of all code that holds a pattern, each once."""
    found = [
        (str(page.relative_to(ROOT)), code.strip())
        for page in PAGES
        for code in code_of(page.read_text())
        if re.search(pattern, code)
    ]
    return list(dict.fromkeys(found))


COMMANDS = snippets(r"(^|/)recsys-mtl \w")
OVERRIDES = snippets(r"--set \w+\.")
_YAML = [
    (str(page.relative_to(ROOT)), block)
    for page in PAGES
    for _, language, block in _FENCE.findall(page.read_text())
    if language == "yaml"
]
POLICIES = [(page, block) for page, block in _YAML if "policy_version" in block]
BLOCKS = [found for found in _YAML if found not in POLICIES]


def words(command: str) -> list[str]:
    return shlex.split(command, comments=True)


def parse(args: list[str]) -> None:
    """Raise what the command line would, without running the verb."""
    command, name = typer.main.get_command(app), "recsys-mtl"
    while hasattr(command, "commands"):
        name, *args = args
        assert name in command.commands, f"no verb {name!r}; there are {sorted(command.commands)}"
        command = command.commands[name]
    command.make_context(name, args)


def flags(args: list[str]) -> list[str]:
    return [value for flag, value in zip(args, args[1:], strict=False) if flag == "--set"]


def leaves(value: object, path: str = "") -> Iterator[str]:
    """A block of YAML as overrides."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}".lstrip("."))
    else:
        yield f"{path}={json.dumps(value)}"


def headings(text: str) -> set[str]:
    prose = _FENCE.sub("", text)
    return {anchor(title.replace("`", "")) for title in re.findall(r"^#+ (.+)$", prose, re.M)}


def test_generated_parts_are_up_to_date() -> None:
    stale = [
        str(path.relative_to(ROOT))
        for path, text in generate.generated_pages().items()
        if path.read_text() != text
    ]
    assert not stale, f"run `.venv/bin/python -m docs.generate`; stale: {stale}"


def test_there_is_something_to_check() -> None:
    assert len(COMMANDS) > 10
    assert len(OVERRIDES) > 10
    assert len(BLOCKS) > 5
    assert POLICIES


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_parses(page: str, command: str) -> None:
    args = words(command)
    start = next(i for i, word in enumerate(args) if word.endswith("recsys-mtl"))
    parse(args[start + 1 :])


@pytest.mark.parametrize("args", [["runn"], ["run", "p.yaml", "--sett", "a=b"], ["run"]])
def test_a_wrong_command_is_noticed(args: list[str]) -> None:
    with pytest.raises(Exception, match=r"no verb|No such option|Missing parameter"):
        parse(args)


@pytest.mark.parametrize(("page", "code"), OVERRIDES)
def test_an_override_is_accepted_by_the_file(
    page: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_ROOT", "data")
    args = words(code)
    named = [ROOT / word for word in args if word.endswith(".yaml") and (ROOT / word).exists()]
    load_pipeline(named[0] if named else DEMO, flags(args))


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_a_block_of_yaml_is_accepted_by_the_file(page: str, block: str) -> None:
    wanted = yaml.safe_load(block)
    got = load_pipeline(DEMO, list(leaves(wanted))).pipeline.model_dump(mode="json")
    for leaf in leaves(wanted):
        path, _, value = leaf.partition("=")
        here = got
        for key in path.split("."):
            here = here[key]
        assert here == json.loads(value)


@pytest.mark.parametrize(("page", "block"), POLICIES)
def test_a_policy_is_accepted_for_the_shipped_label(page: str, block: str, tmp_path: Path) -> None:
    label = load_pipeline(ROOT / "pipelines" / "ad_creatives.yaml").layout.survival
    assert label is not None
    path = tmp_path / "policy.yaml"
    path.write_text(block)
    load_policy(path, label)


def test_modules_and_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page, code in snippets(r"^make [a-z-]+$"):
        assert code.split()[1] in targets, f"{page}: {code}"
    modules = snippets(r"\bpython -m \w")
    assert modules
    for page, code in modules:
        module = code.split(" -m ")[1].split()[0]
        assert importlib.util.find_spec(module), f"{page}: {code}"


def test_relative_links_resolve() -> None:
    broken = []
    for page in PAGES:
        prose = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text()))
        for link in re.findall(r"\]\(([^)\s]+)\)", prose):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, fragment = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            inside = target.is_relative_to(DOCS) or page.parent == ROOT
            if not target.is_file() or not inside:
                broken.append(f"{page.relative_to(ROOT)}: {link}")
            elif fragment and fragment not in headings(target.read_text()):
                broken.append(f"{page.relative_to(ROOT)}: {link}: no such heading")
    assert not broken, "\n".join(broken)


def test_every_page_is_in_the_navigation() -> None:
    def pages(entry: object) -> Iterator[str]:
        for inner in entry.values() if isinstance(entry, dict) else entry:
            yield from [inner] if isinstance(inner, str) else pages(inner)

    listed = list(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(listed) == sorted(str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md"))


def row(model: str, verdict: str, auc: float, regret: dict[str, float]) -> dict[str, object]:
    return {
        "model": model,
        "lr": 0.002,
        "seeds": [1, 2, 3],
        "auc": {"click": [auc, 0.001]},
        "gauc": {"click": auc - 0.1},
        "regret": regret,
        "mean_auc": auc,
        "gain": {"mean": 0.0, "low": -0.01, "high": 0.01, "sampling_se": 0.001},
        "verdict": verdict,
        "delta_m_percent": 1.5,
        "dense_params": 12_000,
        "macs_per_row": 34_000,
        "alarms": [[], ["collapse"], []],
    }


def test_a_table_holds_what_the_results_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "RESULTS", tmp_path)
    assert generate.quality("conflict").startswith("Not measured yet")
    rows = [
        row("mmoe", "base", 0.7, {"click": 0.0321}),
        row("home", "level", 0.71, {"click": 0.03}),
    ]
    record = {"machine": {"cores": 2}, "learning_rates": [0.0007, 0.002], "rows": rows}
    (tmp_path / "quality_conflict.json").write_text(json.dumps(record))
    text = generate.quality("conflict")
    assert "3 seeds, learning rates 0.0007, 0.002. Machine: cores 2." in text
    assert "| home | 0.7100 ± 0.0010 | 0.7100 |" in text
    assert "| home | 0.6100 |" in text
    assert "| mmoe | 0.0321 |" in text
    del rows[0]["regret"]["click"], rows[1]["regret"]["click"]
    (tmp_path / "quality_conflict.json").write_text(json.dumps(record))
    assert "Regret" not in generate.quality("conflict")


def test_survival_figures_show_their_spread_and_their_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "RESULTS", tmp_path)
    assert "python -m benchmarks.survival gbsg --data DIR` makes it" in generate.survival("gbsg")
    head = {"case": "gbsg: head", "value": 0.6842, "sd": 0.0053, "sampling_se": 0.0158}
    cox = {"case": "gbsg: Cox", "value": 0.1158, "sd": None, "sampling_se": None}
    rows = [{**head, "metric": "C"}, {**cox, "metric": "IBS"}]
    record = {"machine": {"cores": 2}, "rows": rows, "bars": []}
    (tmp_path / "survival_gbsg.json").write_text(json.dumps(record))
    text = generate.survival("gbsg")
    assert "| | C | IBS |" in text
    assert "| head | 0.684 ± 0.005 (s.e. 0.016) |  |" in text
    assert "| Cox |  | 0.116 |" in text


def test_speeds_stand_beside_their_ratio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "RESULTS", tmp_path)
    assert "Not measured yet" in generate.speed()
    of = {"metric": "rows/s", "unit": "rows/s"}
    rows = [
        {"case": "mmoe", "value": 4000.0, "spread": [3900.0, 4100.0], **of},
        {"case": "home", "value": 3000.0, "spread": [2900.0, 3100.0], **of},
    ]
    ratios = {"mmoe / mmoe": 1.0, "home / mmoe": 0.75}
    record = {"machine": {"cores": 2}, "rows": rows, "ratios": ratios}
    (tmp_path / "towers.json").write_text(json.dumps(record))
    assert "| home | 3,000 [2,900, 3,100] rows/s | 0.75 (home / mmoe) |" in generate.speed()


def test_a_case_that_is_compared_with_none_has_no_ratio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "RESULTS", tmp_path)
    row = {"case": "exact 1e7", "value": 4.123, "spread": [4.0, 12.3], "unit": "ms"}
    record = {"machine": {"cores": 2}, "rows": [row], "ratios": {}}
    (tmp_path / "loss.json").write_text(json.dumps(record))
    assert "| exact 1e7 | 4.1 [4.0, 12] ms | |" in generate.speed("loss")


def test_filling_keeps_what_is_around_and_can_be_repeated() -> None:
    page = "before\n\n<!-- generated: options model.head -->\nold\n<!-- end -->\n\nafter\n"
    once = generate.filled(page, DOCS / "index.md")
    assert once.startswith("before\n\n<!-- generated: options model.head -->\n\n| option |")
    assert "| `dropout` | number | `0.0` | >= 0, < 1 |" in once
    assert once.endswith("\n\n<!-- end -->\n\nafter\n")
    assert "old" not in once
    assert generate.filled(once, DOCS / "index.md") == once


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(ValueError, match="no generated part is called 'speeed'"):
        generate.filled("<!-- generated: speeed -->\n<!-- end -->\n", DOCS / "index.md")


def test_links_of_a_table_lead_to_the_options_page() -> None:
    page = "<!-- generated: options model.tower (mmoe) -->\n<!-- end -->\n"
    there = generate.filled(page, DOCS / "explanation" / "towers" / "mmoe.md")
    assert "](../../reference/pipeline-file.md#modeltowerrouting-mmoe)" in there
