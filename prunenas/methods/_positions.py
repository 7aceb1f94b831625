"""Which places of a kernel survive: maps of masks, and masks of maps.

Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019, section 5 ("guided sparsifying").
In networks whose weights were pruned, the middle of a kernel survives more often than its corners,
and more so in some stages (layers at one resolution) than in others. A map holds for each stage the
share of the kernels in which a place is kept; a network of another kind is made sparse by drawing
each kernel's places with these probabilities, and needs no training for it.
"""

from collections.abc import Mapping
from functools import lru_cache
from math import prod

import torch
from torch import Tensor

from prunenas.architecture import Architecture, Space, build, masked_weights

Maps = Mapping[int, Tensor]
"""By stage the share of the kernels that keep each place, float64 of shape ``(kh, kw)``."""


@lru_cache(maxsize=8)
def weights_of(dense: Architecture) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return the layers of a dense network that may be masked, with their weights' shapes.

    Kept, because every proposal of a search asks for them.
    """
    # Trusted: whoever has a space of it has already run the source's code.
    network = build(dense, trust=True)
    return tuple(
        (name.removesuffix(".weight"), tuple(weight.shape))
        for name, weight in masked_weights(network).items()
    )


def stages(space: Space) -> dict[str, int]:
    """Return the stage of each convolution and linear layer, by its name.

    It is that of the channel groups at the same resolution, which is how often each of the layer's
    weights is used. (A layer's own groups don't say it: those of a residual stream whose channels
    are padded reach through all stages.) Where no group has that resolution, or the layer's weight
    can't be masked, it is the group's that the layer makes, or else the stage of the layer before.
    """
    made = space.layer_flops()
    uses = {name: made.get(name, 0) // prod(shape) for name, shape in weights_of(space.dense)}
    known = {layer: group.stage for group in space.groups for layer in group.layers}
    # The first layer of a group is where its stage comes from.
    sizes = {uses[g.layers[0]]: g.stage for g in space.groups if g.layers[0] in uses}
    found, last = {}, 0
    for layer in space.dense.layers:
        if layer.name is not None and layer.kind in ("conv", "linear"):
            size = uses.get(layer.name)
            last = sizes[size] if size in sizes else known.get(layer.name, last)
            found[layer.name] = last
    return found


def survival(
    space: Space, architecture: Architecture, kernel: tuple[int, int] = (3, 3)
) -> dict[int, Tensor]:
    """Return the map of an architecture's masks, over all its kernels of one size.

    Args:
        space: That the architecture comes from.
        architecture: With its masks; a layer without one keeps all.
        kernel: Height and width; 1 x 1 kernels have no places to tell apart.
    """
    sums: dict[int, Tensor] = {}
    counts: dict[int, int] = {}
    of = stages(space)
    for layer, shape in weights_of(space.dense):
        mask = architecture.masks.get(f"{layer}.weight")
        if shape[2:] != kernel:
            continue
        keep, stage = torch.ones(shape) if mask is None else mask.tensor(), of[layer]
        nothing = torch.zeros(kernel, dtype=torch.float64)
        sums[stage] = sums.get(stage, nothing) + keep.sum((0, 1), dtype=torch.float64)
        counts[stage] = counts.get(stage, 0) + shape[0] * shape[1]
    return {stage: sums[stage] / counts[stage] for stage in sorted(sums)}


def mean(maps: list[dict[int, Tensor]]) -> dict[int, Tensor]:
    """Return the mean of several networks' maps, of the paper's five runs for instance."""
    known = sorted({stage for each in maps for stage in each})
    return {
        stage: torch.stack([each[stage] for each in maps if stage in each]).mean(dim=0)
        for stage in known
    }


def matched(maps: Maps, count: int) -> list[Tensor]:
    """Return a map for each of ``count`` stages of another network, in order.

    Stages are matched from first to last by their share of the way: with as many stages as the
    maps have, each has its own; with fewer or more, the nearest.
    """
    ordered = [maps[stage] for stage in sorted(maps)]
    if count == 1:
        return ordered[:1]
    return [ordered[round(index * (len(ordered) - 1) / (count - 1))] for index in range(count)]


def draw(
    shapes: Mapping[str, tuple[int, ...]],
    maps: Mapping[str, Tensor],
    factor: float,
    drawn: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Return masks whose places are kept as often as a map says, times a factor, at most always.

    Args:
        shapes: Of the weights, ``(out, in, kh, kw)``, by name.
        maps: For each of them.
        factor: What all probabilities are multiplied with, to meet a density or a budget.
        drawn: Uniform numbers in [0, 1) of the weights' shapes; a larger factor keeps all that a
            smaller one does.
    """
    found = {}
    for name, shape in shapes.items():
        chance = (factor * maps[name]).clamp(max=1.0).expand(shape)
        keep = drawn[name] < chance
        if not keep.any():  # a layer never loses its last weight: the likeliest is left
            keep.view(-1)[int((chance - drawn[name]).argmax())] = True
        found[name] = keep
    return found
