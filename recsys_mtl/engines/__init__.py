"""Engines: map a pure shard function over a shard plan, on processes or on Ray."""

from recsys_mtl.engines.base import Engine, worker_name
from recsys_mtl.engines.local import LocalEngine
from recsys_mtl.engines.ray import RayEngine
from recsys_mtl.spec.pipeline import IngestConfig

__all__ = ["Engine", "LocalEngine", "RayEngine", "make_engine", "worker_name"]


def make_engine(config: IngestConfig) -> Engine:
    """The engine that `ingest.engine` names, with `ingest.workers` workers."""
    if config.engine == "ray":
        return RayEngine(config.workers)
    return LocalEngine(config.workers)
