"""Networks that obey masks: a dropped weight is 0, and stays so.

The mask is a buffer beside the weight that no state dict has; the weight itself is the layer's own
parameter, so that everything that reads or writes weights works as ever. Whoever changes weights
afterwards applies the masks again: the training loop does after every step. A network that is
handed to others is held instead, see `hold`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from prunenas.errors import ExportError

BUFFER = "weight_mask"


def put_on(network: nn.Module, keep: Mapping[str, Tensor], *, persistent: bool = False) -> None:
    """Put masks on a network's layers, and drop the weights; see `draw_sparse` for a fresh one.

    Args:
        network: Its weights are changed in place.
        keep: By the weight's name, bool of its shape.
        persistent: Whether the masks are part of the network's state dict, as those that change
            while it is trained have to be.

    Raises:
        ExportError: The network has no such weight, or one of another shape.
    """
    for name, kept in keep.items():
        layer, weight = _weight(network, name)
        if weight.shape != kept.shape:
            raise ExportError(
                f"a mask must have the shape of {name}, {tuple(weight.shape)}, "
                f"but has {tuple(kept.shape)}"
            )
        mask = kept.to(weight.device).clone(memory_format=torch.contiguous_format)
        layer.register_buffer(BUFFER, mask, persistent=persistent)
    drop(masked(network))


def masked(network: nn.Module) -> tuple[tuple[nn.Parameter, Tensor], ...]:
    """Return each masked weight of a network with its mask, bool of the same shape."""
    return tuple(
        (layer.get_parameter("weight"), mask)
        for layer in network.modules()
        if isinstance(mask := getattr(layer, BUFFER, None), Tensor)
    )


@torch.no_grad()
def drop(pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Set what the masks drop to 0, in place; whatever was there, nan and infinity too."""
    for tensor, mask in pairs:
        tensor.masked_fill_(~mask, 0.0)


@torch.no_grad()
def draw_sparse(network: nn.Module) -> None:
    """Draw masked convolutions' weights for what is left of them, in place.

    From a normal distribution of variance ``2 / n``, n the weights that are left for each input
    channel: He's initialisation by fan-out, where ``k * k * out`` becomes what survives. Source:
    Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019, the authors' code for
    unstructured pruning. Linear layers keep their own initialisation, as there.
    """
    for layer in network.modules():
        mask = getattr(layer, BUFFER, None)
        if isinstance(mask, Tensor) and isinstance(layer, nn.modules.conv._ConvNd):
            weight = layer.get_parameter("weight")
            nn.init.normal_(weight, 0.0, (2 * layer.in_channels / int(mask.sum())) ** 0.5)
            drop([(weight, mask)])


def hold(network: nn.Module) -> nn.Module:
    """Let dropped weights have no gradient from now on, so that any training leaves them at 0.

    Momentum, weight decay, SGD and Adam all leave a weight at 0 whose gradient has always been 0;
    an optimiser that adds noise to weights would not. A copy of the network has to be held again.

    Returns:
        The network itself.
    """
    for layer in network.modules():
        if isinstance(getattr(layer, BUFFER, None), Tensor):
            weight: Any = layer.get_parameter("weight")  # torch declares no types of its hooks
            weight.register_hook(_silence(layer))
    return network


def _silence(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    # The mask is looked up each time: it moves to another device with its layer.
    return lambda gradient: gradient.masked_fill(~layer.get_buffer(BUFFER), 0.0)


def _weight(network: nn.Module, name: str) -> tuple[nn.Module, Tensor]:
    path, _, last = name.rpartition(".")
    try:
        layer = network.get_submodule(path)
        weight = layer.get_parameter("weight") if last == "weight" else None
    except AttributeError:
        weight = None
    if weight is None:
        raise ExportError(f"a mask must belong to a layer's weight, but there is no {name}")
    return layer, weight
