"""Towers by the `kind` of their configuration."""

from recsys_mtl.models.towers.mmoe import MMoE
from recsys_mtl.models.towers.shared_bottom import SharedBottom
from recsys_mtl.spec.model_config import SharedBottomConfig, TowerConfig

__all__ = ["build_tower"]


def build_tower(config: TowerConfig, in_dim: int, tasks: tuple[str, ...]) -> MMoE | SharedBottom:
    """Make the tower that a configuration describes."""
    if isinstance(config, SharedBottomConfig):
        return SharedBottom(in_dim, tasks, config)
    return MMoE(in_dim, tasks, config)
