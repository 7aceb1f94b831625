"""The weights that belong to each channel of a group: its rows where it is made, and its columns
where it is read.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from prunenas.architecture import ChannelGroup, Space

Norm = Literal["l1", "l2"]
Normaliser = Literal["mean", "max"]


def rows(space: Space, group: ChannelGroup, network: nn.Module) -> Iterator[Tensor]:
    """Yield, for each layer that makes a group's channels, the weights behind each of them.

    Yields:
        Views of shape ``(group.width, weights behind one channel)``, without gradient.
    """
    for part in space.producers(group.name):
        layer = network.get_submodule(part.layer)
        every = outputs_first(layer, layer.get_parameter("weight").detach())
        yield _part(every, part.start, group.width, part.repeat)


def columns(
    space: Space, group: ChannelGroup, network: nn.Module, *, gradients: bool = False
) -> Iterator[Tensor]:
    """Yield, for each layer that reads a group's channels, the weights it reads each of them by.

    A depthwise convolution hands its channels on and counts as one that makes them.

    Args:
        space: Of the network.
        group: Whose channels.
        network: The dense network.
        gradients: Whether to yield ``weight * gradient`` of each weight instead; layers without a
            gradient are passed over.

    Yields:
        Tensors of shape ``(group.width, weights that read one channel)``, without gradient.
    """
    for part in space.consumers(group.name):
        layer = network.get_submodule(part.layer)
        weight = layer.get_parameter("weight")
        if gradients and weight.grad is None:
            continue
        values = weight.detach()
        if gradients and weight.grad is not None:
            values = values * weight.grad
        yield _part(inputs_first(layer, values), part.start, group.width, part.repeat)


def group_norms(
    space: Space, group: ChannelGroup, network: nn.Module, norm: Norm, normalise: Normaliser
) -> Tensor:
    """Return the norm over all weights of each channel, by the mean or the largest of its group.

    Args:
        space: Of the network.
        group: Whose channels.
        network: The dense network.
        norm: ``"l1"``, the sum of sizes, or ``"l2"``, the root of the sum of squares.
        normalise: What norms are divided by.

    Returns:
        float64 of shape ``(group.width,)``, all 0 where all weights are.
    """
    total = torch.zeros(group.width, dtype=torch.float64)
    for weights in (*rows(space, group, network), *columns(space, group, network)):
        total += weights.double().abs().pow(1 if norm == "l1" else 2).sum(dim=1)
    norms = total if norm == "l1" else total.sqrt()
    whole = norms.mean() if normalise == "mean" else norms.max()
    return norms / whole if whole > 0 else norms


def outputs_first(layer: nn.Module, weight: Tensor) -> Tensor:
    """Return a layer's weight with one row for each output, ``(out, in / groups, ...)``."""
    if not getattr(layer, "transposed", False):
        return weight
    # Transposed convolutions keep (in, out / groups, ...): inputs first, block after block.
    return _swapped(weight, int(getattr(layer, "groups", 1)))


def inputs_first(layer: nn.Module, weight: Tensor) -> Tensor:
    """Return a layer's weight with one row for each input, ``(in, out / groups, ...)``."""
    if getattr(layer, "transposed", False):
        return weight
    return _swapped(weight, int(getattr(layer, "groups", 1)))


def _swapped(weight: Tensor, blocks: int) -> Tensor:
    split = weight.reshape(blocks, weight.shape[0] // blocks, *weight.shape[1:])
    return split.transpose(1, 2).flatten(0, 1)


def _part(every: Tensor, start: int, width: int, repeat: int) -> Tensor:
    return torch.narrow(every, 0, start, width * repeat).reshape(width, -1)
