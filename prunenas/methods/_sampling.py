"""What methods that look at activations draw: some training images, and some places in their maps.

Memory is bounded. The images are read anew in every pass where they don't fit, a pass takes as many
at a time as fit, and what a method gathers is added up into matrices whose size doesn't depend on
the number of samples (see `_least_squares`); the data set as a whole is never held.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from prunenas.data import Split
from prunenas.errors import MethodError
from prunenas.methods._reading import Reader

MEMORY = 10**9
"""Bytes that sampling may hold beside the networks by default.

A quarter is for the images, a quarter for the activations of one batch, a half for what is
gathered and the matrices that solving it needs.
"""

Gigabytes = Annotated[
    float,
    Field(
        gt=0,
        description=(
            "Gigabytes (10^9 bytes) that sampled images and activations, and what is computed of "
            "them, may take beside the networks."
        ),
    ),
]
"""Type of a method's field for the limit."""


def in_bytes(gigabytes: float) -> int:
    """Return whole bytes."""
    return int(gigabytes * 1e9)


BATCH = 64  # images in a pass, where memory allows


@dataclass
class Sample:
    """Training images, the same ones in every pass.

    They are the first of a pass in shuffled order, without augmentation.

    Attributes:
        split: Where they are from.
        count: How many in all, if the split has as many.
        per_class: At most so many of each class; ``None``: as they come.
        seed: Of the order.
        memory: Bytes, see `MEMORY`; images that take more than a quarter are read anew each pass.
    """

    split: Split
    count: int
    per_class: int | None
    seed: int
    memory: int = MEMORY
    _held: Tensor | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not len(self.split):
            raise MethodError("activations are sampled on training images, but there are none")

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield the images, float32 ``(N, C, H, W)`` with ``N <= size``, on the split's device."""
        if self._held is None:
            first = next(self._drawn(1))
            bound = min(self.count, len(self.split)) * first.element_size() * first[0].numel()
            if bound > self.memory // 4:
                yield from self._drawn(size)
                return
            self._held = torch.cat(list(self._drawn(BATCH)))
        yield from torch.split(self._held, size)

    def _drawn(self, size: int) -> Iterator[Tensor]:
        left, seen = self.count, dict[int, int]()
        # Always read alike: how a shuffled pass ends depends on its batch size.
        for images, labels in self.split.batches(BATCH, seed=self.seed):
            chosen: list[int] = []
            for index, label in enumerate(labels.tolist()):
                if len(chosen) < left and (
                    self.per_class is None or seen.get(label, 0) < self.per_class
                ):
                    seen[label] = seen.get(label, 0) + 1
                    chosen.append(index)
            left -= len(chosen)
            if chosen:
                yield from torch.split(images[chosen], size)
            if not left:
                return


def batch_size(
    network: nn.Module, image: Tensor, readers: Sequence[Reader], samples: int, memory: int
) -> int:
    """Return how many images fit a pass: a quarter of ``memory``, at most `BATCH`.

    Counted as if every layer's output were kept to the end, with four copies of the columns that
    the readers see at their sampled places.

    Args:
        network: In evaluation mode.
        image: ``(1, C, H, W)``.
        readers: Layers that are looked at.
        samples: Places in the map of each image.
        memory: Bytes, see `MEMORY`.
    """
    total = 0

    def count(layer: nn.Module, inputs: object, output: object) -> None:
        nonlocal total
        if isinstance(output, Tensor) and next(layer.children(), None) is None:
            total += output.nbytes

    handles = [module.register_forward_hook(count) for module in network.modules()]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    columns = sum(reader.channels * reader.depth for reader in readers) * image.element_size()
    return max(1, min(BATCH, memory // 4 // (total + 4 * samples * columns)))


def draw(choices: int, shape: tuple[int, int], random: torch.Generator, like: Tensor) -> Tensor:
    """Return int64 of a shape (N, P), each in 0..choices-1, on the device of ``like``."""
    return torch.randint(choices, shape, generator=random).to(like.device)


def draw_distinct(
    choices: int, shape: tuple[int, int], random: torch.Generator, like: Tensor
) -> Tensor:
    """As `draw`, but all of a row differ; fewer columns where there are fewer choices."""
    images, wanted = shape
    keys = torch.rand(images, choices, generator=random)
    return keys.topk(min(wanted, choices), dim=1).indices.to(like.device)
