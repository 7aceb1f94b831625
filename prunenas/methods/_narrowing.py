"""Filters that are off become fewer channels, where no layer makes the channel any more."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from prunenas.architecture import Architecture, ChannelGroup, Space, build, with_masks


@dataclass(frozen=True)
class Narrowing:
    """What filter masks leave of a network's channels.

    Attributes:
        kept: Sorted indices of the channels that stay, int64, for each group that loses any.
        masks: For each masked layer's weight by name, which filters of those that stay are on,
            bool of shape ``(filters left,)``.
        flops: Multiply-adds of one input that survive widths and masks.
    """

    kept: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    flops: int

    @property
    def off(self) -> int:
        """Number of filters that are off and stay, as zeros under a mask."""
        return sum(int((~mask).sum()) for mask in self.masks.values())

    def architecture(self, space: Space) -> Architecture:
        """Return the architecture: fewer channels, and masks where filters are off all the same."""
        widths = {group: len(kept) for group, kept in self.kept.items()}
        architecture = space.architecture(widths=widths, kept=self.kept)
        network = build(architecture, trust=True)
        return with_masks(space, architecture, network, self.masks, "filter")


def narrowed(space: Space, keep: Mapping[str, Tensor]) -> Narrowing:
    """Return what is left when channels go that no layer makes.

    Of a group's channels one goes if each layer that makes it (of a residual stream there are
    many) has all its filters for it off. One stays at least, and as many of each block of a group
    that a layer cuts into blocks. Groups that a layer without a mask makes stay whole.

    Args:
        space: Of the dense network.
        keep: Which filters are on, by the name of a layer's weight, bool of shape ``(out,)``.
    """
    kept: dict[str, Tensor] = {}
    rows = {name: torch.ones_like(mask) for name, mask in keep.items()}
    for group in space.groups:
        parts = space.producers(group.name)
        if not parts or any(f"{part.layer}.weight" not in keep for part in parts):
            continue
        on = torch.zeros(group.width, dtype=torch.bool)
        for part in parts:
            size = group.width * part.repeat
            own = keep[f"{part.layer}.weight"][part.start : part.start + size]
            on |= own.reshape(group.width, part.repeat).any(dim=1)
        stays = _evenly(on, group)
        if stays.all():
            continue
        kept[group.name] = stays.nonzero().flatten()
        for part in parts:
            size = group.width * part.repeat
            left = rows[f"{part.layer}.weight"][part.start : part.start + size]
            left &= stays.repeat_interleave(part.repeat)
    masks = {name: mask[rows[name]] for name, mask in keep.items()}
    return Narrowing(kept, masks, _flops(space, kept, masks))


def _evenly(on: Tensor, group: ChannelGroup) -> Tensor:
    """Return which channels stay: those that are on, and the first others that blocks lack."""
    blocks = on.reshape(group.divisor, -1)
    most = max(1, int(blocks.sum(dim=1).max()))
    first = (~blocks).int().argsort(dim=1, stable=True)[:, :most]
    return torch.zeros_like(blocks).scatter(1, first, True).flatten()


def _flops(space: Space, kept: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> int:
    made = space.layer_flops({group: len(indices) for group, indices in kept.items()})
    gone = 0
    for name, mask in masks.items():
        gone += made.get(name.removesuffix(".weight"), 0) // prod(mask.shape) * int((~mask).sum())
    return sum(made.values()) - gone
