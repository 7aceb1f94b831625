"""Trying a space out before it is believed: networks at other widths are built, run and counted."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunenas.architecture.construction import Construction, realise
from prunenas.architecture.flops import count_flops
from prunenas.architecture.graph import BATCH, export, node_shapes
from prunenas.architecture.groups import ChannelGroup
from prunenas.architecture.inheritance import Pieces, length
from prunenas.architecture.shapes import Shapes
from prunenas.architecture.source import Constructor
from prunenas.architecture.space import Space


@dataclass(frozen=True, slots=True)
class Sizing:
    """What the sizes of a node that cuts channels are made of, for each output and each axis."""

    node: str
    train: bool
    outputs: tuple[tuple[Pieces, ...], ...]


@dataclass
class Trial:
    """Builds at other widths and runs; answers with the complaint, or None."""

    make: Constructor
    device: str | None
    dense: Construction
    cuts: Sequence[Sizing] = ()

    def fails(self, space: Space, names: Sequence[str]) -> str | None:
        """Why the network is wrong when these groups have other widths."""
        return self._fails(space, _other(space, names), "another width")

    def fails_at_narrowest(self, space: Space, names: Sequence[str]) -> str | None:
        """Why the network is wrong when these groups are at their narrowest."""
        chosen = [group for group in space.groups if group.name in names]
        narrowest = {group.name: group.divisor for group in chosen}
        where = " and ".join(sorted({f"width {width}" for width in narrowest.values()}))
        return self._fails(space, narrowest, where)

    def cuts_elsewhere(self, space: Space, names: Sequence[str]) -> str | None:
        """How channels are cut in other places than at the dense widths.

        A network may well run where its forward pass writes out "the first eight channels", on
        other channels than those that took their places in training. So it is exported once more,
        and the nodes' sizes compared.
        """
        widths = _other(space, names)
        cuts = [
            cut
            for cut in self.cuts
            if any(p.group in widths for axes in cut.outputs for pieces in axes for p in pieces)
        ]
        for train in {cut.train for cut in cuts}:
            network = self._network(space, widths).to("meta")
            found = node_shapes(export(network, space.input_shape, train=train))
            for cut in cuts:
                expected = [
                    tuple(length(pieces, widths) for pieces in axes) for axes in cut.outputs
                ]
                if cut.train == train and expected not in found.get(cut.node, []):
                    return "not in proportion at another width"
        return None

    def miscounts(self, space: Space, names: Sequence[str]) -> str | None:
        """How fvcore's count differs from the closed form when these groups have other widths.

        It takes memory and time, so that only what runs should be counted.
        """
        widths = _other(space, names)
        if not widths:
            return None
        try:
            counted = count_flops(_with_memory(self._network(space, widths)), space.input_shape)
        except Exception as error:  # it ran without memory, but fvcore can't trace it
            return f"its FLOPs can't be counted: {_one_line(error)}"
        if counted == space.flops(widths):
            return None
        return (
            "its FLOPs are not a closed form of the widths: fvcore counts "
            f"{counted:,}, its layers make {space.flops(widths):,}"
        )

    def needs(self, space: Space) -> str | None:
        """Why the network is wrong without the residual branches that ``space`` lacks."""
        return self._runs(space, {}, "without its residual branches")

    def needs_count(self, space: Space) -> str | None:
        """How fvcore's count without those branches differs from the closed form."""
        try:
            counted = count_flops(_with_memory(self._network(space, {})), space.input_shape)
        except Exception as error:  # as in miscounts
            return f"its FLOPs can't be counted: {_one_line(error)}"
        flops = space.dense.flops
        return None if counted == flops else f"fvcore counts {counted:,}, its layers make {flops:,}"

    def _network(self, space: Space, widths: Mapping[str, int]) -> nn.Module:
        return realise(self.make, space.architecture(widths=widths), self.device)

    def _fails(self, space: Space, widths: Mapping[str, int], where: str) -> str | None:
        return self._runs(space, widths, f"at {where}") if widths else None

    def _runs(self, space: Space, widths: Mapping[str, int], where: str) -> str | None:
        try:
            network = self._network(space, widths).to("meta")
            images = torch.empty((BATCH, *space.input_shape), device="meta")
            for train in (True, False):
                with Shapes():
                    network.train(train)(images)
        except Exception as error:  # whatever the network's own code raises is the answer
            return f"the network does not run {where}: {_one_line(error)}"
        kept = {
            group.name: _first_of_each_block(group, widths[group.name])
            for group in space.groups
            if group.name in widths
        }
        wanted = space.inherit(self.dense.network.state_dict(), kept)
        for name, tensor in network.state_dict().items():
            if tensor.shape != wanted[name].shape:
                return f"{name!r} does not follow the sizes of the layers"
        params = sum(p.numel() for p in network.parameters() if p.requires_grad)
        if params != space.params(widths):
            return f"it has {params:,} parameters where its layers make {space.params(widths):,}"
        return None


def suspects(
    refuses: Callable[[Space, Sequence[str]], str | None], space: Space, assumed: Collection[str]
) -> dict[str, str]:
    """The groups that a check refuses when they vary alone, each with its reason.

    Where all hold but those of which something was assumed, these alone are asked.
    """
    names = [group.name for group in space.groups]
    sound = [name for name in names if name not in assumed]
    asked = names if refuses(space, sound) is not None else [n for n in names if n in assumed]
    found = {name: refuses(space, [name]) for name in asked}
    return {name: reason for name, reason in found.items() if reason is not None}


def _other(space: Space, names: Sequence[str]) -> dict[str, int]:
    """Widths from half of the dense ones up for these groups."""
    generator = np.random.default_rng(0)  # unequal, so that false ties and literals show
    widths = {}
    for group in space.groups:
        steps = group.width // group.divisor
        if group.name in names and steps > 1:
            low = max(1, steps // 2)
            widths[group.name] = int(generator.integers(low, steps)) * group.divisor
    return widths


def _first_of_each_block(group: ChannelGroup, width: int) -> Tensor:
    block, stay = group.width // group.divisor, width // group.divisor
    return (torch.arange(group.divisor)[:, None] * block + torch.arange(stay)).flatten()


def _with_memory(network: nn.Module) -> nn.Module:
    """The network with zeros for what has no memory; other buffers hold indices and stay."""
    zeros: dict[int, Tensor] = {}  # by what they replace: tied parameters stay tied
    for module in network.modules():
        tensors: list[dict[str, Any]] = [module._parameters, module._buffers]
        for held in tensors:
            for name, tensor in held.items():
                if tensor is not None and tensor.is_meta:
                    zero: Tensor = torch.zeros_like(tensor, device="cpu")
                    if isinstance(tensor, nn.Parameter):
                        zero = nn.Parameter(zero, tensor.requires_grad)
                    held[name] = zeros.setdefault(id(tensor), zero)
    return network


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
