"""The architectures that one dense network spans: its channel groups and everything they decide."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunenas.architecture.budget import project, rounded, whole_budget
from prunenas.architecture.flops import Quadratic, Terms, Vector
from prunenas.architecture.groups import Block, ChannelGroup, FrozenGroup, Groups, Sizes
from prunenas.architecture.inheritance import Slice
from prunenas.architecture.lineage import Lineage
from prunenas.architecture.selection import spread
from prunenas.architecture.value import Architecture
from prunenas.errors import BudgetError, WidthError, unknown


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
        blocks: Residual branches that can be taken out; see ``without``.
        removed: Those that are, with the modules that made them.
    """

    source: str
    arguments: Mapping[str, Any]
    input_shape: tuple[int, ...]
    groups: tuple[ChannelGroup, ...]
    frozen: tuple[FrozenGroup, ...]
    _sizes: Sizes = field(repr=False)
    _products: Terms = field(repr=False)
    _parameters: Terms = field(repr=False)
    _lineage: Lineage = field(repr=False)
    blocks: tuple[Block, ...] = ()
    removed: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    _whole: "Space | None" = field(default=None, repr=False)

    @cached_property
    def dense(self) -> Architecture:
        """All widths full: the network that pruning starts from, but for removed branches."""
        return self.architecture(1.0)

    @property
    def dense_flops(self) -> int:
        """Multiply-adds of the network that pruning starts from, removed branches included."""
        return (self._whole or self).dense.flops

    @cached_property
    def _flops(self) -> Quadratic:
        return self._products.quadratic()

    @cached_property
    def _params(self) -> Quadratic:
        return self._parameters.quadratic()

    @cached_property
    def _named(self) -> Groups:
        return Groups(self.source, self.groups, self.frozen)

    def widths(self, ratios: float | Mapping[str, float] = 1.0) -> dict[str, int]:
        """Channels left of each group at the given shares kept.

        Args:
            ratios: One ratio in (0, 1] for all groups, or ratios by group name; a group without
                one stays at full width. Rounded to the nearest multiple of the group's divisor,
                at least one.

        Raises:
            WidthError: A ratio lies outside (0, 1], or a name is no free group.
        """
        return self._named.named(
            rounded(self._named.ratios(ratios), self._named.dense, self._named.divisors)
        )

    def flops(self, widths: Mapping[str, int]) -> int:
        """Multiply-adds of one input at the given widths: a closed form, in microseconds.

        Args:
            widths: Channels by group name; a group without an entry is at full width.
        """
        return self._flops(self._named.vector(widths))

    def sized(self, ratios: Vector) -> tuple[Vector, Vector]:
        """Widths and multiply-adds of many networks at once, what ``widths`` and ``flops`` give.

        Args:
            ratios: Shares kept, above 0, of shape (networks, groups); more than 1 counts as 1.

        Returns:
            Widths of shape (networks, groups), and multiply-adds of one input, (networks,).
        """
        widths = rounded(np.minimum(ratios, 1.0), self._named.dense, self._named.divisors)
        return widths, self._flops.many(widths)

    def params(self, widths: Mapping[str, int]) -> int:
        """Trainable parameters at the given widths; see ``flops``."""
        return self._params(self._named.vector(widths))

    def layer_flops(self, widths: Mapping[str, int] | None = None) -> dict[str, int]:
        """Multiply-adds of one input by the module that makes them; their sum is ``flops``."""
        return self._products.by_owner(self._named.vector(widths or {}))

    def architecture(
        self,
        ratios: float | Mapping[str, float] = 1.0,
        *,
        widths: Mapping[str, int] | None = None,
        kept: Mapping[str, Tensor] | None = None,
    ) -> Architecture:
        """The architecture at the given ratios, or at exact widths.

        Args:
            ratios: See ``widths``.
            widths: Channels by group name instead; a group without an entry is at full width.
            kept: Sorted indices of the channels that stay, by group. They only matter to channel
                selection layers, which pass evenly spaced channels on where nothing is said.

        Raises:
            WidthError: A ratio lies outside (0, 1], a width outside 1..dense or off its divisor,
                a name is no free group, or the indices are not as many as the width.
        """
        chosen = self._named.checked(widths) if widths is not None else self.widths(ratios)
        return self._architecture(chosen, kept or {})

    def without(self, blocks: Collection[str]) -> "Space":
        """The space of the networks that lack these residual branches.

        Groups that live in them alone are gone; a transition block keeps its projection.

        Raises:
            WidthError: A name is no removable branch.
        """
        known = {block.name: block for block in self.blocks}
        for name in blocks:
            if name not in known:
                raise WidthError(unknown(f"removable branch of {self.source}", name, known))
        names = [name for name in known if name in blocks]  # in the order of the forward pass
        if not names:
            return self
        modules = [module for name in names for module in known[name].modules]

        def stays(owner: str) -> bool:
            return not any(owner == m or owner.startswith(f"{m}.") for m in modules)

        left = {group.name: tuple(filter(stays, group.layers)) for group in self.groups}
        left |= {group.name: tuple(filter(stays, group.layers)) for group in self.frozen}
        groups = [group for group in self.groups if left[group.name]]
        # A group that is gone stays at its narrowest: the constructor still makes its layers.
        columns = np.zeros((len(self.groups) + 1, len(groups) + 1))
        columns[0, 0] = 1
        for row, group in enumerate(self.groups, start=1):
            if group in groups:
                columns[row, groups.index(group) + 1] = 1
            else:
                columns[row, 0] = group.divisor
        return replace(
            self,
            groups=tuple(replace(group, layers=left[group.name]) for group in groups),
            frozen=tuple(
                replace(group, layers=left[group.name]) for group in self.frozen if left[group.name]
            ),
            blocks=tuple(block for block in self.blocks if block.name not in names),
            removed=MappingProxyType({**self.removed, **{n: known[n].modules for n in names}}),
            _sizes=self._sizes.only(columns),
            _products=self._products.only(
                [i for i, owner in enumerate(self._products.owners) if stays(owner)], columns
            ),
            _parameters=self._parameters.only(
                [i for i, owner in enumerate(self._parameters.owners) if stays(owner)], columns
            ),
            _lineage=self._lineage.only(stays),
            _whole=self._whole or self,
        )

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
            flops_ratio: The budget as a share in (0, 1] of the dense network's multiply-adds,
                removed branches included.
            flops: The budget in multiply-adds; exactly one of the two is given.
            fixed: Groups that keep their ratio.
            tolerance: How far below the budget, as a share of it, the result may lie. None takes
                whatever is nearest.

        Raises:
            BudgetError: Even the narrowest network exceeds the budget, or nothing lies within the
                tolerance; the message says the nearest.
            WidthError: A ratio lies outside (0, 1], or a name is no free group.
        """
        dense_flops, named = self.dense_flops, self._named
        budget = whole_budget(flops_ratio, flops, dense_flops)
        for name in fixed:
            named.get(name)
        held = np.array([group.name in fixed for group in self.groups], dtype=bool)
        proportions = named.ratios(ratios)
        found = project(self._flops, budget, proportions, named.dense, named.divisors, held)
        if found is None:
            narrow = np.where(held, proportions, 1e-9)
            least = self._flops(rounded(narrow, named.dense, named.divisors))
            raise BudgetError(
                f"no widths meet {budget:,} FLOPs ({budget / dense_flops:.4f} of dense): the "
                f"narrowest network has {least:,} ({least / dense_flops:.4f})"
            )
        reached = self._flops(found)
        reachable = min(budget, self.dense.flops)
        if tolerance is not None and reached < (1 - tolerance) * reachable:
            raise BudgetError(
                f"no widths lie within {tolerance:.2%} below {budget:,} FLOPs "
                f"({budget / dense_flops:.4f} of dense): the nearest have {reached:,} "
                f"({reached / dense_flops:.4f}); a larger tolerance accepts them"
            )
        return self._architecture(named.named(found))

    def inherit(self, state: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The dense network's state dict, cut to the kept channels.

        Args:
            state: ``state_dict()`` of the dense network.
            kept: For each group the sorted indices of its channels that stay, int64, shape
                (width,); a group without an entry keeps all. In a group with a divisor each of
                ``divisor`` equal blocks of channels must keep as many.

        Returns:
            A state dict that loads strictly into the network with ``width = len(kept)``; without
            the tensors of removed branches.

        Raises:
            WidthError: Indices are out of range, repeated, unsorted, or unequal between blocks.
        """
        left = {name: tensor for name, tensor in state.items() if self._has(name)}
        return self._lineage.cut(self.groups, left, kept)

    def selected(self, architecture: Architecture) -> dict[str, Tensor]:
        """The channels that an architecture's channel selections pass on, by group.

        A group that no channel selection layer makes isn't there.
        """
        return {
            group.name: torch.tensor(
                architecture.selections.get(
                    layer, spread(group.width, architecture.widths[group.name])
                )
            )
            for group in self.groups
            for layer in self._lineage.selections(group)[:1]
        }

    def producers(self, group: str) -> tuple[Slice, ...]:
        """Where a group's channels are rows of convolutions' and linear layers' weights."""
        return self._lineage.producers(self._named.get(group))

    def consumers(self, group: str) -> tuple[Slice, ...]:
        """Where a group's channels are columns of convolutions' and linear layers' weights.

        A depthwise convolution reads nothing: it passes its input's channels on.
        """
        return self._lineage.consumers(self._named.get(group))

    def norms(self, group: str) -> tuple[Slice, ...]:
        """Where a group's channels are entries of normalisation layers' scales.

        Those of a channel selection are the entries of the normalisation that it reads, too.
        """
        return self._lineage.norms(self._named.get(group))

    def _has(self, tensor: str) -> bool:
        modules = (module for branch in self.removed.values() for module in branch)
        return not any(tensor.startswith(f"{module}.") for module in modules)

    def _architecture(
        self, widths: Mapping[str, int], kept: Mapping[str, Tensor] = MappingProxyType({})
    ) -> Architecture:
        vector = self._named.vector(widths)
        selections: dict[str, tuple[int, ...]] = {}
        for group in self.groups:
            layers = self._lineage.selections(group)
            if group.name not in kept or not layers:
                continue
            if len(kept[group.name]) != widths[group.name]:
                raise WidthError(
                    f"as many channels must be kept of {group.name} as its width, "
                    f"{widths[group.name]}, but {len(kept[group.name])} are"
                )
            indices = kept[group.name].tolist()
            if indices != spread(group.width, len(indices)):  # one way to say the same
                selections |= dict.fromkeys(layers, tuple(indices))
        return Architecture(
            source=self.source,
            arguments=self.arguments,
            input_shape=self.input_shape,
            widths=widths,
            layers=self._sizes.at(vector),
            flops=self._flops(vector),
            params=self._params(vector),
            tensors=self._lineage.shapes(widths),
            selections=selections,
            removed=self.removed,
        )
