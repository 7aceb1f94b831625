"""What every pruning method is (`Method`) and what it answers (`Derivation`).

A method is one final, frozen class whose fields are its hyperparameters: a field's declaration
gives its default, its bounds, its documentation and the range a study searches by default::

    keep: float = Field(0.5, gt=0, le=1, description="...",
                        json_schema_extra={"search": {"low": 0.1, "high": 0.9}})

``search`` is written as in a search-space file: ``low`` and ``high`` (with ``log: true`` where the
scale is logarithmic), or ``choices``.
"""

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from prunenas.architecture import Architecture, ChannelGroup, FrozenGroup, Space
from prunenas.errors import MethodError, WidthError, unknown
from prunenas.methods.dense import Dense

Granular = Literal["channel", "block", "weight"]


@dataclass(frozen=True)
class Inheritance:
    """What survives of the dense network.

    Attributes:
        kept: Sorted indices of the dense network's channels that stay, int64 of shape
            ``(width,)`` for each group by name. A group that isn't there stays whole.
        weights: State dict at those channels, on the CPU.
        rebuilt: The dense network's state dict that ``weights`` is cut from, where the method
            changed it (by reconstruction, say); ``None`` where it is the training's own.
    """

    kept: Mapping[str, Tensor]
    weights: dict[str, Tensor]
    rebuilt: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class Derivation:
    """What a method arrived at. It lives as long as the trial; only the architecture is kept.

    Attributes:
        architecture: The network that is retrained from scratch.
        notes: Figures for the record, JSON values only, such as the threshold found.
        inherit: Computes what survives, or ``None`` for a method that chooses widths but no
            channels. Call `weights` or `kept` instead.
    """

    architecture: Architecture
    notes: Mapping[str, Any] = field(default_factory=dict)
    inherit: Callable[[], Inheritance] | None = None

    def weights(self) -> dict[str, Tensor] | None:
        """Return the dense network's weights at the channels kept, a state dict on the CPU.

        It loads strictly into ``build(self.architecture)``. A predefined method trains the dense
        network for it, and never before. ``None``: the method keeps no particular channels.
        """
        return None if self.inherit is None else self.inherit().weights

    def kept(self) -> Mapping[str, Tensor] | None:
        """Return the indices of the channels kept for each group; trains as `weights` does."""
        return None if self.inherit is None else self.inherit().kept


class Method(BaseModel):
    """A pruning method: dense network in, architecture out.

    Attributes:
        kind: ``"predefined"``: the architecture follows from ratios, hyperparameters and seed
            alone, nothing is trained for it. ``"automatic"``: it is found in trained weights.
        takes_ratios: Whether `derive` follows ratios given for each group.
        takes_densities: Whether `derive` follows densities given for each layer; they are its
            ``ratios`` then, by the names of `density_layers`.
        granularity: What goes as one: a `"channel"` of a group, or a residual `"block"`, too.
        source: The paper, for tables: authors, year, title, venue.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: ClassVar[Literal["predefined", "automatic"]]
    takes_ratios: ClassVar[bool]
    takes_densities: ClassVar[bool] = False
    granularity: ClassVar[Granular]
    source: ClassVar[str]

    whole: tuple[str, ...] = Field(
        (),
        description=(
            "Layers that keep all their channels, the papers' skip-lists: a layer's name, or a "
            "module's for all in it; names may have `*` and `?`. All layers of their groups stay "
            "whole, whatever their ratios."
        ),
    )

    @abstractmethod
    def derive(
        self,
        dense: Dense,
        *,
        ratios: Mapping[str, float] | None = None,
        flops: int | None = None,
        fixed: Collection[str] = (),
        seed: int = 0,
    ) -> Derivation:
        """Derive an architecture from a dense network.

        Args:
            dense: The dense network, its data and its training.
            ratios: Share of channels to keep, in (0, 1], for each group by name; only where
                `takes_ratios`. Where `takes_densities`, share of weights for each layer.
            flops: A budget in fused multiply-adds of one input. The architecture comes as close
                to it as whole channels allow and never exceeds it.
            fixed: Groups (layers, where they have densities) that keep their given ratio whatever
                the budget; those of `whole` keep all their channels even so.
            seed: Of the method's own random choices; equal seeds, equal architectures.

        Raises:
            MethodError: The method can't do what is asked of it.
            WidthError: Ratios outside (0, 1], or for groups the network doesn't have, or
                `whole` names no layer.
            BudgetError: No widths meet ``flops``; names the smallest figure there is.
        """

    def held(self, space: Space) -> frozenset[str]:
        """Return the names of the groups that `whole` keeps at full width; see `groups_of`."""
        return groups_of(space, self.whole)

    def density_layers(self, space: Space) -> dict[str, int]:
        """Return the layers that densities can be given for, each with its stage, by name.

        None, unless `takes_densities`.

        Raises:
            MethodError: No layer is left to lose weights.
            WidthError: `whole` names no layer.
        """
        del space
        return {}

    def proportioned(
        self,
        space: Space,
        ratios: float | Mapping[str, float],
        *,
        flops: int | None,
        fixed: Collection[str] = (),
    ) -> Architecture:
        """Return the architecture at these ratios, those of `whole` at 1, or scaled onto a budget.

        What predefined methods' `derive` answers with; see there.
        """
        held = self.held(space)
        named = ratios if isinstance(ratios, Mapping) else {g.name: ratios for g in space.groups}
        asked = {**named, **dict.fromkeys(held, 1.0)}
        if flops is None:
            return space.architecture(asked)
        return space.fit(asked, flops=flops, fixed={*fixed, *held}, tolerance=None)


def groups_of(space: Space, layers: Collection[str]) -> frozenset[str]:
    """Return the names of the free groups that these layers are part of.

    Args:
        space: Of the dense network.
        layers: Layers' or groups' names, or a module's for all layers in it; they may have `*` and
            `?`. Those of frozen groups stand for none.

    Raises:
        WidthError: A name is no layer that makes channels, nor a module with one.
    """
    groups: list[ChannelGroup | FrozenGroup] = [*space.groups, *space.frozen]
    known = [  # a layer that makes several groups is there with each
        (layer, group.name) for group in groups for layer in (group.name, *group.layers)
    ]
    found = set()
    for pattern in layers:
        own = {
            group
            for layer, group in known
            if fnmatchcase(layer, pattern) or fnmatchcase(layer, f"{pattern}.*")
        }
        if not own:
            names = dict.fromkeys(layer for layer, _ in known)
            raise WidthError(unknown(f"layer of {space.source}", pattern, names))
        found |= own
    return frozenset(group.name for group in space.groups if group.name in found)


def refuse_ratios(method: str, ratios: Mapping[str, float] | None) -> None:
    """Raise `MethodError` where ratios are given to a method that sets its own."""
    if ratios is not None:
        raise MethodError(
            f"a method follows given ratios only where takes_ratios is true, but {method} sets "
            f"its own and got ratios for {len(ratios)} groups"
        )


def strongest(scores: Tensor, width: int, divisor: int) -> Tensor:
    """Return the ``width`` channels of highest score, sorted, int64 of shape ``(width,)``.

    A group with a divisor d above 1 is read by a layer that cuts its channels into d blocks
    (grouped convolution, group normalisation). Every block has to keep as many channels as any
    other, so the strongest ``width / d`` are taken within each. Of equals the first are kept.

    Args:
        scores: One for each channel of the dense group, shape ``(dense width,)``.
        width: Channels to keep; a multiple of ``divisor``, at least one for each block.
        divisor: Of the group; divides the dense width too.
    """
    blocks = scores.reshape(divisor, -1)
    order = blocks.argsort(dim=1, descending=True, stable=True)[:, : width // divisor]
    first = torch.arange(divisor).unsqueeze(1) * blocks.shape[1]
    return (order.cpu() + first).flatten().sort().values


def share_kept(architecture: Architecture, dense: Architecture) -> float:
    """Return the share of the free groups' channels that is left, in (0, 1]."""
    return sum(architecture.widths.values()) / sum(dense.widths.values())


Score = Callable[[Space, ChannelGroup, nn.Module], Tensor]
"""One float64 for each channel of a group, shape ``(group width,)``: how much it matters."""


def inherit_strongest(dense: Dense, architecture: Architecture, score: Score) -> Inheritance:
    """Return the trained dense network's weights at the channels of highest score.

    Args:
        dense: Trained, unless it has been.
        architecture: Says how many channels of each group stay.
        score: Of a group, in the trained dense network.
    """
    space = dense.space
    network, state = dense.network(), dense.state()
    network.load_state_dict(state)
    kept = {
        group.name: strongest(
            score(space, group, network), architecture.widths[group.name], group.divisor
        )
        for group in space.groups
    }
    kept |= space.selected(architecture)  # channel selections have no weights to rank
    return Inheritance(kept, space.inherit(state, kept))
