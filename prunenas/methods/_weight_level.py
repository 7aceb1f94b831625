"""What methods that drop weights, kernels or filters share: which layers, at what density."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from math import prod
from typing import Literal

from torch import Tensor, nn

from prunenas.architecture import (
    Architecture,
    Granularity,
    Mask,
    Space,
    build,
    masked_weights,
    with_masks,
)
from prunenas.errors import BudgetError, MethodError
from prunenas.methods._base import groups_of
from prunenas.methods._units import DISTRIBUTIONS, Scores, strongest, within

Layers = Literal["convolutions", "all"]
Distribution = Literal["global", "uniform", "erk"]

DIMS: Mapping[Granularity, int | None] = {"weight": None, "kernel": 2, "filter": 1}
"""How many dimensions of a weight number the units; None: all."""


def prunable(
    space: Space, network: nn.Module, layers: Layers, whole: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Return the weights that may lose entries by name, in the order of the modules.

    Args:
        space: Of the network.
        network: The dense network.
        layers: Whether linear layers' are among them.
        whole: Layers that keep all; see ``Method.whole``.

    Raises:
        MethodError: There are none.
        WidthError: ``whole`` names no layer.
    """
    groups_of(space, whole)  # refuses names that are no layer's
    found = {
        name: weight
        for name, weight in masked_weights(network).items()
        if layers == "all" or weight.dim() > 2
        if not any(is_in(name.removesuffix(".weight"), pattern) for pattern in whole)
    }
    if not found:
        raise MethodError(f"no layer of {space.source} is left to drop weights from")
    return found


def masks_for(
    scores: Scores,
    costs: Mapping[str, int],
    distribution: Distribution,
    *,
    density: float,
    budget: int | None,
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, Tensor]:
    """Return which units are kept: a share of them, or what a budget allows.

    Args:
        scores: Of the units by the weight's name; the highest are kept.
        costs: Multiply-adds of a unit.
        distribution: ``global``: the highest of all layers; else those of each layer at the
            densities that ``_units.DISTRIBUTIONS`` gives it.
        density: Share of the weights to keep; without a budget.
        budget: What the units kept may cost together, instead.
        shapes: Of the weights.
    """
    if distribution == "global":
        if budget is not None:
            return within(scores, costs, budget)
        return strongest(scores, round(density * sum(score.numel() for score in scores.values())))

    def at(share: float) -> dict[str, Tensor]:
        densities = DISTRIBUTIONS[distribution](shapes, share)
        return per_layer(scores, densities)

    if budget is None:
        return at(density)
    fits = largest_share(lambda share: _cost(at(share), costs) <= budget)
    if fits is None:
        least = _cost(at(1e-12), costs)
        raise too_small(least, budget)
    return at(fits)


def per_layer(scores: Scores, densities: Mapping[str, float]) -> dict[str, Tensor]:
    """Return each layer's units of highest score at its own density, one at least."""
    return {
        name: strongest({name: score}, round(densities[name] * score.numel()))[name]
        for name, score in scores.items()
    }


def costs_of(
    space: Space, weights: Mapping[str, Tensor], granularity: Granularity
) -> dict[str, int]:
    """Return the multiply-adds that one unit of each weight makes for one input."""
    made = space.layer_flops()
    return {
        name: made.get(name.removesuffix(".weight"), 0)
        // weight.numel()
        * unit_size(weight, granularity)
        for name, weight in weights.items()
    }


def unit_size(weight: Tensor, granularity: Granularity) -> int:
    """Return how many weights are in a unit."""
    dims = DIMS[granularity]
    return 1 if dims is None else prod(weight.shape[dims:])


def unit_scores(weights: Mapping[str, Tensor], granularity: Granularity) -> dict[str, Tensor]:
    """Return each unit's mean size, float32 of the units' shape."""
    dims = DIMS[granularity]
    return {
        name: weight.detach().abs().float()
        if dims is None
        else weight.detach().abs().float().flatten(dims).mean(dim=dims)
        if weight.dim() > dims
        else weight.detach().abs().float()
        for name, weight in weights.items()
    }


def masked_budget(space: Space, costs: Mapping[str, int], scores: Scores, flops: int) -> int:
    """Return what is left of a budget for the layers that lose weights.

    Raises:
        BudgetError: The other layers alone cost more.
    """
    whole = sum(costs[name] * score.numel() for name, score in scores.items())
    others = space.dense.flops - whole
    if others > flops:
        raise BudgetError(
            f"layers that keep all their weights cost {others:,} FLOPs, but the budget is {flops:,}"
        )
    return flops - others


def sparse_architecture(
    space: Space, keep: Mapping[str, Tensor], granularity: Granularity = "weight"
) -> Architecture:
    """Return the dense network's architecture with these masks."""
    network = build(space.dense, trust=True)
    return with_masks(space, space.dense, network, keep, granularity)


def whole_masks(masks: Mapping[str, Mask]) -> dict[str, Tensor]:
    """Return masks for each weight, bool."""
    return {name: mask.tensor() for name, mask in masks.items()}


def dropped_state(state: Mapping[str, Tensor], masks: Mapping[str, Mask]) -> dict[str, Tensor]:
    """Return a state dict with the dropped weights at 0."""
    return {
        name: value.masked_fill(~masks[name].tensor(), 0.0) if name in masks else value
        for name, value in state.items()
    }


def is_in(layer: str, pattern: str) -> bool:
    """Return whether a pattern names a layer, or a module that it is in."""
    return fnmatchcase(layer, pattern) or fnmatchcase(layer, f"{pattern}.*")


def _cost(masks: Mapping[str, Tensor], costs: Mapping[str, int]) -> int:
    return sum(costs[name] * int(mask.sum()) for name, mask in masks.items())


def too_small(least: int, budget: int) -> BudgetError:
    """Return the error of a budget that not even one weight of each layer meets."""
    return BudgetError(
        f"every layer keeps a weight, so that {least:,} FLOPs of masked layers are left at "
        f"least, but the budget allows them {budget:,}"
    )


def largest_share(holds: Callable[[float], bool]) -> float | None:
    """Return the largest share in (0, 1] for which something holds, None where it does for none.

    It must hold for all smaller ones too.
    """
    low, high = 1e-12, 1.0
    if holds(high):
        return high
    if not holds(low):
        return None
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
