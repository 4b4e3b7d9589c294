"""torchrec's logging."""

import logging


def silence_torchrec() -> None:
    """Keep torchrec's warnings about its own internals out of our logs.

    Called by what first touches torchrec: the reader of shards and the tables.
    """
    for name in ("torchrec", "torch.fx._symbolic_trace"):
        logging.getLogger(name).setLevel(logging.ERROR)
