"""The models that are compared, as overrides of a pipeline file, and the worlds."""

from dataclasses import dataclass
from pathlib import Path

PIPELINES = Path(__file__).parents[2] / "pipelines"
LEARNING_RATES = (0.0007, 0.002, 0.006)
"""Of the dense part; each model is tuned over all of them on one seed."""
STARRED = "model.tower.expert_style=bn_silu"
SINGLE_TASK = "single_task"
BASE = "mmoe"

_MMOE = ("model.tower.kind=mmoe", "model.tower.num_experts=8", "model.tower.expert_hidden=[]")
_PLE = ("model.tower.kind=ple",)
_HOME = ("model.tower.kind=home",)
CONTENDERS: dict[str, tuple[str, ...]] = {
    SINGLE_TASK: ("model.tower.kind=single_task", "model.chain=independent"),
    "shared_bottom": ("model.tower.kind=shared_bottom", "model.tower.hidden=[256]"),
    BASE: _MMOE,
    "mmoe*": (*_MMOE, STARRED),
    "ple": _PLE,
    "ple*": (*_PLE, STARRED),
    "home": _HOME,
    "dtrn+mmoe": (*_MMOE, "model.bottom.kind=dtrn"),
    "dtrn+home": (*_HOME, "model.bottom.kind=dtrn"),
    "apem": ("model.tower.kind=apem",),
}


@dataclass(frozen=True)
class World:
    """Data that models are compared on."""

    pipeline: Path
    common: tuple[str, ...] = ()
    """Overrides of every model."""


WORLDS = {
    "kuairand": World(PIPELINES / "kuairand.yaml", ("model.bottom.dropout=0.4",)),
    "conflict": World(PIPELINES / "conflict.yaml"),
}


def overrides(world: World, model: str) -> list[str]:
    """Overrides that make a world's pipeline train a model."""
    return [*CONTENDERS[model], *world.common]
