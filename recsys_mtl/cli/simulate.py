"""`recsys-mtl simulate`: write raw logs of a world with known truth."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from recsys_mtl.cli.options import AsJson
from recsys_mtl.cli.output import Result, conclude


class WorldName(StrEnum):
    """Worlds that can be simulated."""

    short_video = "short_video"
    conflict = "conflict"
    ads = "ads"


def command(
    world: Annotated[WorldName, typer.Argument(help="Which world.")],
    out: Annotated[Path, typer.Option(help="Folder of the raw logs.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Size of the world, e.g. num_users=300.", metavar="KEY=VALUE"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write daily Parquet logs of a simulated product, as a real system would.

    Example: recsys-mtl simulate short_video --out demo
    """
    conclude(as_json, lambda: _simulate(world, out, overrides or []))


def _simulate(world: WorldName, out: Path, overrides: list[str]) -> Result:
    import yaml
    from pydantic import ValidationError

    from recsys_mtl.errors import ConfigError
    from recsys_mtl.simulate import ads, ads_world, conflict, short_video

    settings = {k: yaml.safe_load(v) for k, _, v in (item.partition("=") for item in overrides)}
    worlds = {"short_video": short_video, "conflict": conflict, "ads": ads_world}
    config_class = worlds[world.value].WorldConfig
    try:
        config = config_class.model_validate(settings)
    except ValidationError as error:
        known = ", ".join(config_class.model_fields)
        first = error.errors()[0]
        # A rule over several settings has no location; its message names the setting.
        where = "".join(f" {part}:" for part in first["loc"])
        raise ConfigError(
            f"--set{where or ':'} {first['msg']}; settings of {world.value}: {known}"
        ) from None
    rows = config.num_days * config.rows_per_day
    if isinstance(config, ads_world.WorldConfig):
        # A day with few deliveries has fewer rows.
        rows = ads.write_world(out, config)
    elif isinstance(config, conflict.WorldConfig):
        conflict.write_world(out, config)
    else:
        short_video.write_world(out, config)
    return Result(
        [f"Wrote {config.num_days} days of logs, {rows:,} impressions, to {out}/."],
        {"folder": str(out), "rows": rows, "days": config.num_days},
    )
