"""Architectures with masks: what is left of a network's weights, and what that costs."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from prunenas.architecture.masks import Granularity, Mask
from prunenas.architecture.space import Space
from prunenas.architecture.value import Architecture
from prunenas.errors import WidthError, unknown

MASKED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
"""Layers whose weights may be masked."""


def with_masks(
    space: Space,
    architecture: Architecture,
    network: nn.Module,
    keep: Mapping[str, Tensor],
    granularity: Granularity = "weight",
) -> Architecture:
    """Return the architecture with masks, and the multiply-adds and parameters that survive.

    Args:
        space: That the architecture comes from.
        architecture: Without masks.
        network: Built from it.
        keep: By the name of a layer's weight, a bool tensor; see ``Mask.of``. One that keeps all
            is no mask.
        granularity: What each of its entries stands for.

    Raises:
        WidthError: A name is no weight of a convolution or linear layer, or a layer would keep
            nothing.
    """
    weights = masked_weights(network)
    made = space.layer_flops(architecture.widths)
    masks, flops, params = {}, architecture.flops, architecture.params
    for name, kept in keep.items():
        if name not in weights:
            raise WidthError(unknown(f"weight of {architecture.source}", name, weights))
        if bool(kept.all()):
            continue
        if not bool(kept.any()):
            raise WidthError(f"every layer must keep a {granularity} at least, but {name} none")
        shape = tuple(weights[name].shape)
        uses = made.get(name.removesuffix(".weight"), 0) // weights[name].numel()
        masks[name] = mask = Mask.of(kept, granularity, shape=shape, uses=uses)
        flops -= uses * (mask.total - mask.weights)
        params -= mask.total - mask.weights
    return replace(architecture, masks=masks, flops=flops, params=params)


def masked_weights(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights that may be masked by name, in the order of the modules.

    A weight that several layers share isn't there, nor one that its layer changes before it is
    used, as weight standardisation does: what is 0 would not be so any more.
    """
    plain = {kind.forward for kind in MASKED}
    found: dict[str, Tensor] = {}
    for name, layer in network.named_modules():
        weight = dict(layer.named_parameters(recurse=False)).get("weight")
        if isinstance(layer, MASKED) and type(layer).forward in plain and weight is not None:
            found[f"{name}.weight"] = weight
    owners = [id(tensor) for tensor in found.values()]
    return {name: tensor for name, tensor in found.items() if owners.count(id(tensor)) == 1}
