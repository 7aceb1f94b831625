"""How good a network is on a split."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from prunenas.data import Split
from prunenas.errors import TrainingError
from prunenas.training.health import within_memory
from prunenas.training.metrics import Metrics
from prunenas.training.outputs import hits, logits_of
from prunenas.training.precision import Numerics
from prunenas.training.recipe import MemoryFormat, Precision

BATCH_SIZE = 512


def evaluate(
    network: nn.Module,
    split: Split,
    *,
    batch_size: int = BATCH_SIZE,
    device: torch.device | str = "cpu",
    precision: Precision = "auto",
    memory_format: MemoryFormat = "auto",
) -> Metrics:
    """Loss and accuracy over a whole split, in eval mode, in its order, without augmentation.

    With the recipe's precision and memory format and the default batch size the figures equal
    ``train``'s last validation to the last digit. The network is moved to the device and stays
    there; its mode is left as it was.

    Raises:
        TrainingError: An empty split, outputs that aren't logits, or out of memory.
    """
    numerics = Numerics.choose(device, precision=precision, memory_format=memory_format)

    def work() -> Metrics:
        with numerics.laid_out(network):
            return measure(network, split, numerics, batch_size=batch_size)[0]

    return within_memory(work, numerics.device)


@torch.no_grad()
def measure(
    network: nn.Module,
    split: Split,
    numerics: Numerics,
    *,
    classes: int | None = None,
    batch_size: int = BATCH_SIZE,
) -> tuple[Metrics, bool]:
    """Metrics of a network that is already laid out, and whether its logits are constant.

    Constant: no logit differs between two images of a batch by more than rounding (4 units in the
    last place of the largest logit).
    """
    if not len(split):
        raise TrainingError("no images", "a split to evaluate must have images, but is empty")
    training = network.training
    network.eval()
    # Kept on the device and read once: reading every batch would stall a GPU.
    losses, right, spreads, sizes = [], [], [], []
    total = 0
    for images, labels in split.batches(batch_size):
        labels = labels.to(numerics.device, non_blocking=True)
        with numerics.autocast():
            outputs = network(numerics.place(images))
        logits, _ = logits_of(outputs, images=len(labels), classes=classes)
        losses.append(F.cross_entropy(logits, labels, reduction="sum"))
        right.append(hits(logits, labels))
        spreads.append((logits.amax(0) - logits.amin(0)).amax())
        sizes.append(logits.abs().amax())
        total += len(labels)
    network.train(training)
    metrics = Metrics(
        loss=math.fsum(torch.stack(losses).tolist()) / total,
        accuracy=sum(torch.stack(right).tolist()) / total,
    )
    rounding = 4 * torch.finfo(torch.float32).eps * torch.stack(sizes).max()
    return metrics, bool(torch.stack(spreads).max() <= rounding)
