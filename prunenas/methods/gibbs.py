"""Gibbs pruning.

Labach, Valaee, "A Framework for Neural Network Pruning Using Gibbs Distributions", GLOBECOM 2020
(arXiv 2006.04981). Automatic: a network is trained once, from scratch, and at every step each layer
draws a fresh mask from a Gibbs distribution over its current weights (see ``_gibbs``), whose
inverse temperature ``beta`` rises from epoch to epoch: at first about half of the weights are off
at random, in the end those below the layer's threshold are off for sure. The threshold is the
percentile of the layer's squared weights (or kernels' or filters' mean squares) at ``1 - density``.

``unit`` says what goes as one. The result is the mask of those above the threshold, ``beta`` at
infinity. In the notes ``convergence`` is the largest ``4 p (1 - p)`` of any weight's probability to
be off at the end, averaged over each layer: 0 where the draws had become certain.

Differs from the paper: the optimiser is the study's, SGD, where the authors' code takes Adam. The
temperature is that of ``w^2`` over its mean in the layer, since what hardens is the product of beta
and the spread of squares; ``absolute: true`` takes ``w^2`` itself, as the code does. The schedule's
length is a share of the epochs, ``anneal``, the code's 128 of 200. Masks are not drawn when the
network is evaluated: then it is the hard mask's. A FLOPs budget sets the density of all layers. All
convolutions but the first take part; the code leaves those outside of residual blocks whole.
"""

from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from prunenas.methods._base import Derivation, Granular, Inheritance, Method, refuse_ratios
from prunenas.methods._gibbs import (
    draw_filters,
    draw_kernels,
    draw_weights,
    off_probability,
    threshold,
    unit_means,
)
from prunenas.methods._weight_level import (
    costs_of,
    dropped_state,
    masked_budget,
    per_layer,
    prunable,
    share_within,
    sparse_architecture,
    unit_scores,
)
from prunenas.methods.dense import Dense

Unit = Literal["weight", "kernel", "filter"]

SCHEDULE: Mapping[Unit, tuple[float, float]] = {
    "weight": (0.0, 4.0),
    "kernel": (0.0, 4.0),
    "filter": (-2.5, 0.0),
}
"""Decimal logarithms of the first and last beta: the authors' code."""

COUPLING: Mapping[Unit, float] = {"weight": 0.0, "kernel": 0.01, "filter": 1.0}
"""c of the authors' example."""

_SWEEPS = 50  # of the authors' code
_PREFIX, _SUFFIX = "parametrizations.weight.", ".original"


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
        description="Whether beta is that of the squares themselves, as in the authors' code.",
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
        space, network = dense.space, dense.network()
        weights = prunable(space, network, "convolutions", self.whole)
        scores = unit_scores(weights, self.unit)
        costs = costs_of(space, weights, self.unit)
        density = self.density
        if flops is not None:
            budget = masked_budget(space, costs, scores, flops)
            density = share_within(scores, costs, budget)
        names = [name.removesuffix(".weight") for name in weights]
        epochs = dense.recipe.epochs
        last = max(1, round(self.anneal * epochs))

        def prepare(network: nn.Module) -> None:
            self._put_on(network, names, density)
            self._cool(network, 0, last)

        trained = dense.train(
            prepare=prepare,
            after_epoch=lambda network, epoch: self._cool(network, epoch, last),
            key={
                "method": "gibbs",
                "density": density,
                "last": last,
                **self.model_dump(mode="json", exclude={"density", "whole", "anneal"}),
                "layers": names,
            },
            what=f"gibbs (density {density:.2g})",
        )
        state = plain_state(trained.state)
        learned = {name: state[name] for name in weights}
        squares = unit_scores({name: value.square() for name, value in learned.items()}, self.unit)
        keep = per_layer(squares, dict.fromkeys(squares, density))
        architecture = sparse_architecture(space, keep, self.unit)
        return Derivation(
            architecture,
            notes={
                "density": architecture.density,
                "convergence": self._uncertainty(learned, density, last, epochs),
                "gibbs_accuracy": trained.validation.accuracy,
            },
            inherit=lambda: Inheritance({}, dropped_state(state, architecture.masks)),
        )

    def _put_on(self, network: nn.Module, layers: Collection[str], density: float) -> None:
        for name in layers:
            layer = network.get_submodule(name)
            drawing = Drawing(self.unit, density, relative=not self.absolute)
            parametrize.register_parametrization(layer, "weight", drawing)

    def _cool(self, network: nn.Module, epoch: int, last: int) -> None:
        """Set beta for the epoch that follows ``epoch`` finished ones."""
        for module in network.modules():
            if isinstance(module, Drawing):
                module.beta.fill_(beta_at(self.unit, epoch, last))

    def _uncertainty(
        self, weights: Mapping[str, Tensor], density: float, last: int, epochs: int
    ) -> float:
        beta, worst = beta_at(self.unit, epochs - 1, last), 0.0
        for weight in weights.values():
            field = Drawing(self.unit, density, relative=not self.absolute).field(weight)
            off = off_probability(field, beta)
            worst = max(worst, float((4 * off * (1 - off)).mean()))
        return worst


def beta_at(unit: Unit, epoch: int, last: int) -> float:
    """Return beta of an epoch, from 0: equal factors from the first to the last of the schedule."""
    low, high = SCHEDULE[unit]
    share = 1.0 if last <= 1 else min(1.0, epoch / (last - 1))
    return float(10 ** (low + (high - low) * share))


class Drawing(nn.Module):
    """A weight under a mask: drawn at every step in training, the hard one in evaluation."""

    beta: Tensor

    def __init__(self, unit: Unit, density: float, *, relative: bool) -> None:
        super().__init__()
        self.unit, self.density, self.relative = unit, density, relative
        self.register_buffer("beta", torch.tensor(1.0))

    def field(self, weight: Tensor) -> Tensor:
        """Return ``Q - w^2`` of a weight, over the mean of ``w^2`` where that is asked."""
        squares = weight.detach().float().square()
        if self.relative:
            squares = squares / squares.mean().clamp(min=torch.finfo(squares.dtype).tiny)
        return threshold(squares, self._dims(weight), 1 - self.density) - squares

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight times a mask; gradients pass where the mask is 1."""
        return weight * self.mask(weight).to(weight.dtype)

    @torch.no_grad()
    def mask(self, weight: Tensor) -> Tensor:
        """Return a mask, bool of the weight's shape."""
        field, dims = self.field(weight), self._dims(weight)
        means = unit_means(-field, dims)  # w^2 - Q of each unit
        hard = means >= 0
        if not self.training:
            return hard.reshape(*hard.shape, *[1] * (weight.dim() - dims)).expand_as(weight)
        beta, coupling = float(self.beta), COUPLING[self.unit]
        if self.unit == "weight":
            return draw_weights(field, beta, None)
        if self.unit == "kernel":
            return draw_kernels(field, beta, coupling, None)
        return draw_filters(field, beta, coupling, hard, _SWEEPS, None)

    def _dims(self, weight: Tensor) -> int:
        return {"weight": weight.dim(), "kernel": 2, "filter": 1}[self.unit]


def plain_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without the masks that were drawn, under the network's own names."""
    return {
        name.replace(_PREFIX, "").replace("original", "weight") if _PREFIX in name else name: value
        for name, value in state.items()
        if _PREFIX not in name or name.endswith(_SUFFIX)
    }
