"""Towers by the `kind` of their configuration."""

from recsys_mtl.errors import ConfigError, Problem
from recsys_mtl.models.towers.aitm import Aitm
from recsys_mtl.models.towers.apem import Apem
from recsys_mtl.models.towers.home import HoME
from recsys_mtl.models.towers.mmoe import MMoE
from recsys_mtl.models.towers.multitab import MultiTab
from recsys_mtl.models.towers.ple import PLE
from recsys_mtl.models.towers.shared_bottom import SharedBottom
from recsys_mtl.models.towers.single_task import SingleTask
from recsys_mtl.models.towers.tower import Tower, TowerInput
from recsys_mtl.spec.model_config import (
    AitmConfig,
    ApemConfig,
    HoMEConfig,
    MMoEConfig,
    MultiTabConfig,
    PLEConfig,
    SharedBottomConfig,
    TowerConfig,
)

__all__ = ["Tower", "TowerInput", "build_tower", "pseudo_readers", "token_dim"]


def token_dim(config: TowerConfig) -> int | None:
    """Width of the field tokens that a tower attends over; None when it reads x_t."""
    return config.dim if isinstance(config, ApemConfig | MultiTabConfig) else None


def pseudo_readers(config: TowerConfig, groups: tuple[str, ...]) -> tuple[str, ...]:
    """Who needs an input of its own besides the tasks: `shared`, and the task categories."""
    if isinstance(config, HoMEConfig):
        return ("shared", *groups)
    return ("shared",) if isinstance(config, PLEConfig) else ()


def build_tower(config: TowerConfig, given: TowerInput) -> Tower:
    """Make the tower that a configuration describes.

    Raises:
        ConfigError: if an option does not fit the width of the input.
    """
    tasks = given.tasks
    match config:
        case SharedBottomConfig():
            return SharedBottom(given.dim, tasks, config)
        case MMoEConfig():
            return MMoE(given.dim, tasks, config)
        case PLEConfig():
            return PLE(given.dim, tasks, config)
        case HoMEConfig():
            _check_rank(config, given.dim)
            return HoME(given.dim, tasks, given.groups, config)
        case ApemConfig():
            return Apem(given.num_tokens, tasks, config)
        case AitmConfig():
            return Aitm(given.dim, tasks, given.parents, config)
        case MultiTabConfig():
            return MultiTab(given.num_tokens, tasks, config)
        case _:
            return SingleTask(given.dim, tasks, config)


def _check_rank(config: HoMEConfig, dim: int) -> None:
    rank = config.feature_rank1
    if rank is not None and rank > dim:
        text = f"rank {rank} is larger than the width that it gates, the model's input of {dim}"
        raise ConfigError(Problem("model.tower.feature_rank1", text, "Lower the rank.", "P020"))
