import re
import typing
from pathlib import Path

from pydantic import BaseModel
from typer.testing import CliRunner

from recsys_mtl.cli.main import app
from recsys_mtl.spec.load import load_pipeline
from recsys_mtl.spec.options_page import anchor, option_blocks, options_page
from recsys_mtl.spec.parse import models_at
from recsys_mtl.spec.pipeline import Pipeline
from recsys_mtl.spec.policy_file import Policy

PIPELINE = Path(__file__).parents[2] / "pipelines" / "short_video.yaml"


def options_of(title):
    (block,) = [block for block in option_blocks() if block.title == title]
    return {option.name: option for option in block.options}


def classes_below(model, path):
    """(path, class) by the walk that the loader uses for did-you-mean."""
    for key in model.model_fields:
        for part in (key, f"{key}.NAME"):
            loc = tuple(part.split("."))
            for found in models_at(model, loc):
                yield ".".join((*path, *loc)), found
                yield from classes_below(found, (*path, *loc))


def test_a_row_says_type_default_bounds_and_meaning():
    experts = options_of("model.tower (mmoe)")["num_experts"]
    assert (experts.type, experts.default, experts.bounds, experts.description) == (
        "whole number",
        "`8`",
        ">= 1, <= 256",
        "experts shared by all tasks (K)",
    )
    page = options_page()
    row = "| `num_experts` | whole number | `8` | >= 1, <= 256 | experts shared by all tasks (K) |"
    assert row in page.splitlines()


def test_another_file_has_its_own_blocks_and_its_maps_of_any_text():
    blocks = {block.title: block.options for block in option_blocks(Policy)}
    assert list(blocks)[:2] == ["The file", "causes.NAME"]
    (genres,) = [o for o in blocks["evidence.target_ctr"] if o.name == "genres"]
    assert (genres.type, genres.default) == ("map of texts to: number", "`{}`")


def test_types_defaults_and_bounds_of_every_form():
    model, tower = options_of("model"), options_of("model.tower (mmoe)")
    data, gate, file = options_of("data"), options_of("gate"), options_of("The file")
    assert model["chain"].type == "`product`, `conditional`, `calibrated`, `independent`"
    assert model["task_groups"].type == "map of names to: list of: name"
    assert model["task_groups"].default == "`{}`"
    assert model["tower"].default == "`mmoe`"
    assert model["head"].default == "as there"
    assert tower["expert_hidden"].type == "list of: whole number"
    assert tower["expert_hidden"].bounds == "each > 0"
    assert tower["expert_hidden"].default == "`[]`"
    assert tower["routing"].type == "[model.tower.routing (mmoe)](#modeltowerrouting-mmoe)"
    assert tower["routing"].default == "absent"
    assert data["window"].type == "duration, as `7d`"
    assert gate["alpha"].bounds == "> 0, < 0.5"
    assert gate["margins"].default == "required"
    assert file["pipeline_version"].type == "`1`"
    assert options_of("gate.margins.NAME")["auc"].bounds == "> 0"
    assert options_of("model.tower (home)")["self_gate"].default == "`true`"


def test_every_class_of_the_file_has_its_block_with_every_field():
    blocks = option_blocks()
    rows = {
        (place.partition(" (")[0], option.name)
        for block in blocks
        for place in (block.title, *block.also)
        for option in block.options
    }
    expected = {("The file", name) for name in Pipeline.model_fields}
    for path, model in classes_below(Pipeline, ()):
        assert issubclass(model, BaseModel)
        expected |= {(path, name) for name in model.model_fields}
    assert len(expected) > 100
    assert rows == expected


def test_links_inside_the_page_lead_to_headings():
    page = options_page()
    headings = {anchor(title) for title in re.findall(r"^## (.+)$", page, re.MULTILINE)}
    assert len(headings) == page.count("\n## ")
    links = set(re.findall(r"\]\(#([^)]+)\)", page))
    assert "modeltower-home" in links
    assert links <= headings


def test_nothing_of_the_page_is_lost_as_a_tag():
    """Outside code, Markdown would take <name> for a tag of HTML."""
    prose = re.sub(r"`[^`]*`", "", options_page())
    assert not re.findall(r"<[a-z]", prose)


def test_a_default_of_the_page_is_the_default_of_the_file():
    bare = load_pipeline(PIPELINE, ["model.tower.kind=ple"]).pipeline.model.tower
    options = options_of("model.tower (ple)")
    shown = {name: option.default.strip("`") for name, option in options.items()}
    dumped = typing.cast(dict, bare.model_dump(mode="json"))
    assert shown == {name: str(value) for name, value in dumped.items()}


def test_the_command_prints_the_page():
    done = CliRunner().invoke(app, ["config", "options"])
    assert done.exit_code == 0
    assert done.stdout == options_page()
