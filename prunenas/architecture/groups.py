"""What a space is made of: channel groups, frozen ones, residual blocks, layers' sizes."""

from dataclasses import dataclass

import numpy as np

from prunenas.architecture.flops import Vector
from prunenas.architecture.value import Layer


@dataclass(frozen=True, slots=True)
class ChannelGroup:
    """Channels of one or several layers that can only be cut together.

    Attributes:
        name: The first layer that produces them.
        width: Channels in the dense network. Where a network cuts a layer's channels into equal
            parts that are tied (gates, heads), a channel of the group stands for one of each part.
        divisor: Every width must be a multiple of it (grouped convolutions); 1 otherwise. Where
            single channels are kept by index, each of ``divisor`` equal blocks keeps as many.
        stage: Which size of feature map it lives on, counted from 0 at the input.
        layers: All layers whose outputs are these channels, in order.
    """

    name: str
    width: int
    divisor: int
    stage: int
    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FrozenGroup:
    """Channels whose number can't vary, and why."""

    name: str
    width: int
    reason: str
    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """A residual branch that can be taken out; its stream, or the stream's projection, goes on.

    Attributes:
        name: The block that adds it, ``block#2`` for a block's second branch.
        modules: What makes it, in the order of the forward pass.
        flops: Multiply-adds that go with it, of one input, in the dense network.
    """

    name: str
    modules: tuple[str, ...]
    flops: int


@dataclass(frozen=True)
class Sizes:
    """How layers' sizes follow from widths: ``matrix @ (1, widths)``, one row for each size."""

    layers: tuple[Layer, ...]
    matrix: Vector

    def only(self, columns: Vector) -> "Sizes":
        """The same sizes in the variables that ``w = columns @ w'`` is made of."""
        return Sizes(self.layers, self.matrix @ columns)

    def at(self, widths: Vector) -> tuple[Layer, ...]:
        """The layers of the network with these widths."""
        values = self.matrix @ np.concatenate(([1.0], widths))
        found, row = [], 0
        for layer in self.layers:
            count = len(layer.sizes)
            found.append(Layer(layer.name, layer.kind, tuple(map(int, values[row : row + count]))))
            row += count
        return tuple(found)
