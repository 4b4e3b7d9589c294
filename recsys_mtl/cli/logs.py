"""Logging set-up: time, level, logger and message on standard error; libraries only on errors."""

import logging
import sys
import time
import warnings

_NOISY = ("torchrec", "torch", "ray", "mlflow", "alembic", "matplotlib", "sqlalchemy")


def set_up_logging(quiet: bool) -> None:
    """Log our own lines from INFO (WARNING when quiet), libraries' from ERROR."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    )
    handler.formatter.converter = time.gmtime  # type: ignore[union-attr]
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("recsys_mtl").setLevel(logging.WARNING if quiet else logging.INFO)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")
