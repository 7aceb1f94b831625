"""Gibbs pruning.

Labach, Valaee, "A Framework for Neural Network Pruning Using Gibbs Distributions", GLOBECOM 2020
(arXiv 2006.04981). Automatic: a network is trained once, from scratch, and at every step each layer
draws a fresh mask from a Gibbs distribution over its current weights (see ``_gibbs``), whose
inverse temperature ``beta`` rises from epoch to epoch: at first about half of the weights are off
at random, in the end those below the layer's threshold are off for sure. The threshold is the
percentile of the layer's squared weights (or kernels' or filters' mean squares) at ``1 - density``.

``unit`` says what goes as one. The result is the mask of those at or above the threshold, ``beta``
at infinity. In the notes ``convergence`` is the share of weights at which a mask drawn at the last
beta differs from it, of the layer where that is largest: 0.5 where draws are a coin's, 0 where they
have become certain.

``narrow`` turns filters that are off into fewer channels. A channel of a residual stream goes if
all layers that write to it have it off; else, and wherever a layer that takes no part writes to it,
its filters stay under masks, ``filters_masked`` of them. What the channels passed on is folded into
the layers that read them (see ``_folding``); ``folding_error`` is what that changes, the largest
difference of a logit on training images over the largest logit. A network that pads its maps has
some.

As in the paper the first convolution stays whole, unless there is no other.

Differs from the paper: the optimiser is the study's, SGD, where the authors' code takes Adam. What
hardens is the product of beta and the spread of ``w^2``, and that of beta and a layer's coupling:
the code's constants, made for 3x3 convolutions of 16 channels, leave a layer of small weights
random to the end, and the filters of a wide one fixed from the start. Here ``w^2`` is scaled to the
mean that it has there, 2 / 144, and the coupling so that the other weights of a kernel, and the
other half of a filter, pull as strongly as there; ``absolute: true`` takes both as they are. Of one
input channel, where the code's first half of a filter is empty, the halves are of the kernel's
places; a filter of a single weight is always the hard mask's. Sweeps end before the code's 50 where
more would change nothing. The schedule's length is a share of the epochs, ``anneal``, the code's
128 of 200. Masks are not drawn when the network is evaluated: then it is the hard mask's. A FLOPs
budget sets the density of all layers; with ``narrow``, where streams let it depend on which filters
go, it is set once more after the training. All convolutions but the first take part; the code
leaves those outside of residual blocks whole. Narrow networks are not in the paper.
"""

from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, final

from pydantic import Field
from torch import Tensor, nn

from prunenas.architecture import Architecture, Space, build
from prunenas.errors import BudgetError, MethodError
from prunenas.methods._base import Derivation, Granular, Inheritance, Method, refuse_ratios
from prunenas.methods._folding import difference, fold
from prunenas.methods._gibbs import kept_units
from prunenas.methods._gibbs_layers import (
    Drawing,
    Unit,
    beta_at,
    cool,
    disagreement,
    plain_state,
    put_on,
)
from prunenas.methods._narrowing import Narrowing, narrowed
from prunenas.methods._units import strongest
from prunenas.methods._weight_level import (
    costs_of,
    dropped_state,
    largest_share,
    prunable,
    sparse_architecture,
    unit_scores,
    unit_size,
)
from prunenas.methods.dense import Dense, Trained

_IMAGES = 64  # on which constants are measured, and what folding them changes


@final
class Gibbs(Method):
    """Masks are drawn anew at every step, ever more surely, from what the weights are."""

    kind: ClassVar[Literal["predefined", "automatic"]] = "automatic"
    takes_ratios: ClassVar[bool] = False
    granularity: ClassVar[Granular] = "weight"
    source: ClassVar[str] = (
        "Labach and Valaee 2020, A Framework for Neural Network Pruning Using Gibbs "
        "Distributions, GLOBECOM"
    )

    density: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Share of each layer's weights to keep; a FLOPs budget takes its place.",
        json_schema_extra={
            "search": {"low": 0.02, "high": 0.5, "log": True},
            "replaced_by_budget": True,
        },
    )
    unit: Unit = Field(
        "weight",
        description="What is on or off as one: a weight, a kernel, or a filter.",
        json_schema_extra={"search": {"choices": ["filter", "kernel", "weight"]}},
    )
    anneal: float = Field(
        0.64,
        gt=0,
        le=1,
        description="Share of the epochs after which beta has risen to its end.",
        json_schema_extra={"search": {"low": 0.4, "high": 0.9}},
    )
    absolute: bool = Field(
        False,
        strict=True,
        description="Whether squares and coupling are taken as they are, as in the authors' code.",
        json_schema_extra={"search": {"choices": [False, True]}},
    )
    narrow: bool = Field(
        False,
        strict=True,
        description=(
            "Whether filters that are off become fewer channels, where no layer makes the channel "
            "any more; only where `unit` is filter."
        ),
        json_schema_extra={"search": {"choices": [False, True]}},
    )

    def derive(
        self,
        dense: Dense,
        *,
        ratios: Mapping[str, float] | None = None,
        flops: int | None = None,
        fixed: Collection[str] = (),
        seed: int = 0,
    ) -> Derivation:
        """Train under drawn masks, take the hard one; see `Method.derive`."""
        del fixed, seed  # no ratios are given; masks are drawn with the training's own numbers
        refuse_ratios("gibbs", ratios)
        narrow = self.narrow and self.unit == "filter"
        if narrow and dense.recipe.initial != "fresh":
            raise MethodError(
                "gibbs with narrow changes widths, so that retraining must begin with fresh "
                f"weights, but train.initial is {dense.recipe.initial}"
            )
        space = dense.space
        weights = self._taking_part(space, dense.network())
        density = self.density if flops is None else self._fitting(space, weights, flops, narrow)
        trained = self._train(dense, weights, density)
        state = plain_state(trained.state)
        learned = {name: state[name] for name in weights}
        notes = {
            "convergence": self._convergence(dense, learned, density),
            "gibbs_accuracy": trained.validation.accuracy,
        }
        if narrow and flops is not None:
            density = self._fitting(space, learned, flops, narrow)
        keep = _above(_squares(learned, self.unit), density)
        kept = sum(int(keep[name].sum()) * unit_size(learned[name], self.unit) for name in keep)
        notes["density"] = kept / sum(each.numel() for each in learned.values())
        masked = sparse_architecture(space, keep, self.unit)
        state = dropped_state(state, masked.masks)
        if narrow:
            return _narrow(dense, masked, narrowed(space, keep), state, notes)
        return Derivation(masked, notes=notes, inherit=lambda: Inheritance({}, state))

    def _train(self, dense: Dense, weights: Collection[str], density: float) -> Trained:
        """Train the dense network under drawn masks."""
        names = [name.removesuffix(".weight") for name in weights]
        last = self._last(dense)

        def prepare(network: nn.Module) -> None:
            put_on(network, names, self.unit, density, relative=not self.absolute)
            cool(network, beta_at(self.unit, 0, last))

        return dense.train(
            prepare=prepare,
            after_epoch=lambda network, done: cool(network, beta_at(self.unit, done, last)),
            key={
                "method": "gibbs",
                "density": density,
                "last": last,
                **self.model_dump(mode="json", exclude={"density", "whole", "anneal", "narrow"}),
                "layers": names,
            },
            what=f"gibbs (density {density:.2g})",
        )

    def _last(self, dense: Dense) -> int:
        """How many epochs beta rises in."""
        return max(1, round(self.anneal * dense.recipe.epochs))

    def _convergence(self, dense: Dense, learned: Mapping[str, Tensor], density: float) -> float:
        """How far draws of the last epoch are from the result; see the module's header."""
        drawing = Drawing(self.unit, density, relative=not self.absolute)
        beta = beta_at(self.unit, dense.recipe.epochs - 1, self._last(dense))
        return max(disagreement(drawing, each, beta) for each in learned.values())

    def _taking_part(self, space: Space, network: nn.Module) -> dict[str, Tensor]:
        """All convolutions' weights but the first one's in the forward pass."""
        found = prunable(space, network, "convolutions", self.whole)
        every = prunable(space, network, "convolutions")
        first = next(
            (name for layer in space.layer_flops() if (name := f"{layer}.weight") in every), None
        )
        return {name: weight for name, weight in found.items() if name != first} or found

    def _fitting(
        self, space: Space, weights: Mapping[str, Tensor], flops: int, narrow: bool
    ) -> float:
        """The largest density, the same for all layers, that a budget allows.

        With ``narrow`` it depends on the weights, in residual streams; else on their number.
        """
        squares = _squares(weights, self.unit) if narrow else {}
        costs = costs_of(space, weights, self.unit)
        units = {name: each.numel() // unit_size(each, self.unit) for name, each in weights.items()}

        def surviving(density: float) -> int:
            if narrow:
                return narrowed(space, _above(squares, density)).flops
            off = {name: units[name] - kept_units(units[name], 1 - density) for name in units}
            return space.dense.flops - sum(costs[name] * off[name] for name in units)

        found = largest_share(lambda density: surviving(density) <= flops)
        if found is None:
            raise BudgetError(
                f"every layer keeps a {self.unit}, so that {surviving(0.0):,} FLOPs are left at "
                f"least, but the budget is {flops:,}"
            )
        return found


def _squares(weights: Mapping[str, Tensor], unit: Unit) -> dict[str, Tensor]:
    """Each unit's mean square."""
    return unit_scores({name: each.square() for name, each in weights.items()}, unit)


def _above(squares: Mapping[str, Tensor], density: float) -> dict[str, Tensor]:
    """Which units are at or above their layer's threshold."""
    return {
        name: strongest({name: each}, kept_units(each.numel(), 1 - density))[name]
        for name, each in squares.items()
    }


def _narrow(
    dense: Dense,
    masked: Architecture,
    narrowing: Narrowing,
    state: Mapping[str, Tensor],
    notes: Mapping[str, float],
) -> Derivation:
    """The derivation with fewer channels, from the masked dense network and its weights."""
    space = dense.space
    architecture = narrowing.architecture(space)
    images, _ = next(iter(dense.data.train.batches(_IMAGES)))
    network = build(masked, trust=True)
    network.load_state_dict(dict(state))
    fold(space, network, narrowing.kept, images.cpu())
    rebuilt = {name: value.detach().clone() for name, value in network.state_dict().items()}
    weights = space.inherit(rebuilt, narrowing.kept)
    network.load_state_dict(dict(state))
    small = build(architecture, trust=True)
    small.load_state_dict(weights)
    return Derivation(
        architecture,
        notes={
            **notes,
            "channels_removed": sum(space.dense.widths.values())
            - sum(architecture.widths.values()),
            "filters_masked": narrowing.off,
            "folding_error": difference(network, small, images.cpu()),
        },
        inherit=lambda: Inheritance(narrowing.kept, weights, rebuilt),
    )
