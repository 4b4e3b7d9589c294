"""`recsys-mtl spec`: check a feature spec before anything runs."""

from pathlib import Path
from typing import Annotated

import typer

from recsys_mtl.cli.options import AsJson
from recsys_mtl.cli.output import Result, conclude, table

app = typer.Typer(no_args_is_help=True, help="Check and show feature specs.")
SpecFile = Annotated[Path, typer.Argument(help="Feature spec, e.g. feature_specs/kuairand.yaml.")]


@app.command("check")
def check(spec: SpecFile, as_json: AsJson = False) -> None:
    """Check a feature spec; every problem is reported at its line.

    Example: recsys-mtl spec check feature_specs/short_video.yaml
    """
    conclude(as_json, lambda: _check(spec))


@app.command("show")
def show(spec: SpecFile, as_json: AsJson = False) -> None:
    """Show tables and inputs as the model will see them, with sizes.

    Example: recsys-mtl spec show feature_specs/short_video.yaml
    """
    conclude(as_json, lambda: _show(spec))


def _check(path: Path) -> Result:
    from recsys_mtl.spec.fingerprint import input_fp, spec_fp
    from recsys_mtl.spec.load import load_feature_spec

    spec = load_feature_spec(path)
    prints = {"spec_fp": spec_fp(spec), "input_fp": input_fp(spec)}
    shown = ", ".join(f"{k} {v[:12]}" for k, v in prints.items())
    return Result([f"{path}: no problems. {shown}"], prints)


def _show(path: Path) -> Result:
    from recsys_mtl.spec.load import load_feature_spec

    spec = load_feature_spec(path)
    rows = [
        [name, t.ids.kind, str(t.dim), f"{t.num_embeddings:,}", f"{t.num_embeddings * t.dim:,}"]
        for name, t in spec.tables.items()
    ]
    total = sum(t.num_embeddings * t.dim for t in spec.tables.values())
    lines = table(["table", "ids", "dim", "rows", "parameters"], rows)
    lines.append(f"{len(spec.features)} features, {len(spec.sequences)} sequences")
    return Result(lines, {"tables": len(spec.tables), "table_parameters": total})
