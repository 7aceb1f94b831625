"""What a network answers, and the loss of it."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from prunenas.errors import TrainingError

# Szegedy et al. 2015, "Going Deeper with Convolutions", section 5.
_AUXILIARY = 0.3


def logits_of(
    outputs: Any, *, images: int, classes: int | None = None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Split what a network returned into float32 logits ``(N, classes)`` and auxiliary ones.

    GoogLeNet and Inception answer with a tuple in train mode: the logits, then those of their
    auxiliary heads (``None`` for a head they don't have). Without ``classes`` any number will do.

    Raises:
        TrainingError: The network returned something else, or for other classes.
    """
    first, *others = outputs if isinstance(outputs, tuple) and outputs else (outputs,)
    shape = tuple(first.shape) if isinstance(first, Tensor) else ()
    if len(shape) != 2 or shape != (images, shape[1] if classes is None else classes):
        raise TrainingError(
            "unusable network",
            f"a network must answer {images} images with logits "
            f"({images}, {'classes' if classes is None else classes}), "
            f"but answers {shape or type(first).__name__}",
        )
    return first.float(), tuple(other.float() for other in others if isinstance(other, Tensor))


def cross_entropy(
    logits: Tensor, auxiliary: tuple[Tensor, ...], labels: Tensor, smoothing: float
) -> Tensor:
    """Mean cross-entropy in nats ``()``, auxiliary heads weighted 0.3."""
    loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    for other in auxiliary:
        loss = loss + _AUXILIARY * F.cross_entropy(other, labels, label_smoothing=smoothing)
    return loss


def hits(logits: Tensor, labels: Tensor) -> Tensor:
    """How many images have their own class as the highest logit, int64 ``()``."""
    return torch.eq(logits.detach().argmax(1), labels).sum()
