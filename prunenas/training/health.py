"""How a training can fail, noticed early and cheaply, as a ``TrainingError`` with its reason."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from prunenas.errors import TrainingError
from prunenas.training.outputs import cross_entropy, logits_of
from prunenas.training.precision import Numerics

T = TypeVar("T")

# Below it float16 gradients overflow whatever they are scaled with; it starts at 65,536.
_SMALLEST_SCALE = 1e-3


def require_finite(losses: Sequence[Tensor], *, epoch: int, lr: float) -> None:
    """Refuse to go on after a loss that is infinite or no number; waits for the device.

    Raises:
        TrainingError: ``non-finite loss``.
    """
    # The sum of finite losses may itself overflow only near 1e38, where nothing learns any more.
    if losses and not math.isfinite(float(torch.stack(list(losses)).sum())):
        raise TrainingError(
            "non-finite loss",
            f"the loss must stay finite, but didn't in epoch {epoch} at learning rate {lr:g}",
        )


def require_usable_scale(scale: float, *, epoch: int) -> None:
    """Refuse to go on when float16 gradients overflow at every scale.

    Raises:
        TrainingError: ``non-finite loss``.
    """
    if scale < _SMALLEST_SCALE:
        raise TrainingError(
            "non-finite loss", f"gradients overflow float16 at every scale in epoch {epoch}"
        )


def require_alive(
    network: nn.Module, numerics: Numerics, images: Tensor, labels: Tensor, *, epoch: int
) -> None:
    """Refuse to go on with a network whose signal is cut.

    The rule has two halves. The first costs nothing and is checked after every epoch: the logits
    are the same for all validation images (to rounding). A slow start can look like that, above
    all in low precision, so the second half, this function, is asked only then: in eval mode,
    some weight of a layer gets a gradient of exactly zero from a batch. Rectifiers that are off
    for every image do that, and no further step can turn them on again.

    Args:
        network: Left with its mode and without gradients.
        numerics: Its device and arithmetic.
        images: ``(N, C, H, W)``, a batch to differentiate over.
        labels: ``(N,)``.
        epoch: Named in the message.

    Raises:
        TrainingError: ``dead network``.
    """
    training = network.training
    network.eval()
    network.zero_grad()
    images, labels = numerics.place(images), labels.to(numerics.device)
    with numerics.autocast():
        outputs = network(images)
    logits, auxiliary = logits_of(outputs, images=len(images))
    cross_entropy(logits, auxiliary, labels, 0.0).backward()  # type: ignore[no-untyped-call]
    cut = [
        name
        for name, weight in network.named_parameters()
        if weight.ndim > 1 and weight.grad is not None and not weight.grad.any()
    ]
    network.zero_grad()
    network.train(training)
    if cut:
        raise TrainingError(
            "dead network",
            f"logits must depend on the image, but after epoch {epoch} are the same for all, "
            f"and no gradient reaches {cut[0]}",
        )


def within_memory(work: Callable[[], T], device: torch.device) -> T:
    """Do the work; running out of memory is a ``TrainingError``, and the memory is free again.

    Raises:
        TrainingError: ``out of memory``.
    """
    try:
        return work()
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        said = (str(error).strip().splitlines() or ["no memory left"])[0]
    # Out of the handler: the traceback, which holds every activation, is gone only now.
    if device.type == "cuda":
        torch.cuda.empty_cache()
    raise TrainingError("out of memory", f"training doesn't fit into {device}'s memory: {said}")


def _is_out_of_memory(error: MemoryError | RuntimeError) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error).lower()  # torch's CPU allocator and other devices raise plain RuntimeErrors
    return "out of memory" in said or "can't allocate memory" in said or "alloc_failed" in said
