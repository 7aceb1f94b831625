"""Gibbs pruning's masks on a network's layers: temperature, scale, and how firm they are.

See ``gibbs`` for the method and ``_gibbs`` for the distributions.
"""

from collections.abc import Collection, Mapping
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from prunenas.methods._gibbs import (
    draw_filters,
    draw_kernels,
    draw_weights,
    first_half,
    threshold,
    unit_means,
)

Unit = Literal["weight", "kernel", "filter"]

SCHEDULE: Mapping[Unit, tuple[float, float]] = {
    "weight": (0.0, 4.0),
    "kernel": (0.0, 4.0),
    "filter": (-2.5, 0.0),
}
"""Decimal logarithms of the first and last beta: the authors' code."""

COUPLING: Mapping[Unit, float] = {"weight": 0.0, "kernel": 0.01, "filter": 1.0}
"""c of the authors' example."""

MEAN_SQUARE = 2 / 144
"""Of He's initialisation of the authors' first stage, 3x3 kernels over 16 channels."""

_OTHERS: Mapping[Unit, int] = {"weight": 1, "kernel": 8, "filter": 72}
"""How many weights each of a kernel or half a filter is coupled to in that stage."""

_SWEEPS = 50  # of the authors' code
_SEED = 200604981  # no seed of a training: weights drawn from equal numbers would depend on them
_DRAWN = ".parametrizations.weight."


def beta_at(unit: Unit, epoch: int, last: int) -> float:
    """Return beta of an epoch: equal factors from the first to the last of the schedule.

    Args:
        unit: Whose schedule.
        epoch: From 0.
        last: How many epochs the schedule takes; from then on beta stays.
    """
    low, high = SCHEDULE[unit]
    share = 1.0 if last <= 1 else min(1.0, epoch / (last - 1))
    return float(10 ** (low + (high - low) * share))


class Drawing(nn.Module):
    """A weight under a mask: drawn at every step in training, the hard one in evaluation.

    Attributes:
        beta: Inverse temperature, shape ``()``.
    """

    beta: Tensor

    def __init__(self, unit: Unit, density: float, *, relative: bool) -> None:
        """Args: what goes as one, the share to keep, and whether any layer is as the first stage.

        With ``relative`` a layer's squares are scaled to the mean `MEAN_SQUARE`, and its coupling
        so that all that a weight is coupled to weighs as much as there.
        """
        super().__init__()
        self.unit, self.density, self.relative = unit, density, relative
        self.register_buffer("beta", torch.tensor(1.0))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight times a mask; gradients pass where the mask is 1."""
        mask = self.draw(weight) if self.training else self.hard(weight)
        return weight * mask.to(weight.dtype)

    def scaled(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``w^2`` of a weight, float32 of its shape, and Q, of shape ``()``."""
        squares = weight.detach().float().square()
        if self.relative:
            squares *= MEAN_SQUARE / squares.mean().clamp(min=torch.finfo(squares.dtype).tiny)
        return squares, threshold(squares, self._dims(weight), 1 - self.density)

    def coupling(self, shape: tuple[int, ...]) -> float:
        """Return c of a layer whose weight has this shape."""
        own, others = COUPLING[self.unit], _OTHERS[self.unit]
        if not self.relative or self.unit == "weight":
            return own
        if self.unit == "kernel":
            return own * others / max(1, prod(shape[2:]) - 1)
        # An odd number of channels makes uneven halves: their mean.
        return own * others / (prod(shape[1:]) / 2) if first_half(shape) else own

    @torch.no_grad()
    def hard(self, weight: Tensor) -> Tensor:
        """Return the mask of the units at or above the threshold, bool of the weight's shape."""
        on = self._above(*self.scaled(weight))
        return on.reshape(*on.shape, *[1] * (weight.dim() - on.dim())).expand_as(weight)

    @torch.no_grad()
    def draw(self, weight: Tensor, random: torch.Generator | None = None) -> Tensor:
        """Return a mask drawn at the present beta, bool of the weight's shape.

        Args:
            weight: Of the layer.
            random: On the CPU; None for the global one.
        """
        squares, least = self.scaled(weight)
        field, beta = least - squares, float(self.beta)
        if self.unit == "weight":
            return draw_weights(field, beta, random)
        coupling = self.coupling(tuple(weight.shape))
        if self.unit == "kernel":
            return draw_kernels(field, beta, coupling, random)
        start = self._above(squares, least)
        return draw_filters(field, beta, coupling, start, _SWEEPS, random)

    def _above(self, squares: Tensor, least: Tensor) -> Tensor:
        return unit_means(squares, self._dims(squares)) >= least

    def _dims(self, weight: Tensor) -> int:
        return {"weight": weight.dim(), "kernel": 2, "filter": 1}[self.unit]


def put_on(
    network: nn.Module, layers: Collection[str], unit: Unit, density: float, *, relative: bool
) -> None:
    """Have these layers' weights drawn; see `Drawing`."""
    for name in layers:
        layer = network.get_submodule(name)
        drawing = Drawing(unit, density, relative=relative)
        parametrize.register_parametrization(layer, "weight", drawing)


def cool(network: nn.Module, beta: float) -> None:
    """Set beta of all layers."""
    for module in network.modules():
        if isinstance(module, Drawing):
            module.beta.fill_(beta)


def disagreement(drawing: Drawing, weight: Tensor, beta: float, *, draws: int = 4) -> float:
    """Return the share of weights that a draw at this beta has otherwise than the hard mask.

    The mean over some draws from a seed of its own. At beta 0 all is a coin's: 0.5; where nothing
    is left to chance 0.

    Args:
        drawing: Of the layer; its beta changes.
        weight: Of the layer.
        beta: Inverse temperature.
        draws: How many.
    """
    random = torch.Generator().manual_seed(_SEED)
    drawing.beta.fill_(beta)
    hard = drawing.hard(weight)
    differ = [(drawing.draw(weight, random) != hard).double().mean() for _ in range(draws)]
    return float(torch.stack(differ).mean())


def plain_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without the masks that were drawn, under the network's own names."""
    plain = {}
    for name, value in state.items():
        layer, drawn, rest = name.partition(_DRAWN)
        if not drawn:
            plain[name] = value
        elif rest == "original":
            plain[f"{layer}.weight"] = value
    return plain
