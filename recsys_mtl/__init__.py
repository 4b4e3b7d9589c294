"""Multi-task recommender pipeline: logs in, gated champions and scores out."""

__version__ = "0.1.0"
