"""The architectures that one dense network spans: its channel groups and everything they decide."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from prunenas.architecture.budget import project, rounded
from prunenas.architecture.flops import Quadratic, Vector
from prunenas.architecture.inheritance import Slice, Sliced, sliced, slices_of
from prunenas.architecture.tensors import Following, cut
from prunenas.architecture.value import Architecture, Layer
from prunenas.errors import BudgetError, WidthError, unknown


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


@dataclass(frozen=True)
class Sizes:
    """How layers' sizes follow from widths: ``matrix @ (1, widths)``, one row for each size."""

    layers: tuple[Layer, ...]
    matrix: Vector

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
class Space:
    """A dense network's channel groups, and the architectures their widths make.

    Made by ``trace``; immutable, without weights.

    Attributes:
        source: The dense network's constructor.
        arguments: The constructor's arguments.
        input_shape: ``(C, H, W)`` of one input.
        groups: Groups that can vary, in order of the forward pass.
        frozen: Groups that can't, each with its reason.
    """

    source: str
    arguments: Mapping[str, Any]
    input_shape: tuple[int, ...]
    groups: tuple[ChannelGroup, ...]
    frozen: tuple[FrozenGroup, ...]
    _sizes: Sizes = field(repr=False)
    _flops: Quadratic = field(repr=False)
    _params: Quadratic = field(repr=False)
    _slices: tuple[Sliced, ...] = field(repr=False)
    _tensors: tuple[Following, ...] = field(default=(), repr=False)

    @cached_property
    def dense(self) -> Architecture:
        """The network that pruning starts from: all widths full."""
        return self.architecture(1.0)

    @cached_property
    def _dense(self) -> Vector:
        return np.array([group.width for group in self.groups], dtype=float)

    @cached_property
    def _divisors(self) -> Vector:
        return np.array([group.divisor for group in self.groups], dtype=float)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {group.name: index for index, group in enumerate(self.groups)}

    def widths(self, ratios: float | Mapping[str, float] = 1.0) -> dict[str, int]:
        """Channels left of each group at the given shares kept.

        Args:
            ratios: One ratio in (0, 1] for all groups, or ratios by group name; a group without
                one stays at full width. Rounded to the nearest multiple of the group's divisor,
                at least one.

        Raises:
            WidthError: A ratio lies outside (0, 1], or a name is no free group.
        """
        return self._named(rounded(self._ratios(ratios), self._dense, self._divisors))

    def flops(self, widths: Mapping[str, int]) -> int:
        """Multiply-adds of one input at the given widths: a closed form, in microseconds.

        Args:
            widths: Channels by group name; a group without an entry is at full width.
        """
        return self._flops(self._vector(widths))

    def params(self, widths: Mapping[str, int]) -> int:
        """Trainable parameters at the given widths; see ``flops``."""
        return self._params(self._vector(widths))

    def architecture(
        self,
        ratios: float | Mapping[str, float] = 1.0,
        *,
        widths: Mapping[str, int] | None = None,
    ) -> Architecture:
        """The architecture at the given ratios, or at exact widths.

        Raises:
            WidthError: A ratio lies outside (0, 1], a width outside 1..dense or off its divisor,
                or a name is no free group.
        """
        chosen = self._checked(widths) if widths is not None else self.widths(ratios)
        return self._architecture(chosen)

    def fit(
        self,
        ratios: float | Mapping[str, float] = 1.0,
        *,
        flops_ratio: float | None = None,
        flops: int | None = None,
        fixed: Collection[str] = (),
        tolerance: float | None = 0.005,
    ) -> Architecture:
        """The architecture in these proportions that comes nearest to a budget from below.

        The ratios are scaled by a common factor (no group beyond its dense width), then single
        steps use up the rest.

        Args:
            ratios: Proportions; see ``widths``.
            flops_ratio: The budget as a share in (0, 1] of the dense network's multiply-adds.
            flops: The budget in multiply-adds; exactly one of the two is given.
            fixed: Groups that keep their ratio.
            tolerance: How far below the budget, as a share of it, the result may lie. None takes
                whatever is nearest.

        Raises:
            BudgetError: Even the narrowest network exceeds the budget, or nothing lies within the
                tolerance; the message says the nearest.
            WidthError: A ratio lies outside (0, 1], or a name is no free group.
        """
        dense_flops = self.dense.flops
        if (flops_ratio is None) == (flops is None):
            raise BudgetError("exactly one of flops_ratio and flops must be given")
        if flops_ratio is not None:
            if not 0 < flops_ratio <= 1:
                raise BudgetError(f"0 < flops_ratio <= 1 must hold, but got {flops_ratio!r}")
            budget = int(flops_ratio * dense_flops + 1e-6)
        else:
            assert flops is not None
            budget = flops
            if budget < 1:
                raise BudgetError(f"flops >= 1 must hold, but got {flops!r}")
        for name in fixed:
            self._group(name)
        held = np.array([group.name in fixed for group in self.groups], dtype=bool)
        proportions = self._ratios(ratios)
        found = project(self._flops, budget, proportions, self._dense, self._divisors, held)
        if found is None:
            narrow = np.where(held, proportions, 1e-9)
            least = self._flops(rounded(narrow, self._dense, self._divisors))
            raise BudgetError(
                f"no widths meet {budget:,} FLOPs ({budget / dense_flops:.4f} of dense): the "
                f"narrowest network has {least:,} ({least / dense_flops:.4f})"
            )
        reached = self._flops(found)
        reachable = min(budget, dense_flops)
        if tolerance is not None and reached < (1 - tolerance) * reachable:
            raise BudgetError(
                f"no widths lie within {tolerance:.2%} below {budget:,} FLOPs "
                f"({budget / dense_flops:.4f} of dense): the nearest have {reached:,} "
                f"({reached / dense_flops:.4f}); a larger tolerance accepts them"
            )
        return self._architecture(self._named(found))

    def inherit(self, state: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The dense network's state dict, cut to the kept channels.

        Args:
            state: ``state_dict()`` of the dense network.
            kept: For each group the sorted indices of its channels that stay, int64, shape
                (width,); a group without an entry keeps all. In a group with a divisor each of
                ``divisor`` equal blocks of channels must keep as many.

        Returns:
            A state dict that loads strictly into the network with ``width = len(kept)``.

        Raises:
            WidthError: Indices are out of range, repeated, unsorted, or unequal between blocks.
        """
        layers = sliced(
            self._slices, {g.name: (g.width, g.divisor) for g in self.groups}, state, kept
        )
        return cut(self._tensors, layers, kept)

    def producers(self, group: str) -> tuple[Slice, ...]:
        """Where a group's channels are rows of convolutions' and linear layers' weights."""
        self._group(group)
        return slices_of(self._slices, group, norms=False)

    def norms(self, group: str) -> tuple[Slice, ...]:
        """Where a group's channels are entries of normalisation layers' scales."""
        self._group(group)
        return slices_of(self._slices, group, norms=True)

    def _architecture(self, widths: Mapping[str, int]) -> Architecture:
        vector = self._vector(widths)
        return Architecture(
            source=self.source,
            arguments=self.arguments,
            input_shape=self.input_shape,
            widths=widths,
            layers=self._sizes.at(vector),
            flops=self._flops(vector),
            params=self._params(vector),
            tensors={tensor.name: tensor.shape(widths) for tensor in self._tensors},
        )

    def _group(self, name: str) -> ChannelGroup:
        if name in self._index:
            return self.groups[self._index[name]]
        for group in self.frozen:
            if group.name == name:
                raise WidthError(
                    f"channel group {name!r} of {self.source} can't vary: {group.reason}"
                )
        raise WidthError(unknown(f"channel group of {self.source}", name, self._index))

    def _ratios(self, ratios: float | Mapping[str, float]) -> Vector:
        named = ratios if isinstance(ratios, Mapping) else {g.name: ratios for g in self.groups}
        vector = np.ones(len(self.groups))
        for name, ratio in named.items():
            self._group(name)
            if not 0 < ratio <= 1:
                raise WidthError(f"0 < ratio <= 1 must hold, but {name} has {ratio!r}")
            vector[self._index[name]] = ratio
        return vector

    def _checked(self, widths: Mapping[str, int]) -> dict[str, int]:
        for name, width in widths.items():
            group = self._group(name)
            if not 1 <= width <= group.width or width % group.divisor:
                multiple = f", a multiple of {group.divisor}," if group.divisor > 1 else ""
                raise WidthError(
                    f"1 <= width <= {group.width}{multiple} must hold for {name}, but got {width!r}"
                )
        return {group.name: int(widths.get(group.name, group.width)) for group in self.groups}

    def _vector(self, widths: Mapping[str, int]) -> Vector:
        vector = self._dense.copy()
        for name, width in widths.items():
            try:
                vector[self._index[name]] = width
            except KeyError:
                self._group(name)  # says what is wrong with the name
        return vector

    def _named(self, widths: Sequence[float] | Vector) -> dict[str, int]:
        return {group.name: int(width) for group, width in zip(self.groups, widths, strict=True)}
