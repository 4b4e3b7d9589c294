"""The steps of a pipeline in order, each of which returns what is already published.

A verb runs the steps that it needs: finished ones cost a look at their manifest, so `evaluate`
after `train` trains nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recsys_mtl.spec.load import Loaded


@dataclass(slots=True)
class Job:
    """One pipeline on one window; steps are made at most once."""

    loaded: "Loaded"
    interval_end: str | None
    quiet: bool

    @classmethod
    def open(
        cls, path: Path, overrides: Sequence[str] | None, interval_end: str | None, quiet: bool
    ) -> "Job":
        """Load the pipeline file.

        Raises:
            ConfigError: if it or its spec has problems.
        """
        from recsys_mtl.cli.logs import set_up_logging
        from recsys_mtl.spec.load import load_pipeline

        set_up_logging(quiet)
        return cls(load_pipeline(path, overrides or ()), interval_end, quiet)
