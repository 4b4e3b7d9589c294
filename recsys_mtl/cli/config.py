"""`recsys-mtl config`: what a pipeline file amounts to."""

from dataclasses import asdict
from pathlib import Path

import typer

from recsys_mtl.cli.options import AsJson, Overrides, PipelineFile
from recsys_mtl.cli.output import Result, conclude

app = typer.Typer(no_args_is_help=True, help="Show resolved configuration, and what can be set.")


@app.command("show")
def show(pipeline: PipelineFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Print the resolved pipeline as YAML, with what the environment and flags changed.

    Example: recsys-mtl config show pipelines/short_video.yaml --set training.epochs=1
    """
    conclude(as_json, lambda: _show(pipeline, overrides or []))


@app.command("options")
def options(as_json: AsJson = False) -> None:
    """Print every option of the pipeline file: type, default, bounds, meaning (Markdown).

    Example: recsys-mtl config options
    """
    conclude(as_json, _options)


def _show(path: Path, overrides: list[str]) -> Result:
    import yaml

    from recsys_mtl.spec.fingerprint import fingerprint
    from recsys_mtl.spec.load import load_pipeline

    loaded = load_pipeline(path, overrides)
    plain = loaded.pipeline.model_dump(mode="json")
    lines = yaml.safe_dump(plain, sort_keys=False).rstrip().splitlines()
    lines += [f"# {dotted}: from {origin}" for dotted, origin in loaded.origins.items()]
    lines.append(
        f"# config_fp {fingerprint(plain)[:12]}; the split is {_split(loaded.pipeline.split)}"
    )
    return Result(lines, {"pipeline": plain, "origins": loaded.origins})


def _options() -> Result:
    from recsys_mtl.spec.options_page import option_blocks, options_page

    blocks = [asdict(block) for block in option_blocks()]
    return Result(options_page().splitlines(), {"blocks": blocks})


def _split(relative: object) -> str:
    return "counted back from the interval's end" if relative else "the spec's"
