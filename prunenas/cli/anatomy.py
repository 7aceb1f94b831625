"""What the parts of a network cost, as values: FLOPs by channel group, stage, and what is left.

A layer's multiply-adds belong to the channel group of the channels that it makes, in parts where it
makes those of several. Layers that make frozen channels, and products that are no layer's
(attention), are told apart; all parts together are the network.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from prunenas.architecture import Architecture, Space


@dataclass(frozen=True)
class Part:
    """A channel group of an architecture.

    Attributes:
        name: The group's name.
        width: Channels that are left; 0 where a removed branch took the group with it.
        dense_width: Channels in the dense network.
        divisor: What a width is a multiple of.
        stage: Which size of feature map it lives on.
        flops: Multiply-adds of the layers that make these channels, dropped weights left out.
        dense_flops: The same in the dense network.
        saves: Share of the dense network's FLOPs that goes when this group alone is cut to its
            least width; layers that read its channels count here too.
        layers: All layers that make these channels.
    """

    name: str
    width: int
    dense_width: int
    divisor: int
    stage: int
    flops: int
    dense_flops: int
    saves: float
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Frozen:
    """Channels that can't vary; ``flops`` are those of the layers that make them."""

    name: str
    width: int
    reason: str
    flops: int
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Branch:
    """A residual branch that can be removed, or is; ``flops`` in the dense network."""

    name: str
    modules: tuple[str, ...]
    flops: int
    removed: bool


@dataclass(frozen=True)
class Anatomy:
    """An architecture in its dense network's space.

    Attributes:
        groups: Channel groups that can vary, in the order of the forward pass.
        frozen: Those that can't.
        others: Multiply-adds by module, of products that make no channel group.
        dense_frozen: Multiply-adds of the layers that make frozen channels in the dense network.
        dense_others: Those of the other products there.
        branches: Residual branches.
        flops: All multiply-adds: the sum of the parts, those of dropped weights left out.
        dense_flops: Those of the dense network.
    """

    groups: tuple[Part, ...]
    frozen: tuple[Frozen, ...]
    others: Mapping[str, int]
    dense_frozen: int
    dense_others: int
    branches: tuple[Branch, ...]
    flops: int
    dense_flops: int

    def stages(self) -> dict[int, tuple[int, int]]:
        """FLOPs of each stage's groups, here and in the dense network."""
        found: dict[int, tuple[int, int]] = {}
        for part in self.groups:
            flops, dense = found.get(part.stage, (0, 0))
            found[part.stage] = flops + part.flops, dense + part.dense_flops
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "dense_flops": self.dense_flops,
            "groups": [asdict(part) for part in self.groups],
            "stages": [
                {"stage": stage, "flops": flops, "dense_flops": dense}
                for stage, (flops, dense) in self.stages().items()
            ],
            "frozen": [asdict(part) for part in self.frozen],
            "other_flops": dict(self.others),
            "branches": [asdict(branch) for branch in self.branches],
        }


def anatomy(space: Space, architecture: Architecture) -> Anatomy:
    """Take an architecture apart.

    Args:
        space: The dense network's, no branch removed.
        architecture: One of the space.
    """
    left = space.without(architecture.removed)
    widths = {group.name: architecture.widths.get(group.name, 0) for group in space.groups}
    made = left.layer_flops(architecture.widths)
    for name, mask in architecture.masks.items():
        layer = name.removesuffix(".weight")
        made[layer] = made.get(layer, 0) - (mask.whole_flops - mask.flops)
    now, others = _apportioned(space, made, widths)
    dense, dense_others = _apportioned(space, space.layer_flops(), space.dense.widths)
    groups = tuple(
        Part(
            name=group.name,
            width=widths[group.name],
            dense_width=group.width,
            divisor=group.divisor,
            stage=group.stage,
            flops=now[group.name],
            dense_flops=dense[group.name],
            saves=1 - space.flops({group.name: group.divisor}) / space.dense.flops,
            layers=group.layers,
        )
        for group in space.groups
    )
    return Anatomy(
        groups=groups,
        frozen=tuple(
            Frozen(group.name, group.width, group.reason, now[group.name], group.layers)
            for group in space.frozen
        ),
        others=others,
        dense_frozen=sum(dense[group.name] for group in space.frozen),
        dense_others=sum(dense_others.values()),
        branches=tuple(
            Branch(block.name, block.modules, block.flops, block.name in architecture.removed)
            for block in space.blocks
        ),
        flops=architecture.flops,
        dense_flops=space.dense.flops,
    )


def _apportioned(
    space: Space, flops: Mapping[str, int], widths: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, int]]:
    """FLOPs by group, and by module those of no group.

    A layer whose channels are of several groups, as where a stream grows by zeros, counts for each
    by its share of them.
    """
    makers: dict[str, list[tuple[str, int]]] = {}
    for group in space.groups:
        for layer in group.layers:
            makers.setdefault(layer, []).append((group.name, widths[group.name]))
    for kept in space.frozen:
        for layer in kept.layers:
            makers.setdefault(layer, []).append((kept.name, kept.width))
    found = {name: 0 for members in makers.values() for name, _ in members}
    for layer, members in makers.items():
        whole, told, channels = flops.get(layer, 0), 0, 0
        total = sum(width for _, width in members)
        for name, width in members:  # whole numbers, whose sum is the layer's
            channels += width
            upto = whole * channels // total if total else 0
            found[name] += upto - told
            told = upto
    return found, {name: count for name, count in flops.items() if name not in makers}
