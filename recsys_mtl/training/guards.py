"""Guards of the one backward per step, in which the fused tables update themselves."""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from recsys_mtl.batches.batch import Batch
from recsys_mtl.spec.pipeline import NanGuard


class BackwardGuard:
    """Lets a look-up's backward run once per sanctioned backward, with finite gradients only.

    A table steps inside the backward of its look-up, so a second or foreign backward would train
    it twice without a trace. `watch` hooks the look-up's output: the hook runs before the table's
    node does, so a refusal leaves the table as it was, and a non-finite gradient becomes zero,
    which leaves row-wise Adagrad's weights and state as they were.
    """

    def __init__(self) -> None:
        self._armed = False
        self.is_poisoned = False
        """Whether a gradient of the last sanctioned backward was not finite."""

    def watch(self, values: Tensor) -> None:
        """Hook the output of one look-up; give this to `Embeddings.output_hook`."""
        has_fired = False

        def hook(gradient: Tensor) -> Tensor | None:
            nonlocal has_fired
            if not self._armed or has_fired:
                raise RuntimeError(
                    "a backward reached the embedding tables outside the training step, which "
                    "would train them twice; use one backward per step, or detach first"
                )
            has_fired = True
            if torch.isfinite(gradient).all():
                return None
            self.is_poisoned = True
            return torch.zeros_like(gradient)

        values.register_hook(hook)  # type: ignore[no-untyped-call]

    @contextmanager
    def sanctioned(self) -> Iterator[None]:
        """Around the trainer's own `loss.backward()`."""
        self._armed, self.is_poisoned = True, False
        try:
            yield
        finally:
            self._armed = False


class SkipBudget:
    """How many steps may be skipped because something was not finite."""

    def __init__(self, config: NanGuard, skipped: list[int]) -> None:
        self._config = config
        self._recent = deque(skipped)

    @property
    def skipped(self) -> list[int]:
        """Skipped steps that still count."""
        return list(self._recent)

    def is_spent(self, step: int) -> bool:
        """Count a skip at `step`; true when there were too many lately."""
        self._recent.append(step)
        while self._recent[0] <= step - self._config.per_steps:
            self._recent.popleft()
        return len(self._recent) > self._config.max_skipped


def has_finite_inputs(batch: Batch) -> bool:
    """Whether numbers, labels and weights of a batch are finite."""
    parts = (batch.dense, batch.labels, batch.weights)
    return all(bool(torch.isfinite(part).all()) for part in parts)


def has_finite_gradients(parameters: Sequence[Tensor]) -> bool:
    """Whether all gradients are finite, by one norm over them."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return True
    return bool(torch.isfinite(torch.stack(torch._foreach_norm(gradients))).all())
