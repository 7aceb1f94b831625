"""What a space is made of: channel groups, frozen ones, residual blocks, layers' sizes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from prunenas.architecture.flops import Vector
from prunenas.architecture.value import Layer
from prunenas.errors import WidthError, unknown


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


@dataclass(frozen=True)
class Groups:
    """A network's channel groups by name, and as vectors in the order of the forward pass.

    Attributes:
        source: The network, for messages.
        free: Groups that can vary.
        frozen: Groups that can't.
    """

    source: str
    free: tuple[ChannelGroup, ...]
    frozen: tuple[FrozenGroup, ...]

    @cached_property
    def dense(self) -> Vector:
        """Widths in the dense network, shape (groups,)."""
        return np.array([group.width for group in self.free], dtype=float)

    @cached_property
    def divisors(self) -> Vector:
        """What each width must be a multiple of, shape (groups,)."""
        return np.array([group.divisor for group in self.free], dtype=float)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {group.name: index for index, group in enumerate(self.free)}

    def get(self, name: str) -> ChannelGroup:
        """The free group of a name.

        Raises:
            WidthError: There is none, or it can't vary, with the reason.
        """
        if name in self._index:
            return self.free[self._index[name]]
        for group in self.frozen:
            if group.name == name:
                raise WidthError(
                    f"channel group {name!r} of {self.source} can't vary: {group.reason}"
                )
        raise WidthError(unknown(f"channel group of {self.source}", name, self._index))

    def ratios(self, ratios: float | Mapping[str, float]) -> Vector:
        """Shares kept, shape (groups,), of one ratio for all or of ratios by name; 1 without one.

        Raises:
            WidthError: A ratio lies outside (0, 1], or a name is no free group.
        """
        named = ratios if isinstance(ratios, Mapping) else {g.name: ratios for g in self.free}
        vector = np.ones(len(self.free))
        for name, ratio in named.items():
            self.get(name)
            if not 0 < ratio <= 1:
                raise WidthError(f"0 < ratio <= 1 must hold, but {name} has {ratio!r}")
            vector[self._index[name]] = ratio
        return vector

    def checked(self, widths: Mapping[str, int]) -> dict[str, int]:
        """All groups' widths, those without an entry dense.

        Raises:
            WidthError: A width lies outside 1..dense or off its divisor, or a name is no free
                group.
        """
        for name, width in widths.items():
            group = self.get(name)
            if not 1 <= width <= group.width or width % group.divisor:
                multiple = f", a multiple of {group.divisor}," if group.divisor > 1 else ""
                raise WidthError(
                    f"1 <= width <= {group.width}{multiple} must hold for {name}, but got {width!r}"
                )
        return {group.name: int(widths.get(group.name, group.width)) for group in self.free}

    def vector(self, widths: Mapping[str, int]) -> Vector:
        """Widths by name, unchecked, as a vector of shape (groups,); dense without an entry."""
        vector = self.dense.copy()
        for name, width in widths.items():
            try:
                vector[self._index[name]] = width
            except KeyError:
                self.get(name)  # says what is wrong with the name
        return vector

    def named(self, widths: Vector) -> dict[str, int]:
        """Widths, shape (groups,), by name."""
        return {group.name: int(width) for group, width in zip(self.free, widths, strict=True)}
