"""Densities given layer by layer: for which layers, and onto a budget."""

from collections.abc import Collection, Mapping
from math import prod

from prunenas.architecture import Space
from prunenas.errors import MethodError
from prunenas.methods._base import Method, groups_of
from prunenas.methods._positions import stages, weights_of
from prunenas.methods._weight_level import Layers, is_in, largest_share, too_small


def layers_of(space: Space, layers: Layers, whole: tuple[str, ...]) -> dict[str, int]:
    """Return the layers that may lose weights, each with its stage, by name.

    As ``_weight_level.prunable``, without a network.

    Raises:
        MethodError: There are none.
        WidthError: ``whole`` names no layer.
    """
    groups_of(space, whole)  # refuses names that are no layer's
    of = stages(space)
    found = {
        name: of[name]
        for name, shape in weights_of(space.dense)
        if layers == "all" or len(shape) > 2
        if not any(is_in(name, pattern) for pattern in whole)
    }
    if not found:
        raise MethodError(f"no layer of {space.source} is left to drop weights from")
    return found


def given(
    method: Method, space: Space, densities: Mapping[str, float], weights: Collection[str]
) -> dict[str, float]:
    """Return the densities that a method is given, by the names of weights.

    Args:
        method: Whose layers they must be for.
        space: Of the network.
        densities: By the names of layers.
        weights: The names of those that may lose entries.

    Raises:
        MethodError: A layer has none, a name is no layer that may lose weights, or a density is
            not in (0, 1].
    """
    known = method.density_layers(space)
    missing = [name for name in weights if name.removesuffix(".weight") not in densities]
    strange = sorted(densities.keys() - known.keys())
    if missing or strange:
        told = [f"{missing[0].removesuffix('.weight')} has none"] if missing else []
        told += [f"{strange[0]} is no such layer"] if strange else []
        raise MethodError(
            "densities must be given for all layers that may lose weights and no others, but "
            f"{' and '.join(told)}. Known: {', '.join(known)}"
        )
    for name, density in densities.items():
        if not 0 < density <= 1:
            raise MethodError(f"`0 < density <= 1` must hold, but it is {density:g} for {name}")
    return {name: densities[name.removesuffix(".weight")] for name in weights}


def scaled(
    densities: Mapping[str, float],
    counts: Mapping[str, int],
    costs: Mapping[str, int],
    budget: int,
    fixed: Collection[str] = (),
) -> dict[str, float]:
    """Return densities whose kept weights cost as much as a budget allows, and no more.

    All are multiplied by a common factor, found by bisection, and are at most 1; those of fixed
    layers stay.

    Args:
        densities: In (0, 1], by the weight's name.
        counts: Number of weights.
        costs: Multiply-adds of one weight.
        budget: What all that are kept may cost together.
        fixed: Layers that keep their density, by their names (without ``.weight``).

    Raises:
        BudgetError: Fixed layers and one weight of each other cost more.
    """
    free = [name for name in densities if name.removesuffix(".weight") not in fixed]
    least = min((densities[name] for name in free), default=1.0)

    def at(share: float) -> dict[str, float]:
        # The smallest becomes `share`: at 1 every layer is whole.
        moved = {name: min(1.0, share * (densities[name] / least)) for name in free}
        return {**densities, **moved}

    def cost(share: float) -> int:
        # As `_weight_level.per_layer` keeps them.
        return sum(
            costs[name] * max(1, round(density * counts[name]))
            for name, density in at(share).items()
        )

    found = largest_share(lambda share: cost(share) <= budget)
    if found is None:
        raise too_small(cost(1e-12), budget)
    return at(found)


def sparse_flops(space: Space, densities: Mapping[str, float]) -> int:
    """Return the multiply-adds that are left where layers keep these shares of their weights.

    Args:
        space: Of the network.
        densities: In (0, 1], by the names of layers; others keep all.
    """
    made, found = space.layer_flops(), space.dense.flops
    for name, shape in weights_of(space.dense):
        count = prod(shape)
        gone = count - max(1, round(densities.get(name, 1.0) * count))
        found -= made.get(name, 0) // count * gone
    return found
