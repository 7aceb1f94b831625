"""Which weights to keep: the set that lowers the risk most for each second of a round.

Source: Jiang et al., "Model Pruning Enables Efficient Federated Learning on Edge Devices"
(PruneFL), arXiv 1909.12326. Of a set M of weights the gain is the sum of its squared gradients,
what one step lowers the risk by to first order; T(M) is the time of a round. Wanted is the largest
``Gamma(M) = gain(M) / T(M)`` among all sets that hold the protected weights.

The paper's greedy is exact: weights in order of gain for each second, as long as the next one's
ratio is above the Gamma reached. While it is, adding it leaves Gamma below that ratio and above
what it was; from the first that fails on, none helps. So what is chosen are all candidates above
the final Gamma, and of equal ratios all or none. A weight without gradient never is.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from prunenas.errors import FederatedError
from prunenas.federated.time import TimeModel, positive


def search(
    protected: Mapping[str, int],
    candidates: Mapping[str, Tensor],
    gain: float,
    time: TimeModel,
    *,
    limit: int | None = None,
) -> dict[str, Tensor]:
    """Choose candidates so that Gamma is largest.

    The paper's authors pop a heap of per-layer sorted lists, weight by weight. Here those lists are
    merged by one sort, and Gamma before each weight comes of running sums in that same order: the
    first that fails is the same one, without a Python step for each weight. As Gamma only grows,
    candidates that are not above the protected weights' Gamma are left out before sorting.

    Args:
        protected: How many weights each layer keeps in any case, by the time model's names.
        candidates: Squared gradients of each layer's other weights, shape ``(n,)``, >= 0.
        gain: Sum of squared gradients of everything protected, of what is never pruned as well.
        time: Seconds of a round.
        limit: Largest number of weights kept, the protected ones included; these stay where they
            are more. Without it, no limit.

    Returns:
        By the layer's name, int64, the places in its candidates that are chosen: the largest
        squared gradient first, of equal ones the one that comes first, and of layers with equal
        ratios the first layer's.

    Raises:
        FederatedError: Layers are not the time model's, or ``gain`` or a squared gradient is
            negative or not finite.
    """
    time.check(candidates)
    seconds = time.round_seconds(protected)
    for name, values in [("what is protected", _double(gain)), *candidates.items()]:
        _check_squares(name, values)
    lowest = gain / seconds
    names = list(time.layers)
    orders, squares = [], []
    for name in names:
        values = candidates[name]
        places = (values.double() / time.layers[name] > lowest).nonzero().squeeze(1)
        ordered, order = values[places].sort(descending=True, stable=True)
        orders.append(places[order])
        squares.append(ordered.double().numpy())
    costs = np.array([time.layers[name] for name in names])
    layers = np.repeat(np.arange(len(names)), [len(each) for each in squares])
    gains = np.concatenate(squares)
    # Negative, to descend; a stable sort of sorted runs is a merge, and keeps their order.
    merged = np.argsort(-gains / costs[layers], kind="stable")
    if limit is not None:
        merged = merged[: max(0, limit - sum(protected.values()))]
    chosen = _first_failure(gains[merged], costs[layers[merged]], gain, seconds)
    counts = np.bincount(layers[merged[:chosen]], minlength=len(names)).tolist()
    return {name: order[:count] for name, order, count in zip(names, orders, counts, strict=True)}


def reconfigure(
    weights: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    importance: Mapping[str, Tensor],
    other_gain: float,
    time: TimeModel,
    *,
    removable: float,
    max_density: float | None = None,
) -> dict[str, Tensor]:
    """Choose new masks: some of the small weights may go, any dropped one may come back.

    In each layer all but ``int(removable * n)`` of the n weights kept are protected, the largest
    ones; where sizes are equal, the first. The rest and everything dropped are candidates.

    Differs from the authors' code, which protects more where sizes are equal, and whose limit is
    one weight higher. A layer never becomes empty; one that is gets its weight with the largest
    squared gradient. [our choice]

    Args:
        weights: Finite, by the time model's names. What is dropped may have any value.
        masks: Bool of the same shapes: what is kept now.
        importance: Squared gradients, float of the same shapes, >= 0, of dropped weights too.
        other_gain: Sum of squared gradients of everything that is never pruned.
        time: Seconds of a round.
        removable: Share of each layer's kept weights that may go, in [0, 1); see `removable_at`.
        max_density: Largest share of all weights that is kept, in (0, 1]; protected weights stay
            where they are more. Without it, no limit.

    Returns:
        New masks, bool of the same shapes.

    Raises:
        FederatedError: Layers are not the time model's, shapes differ, or a number is out of range.
    """
    if not 0 <= removable < 1:
        raise FederatedError(f"0 <= removable < 1 must hold, but it is {removable}")
    if max_density is not None and not 0 < max_density <= 1:
        raise FederatedError(f"0 < max_density <= 1 must hold, but it is {max_density}")
    for each in (weights, masks, importance):
        time.check(each)
    _check_squares("what is never pruned", _double(other_gain))
    kept, gain = {}, other_gain
    for name in time.layers:
        _check_layer(name, weights[name], masks[name], importance[name])
        squares = importance[name].flatten()
        _check_squares(name, squares)
        kept[name] = _protected(weights[name].flatten(), masks[name].flatten(), squares, removable)
        gain += float(squares[kept[name]].sum(dtype=torch.float64))
    total = sum(mask.numel() for mask in kept.values())
    chosen = search(
        {name: int(mask.sum()) for name, mask in kept.items()},
        # What is protected can't be chosen again: 0 never is.
        {name: importance[name].flatten().masked_fill(kept[name], 0.0) for name in kept},
        gain,
        time,
        limit=None if max_density is None else int(max_density * total),
    )
    for name, places in chosen.items():
        kept[name][places] = True
    return {name: mask.reshape(masks[name].shape) for name, mask in kept.items()}


def removable_at(round: int, *, initial: float = 0.3, half_life: float = 10_000) -> float:
    """Return the share of a layer's kept weights that a reconfiguration may remove.

    Source: PruneFL's simulation code, ``initial * 0.5 ** (round / half_life)``.

    Args:
        round: Rounds done.
        initial: The share at round 0, in [0, 1).
        half_life: Rounds in which it halves, > 0; infinity leaves it.

    >>> removable_at(0), removable_at(10_000)
    (0.3, 0.15)
    """
    if half_life != float("inf"):
        positive("the half-life of what may be removed", half_life)
    share: float = initial * 0.5 ** (round / half_life)
    return share


def _first_failure(gains: np.ndarray, costs: np.ndarray, gain: float, seconds: float) -> int:
    """Return how many weights, in order of falling ratio, come before the first that fails."""
    # Sums before each weight, added up one after the other as the heap does.
    gained = np.cumsum(np.concatenate(([gain], gains)))[:-1]
    spent = np.cumsum(np.concatenate(([seconds], costs)))[:-1]
    failing = gains / costs <= gained / spent
    return int(failing.argmax()) if failing.any() else len(failing)


def _protected(weights: Tensor, mask: Tensor, squares: Tensor, removable: float) -> Tensor:
    """Return which weights of a layer stay in any case, bool ``(n,)``: one at least."""
    kept = int(mask.sum())
    if not kept:
        stays = torch.zeros_like(mask)
        stays[squares.argmax()] = True
        return stays
    leaving = int(removable * kept)
    if not leaving:
        return mask.clone()
    sizes = weights.abs().masked_fill(~mask, -1.0)
    smallest = sizes[mask].kthvalue(leaving + 1).values
    stays = sizes > smallest
    equal = (sizes == smallest).nonzero().squeeze(1)
    stays[equal[: kept - leaving - int(stays.sum())]] = True
    return stays


def _check_layer(name: str, weights: Tensor, mask: Tensor, importance: Tensor) -> None:
    if not weights.shape == mask.shape == importance.shape or not weights.numel():
        shapes = ", ".join(str(tuple(each.shape)) for each in (weights, mask, importance))
        raise FederatedError(
            f"weights, mask and squared gradients of {name} must have one shape, but have {shapes}"
        )
    if not torch.isfinite(weights[mask].sum(dtype=torch.float64)):
        raise FederatedError(f"the weights of {name} must be finite, but are not")


def _check_squares(name: str, values: Tensor) -> None:
    # A sum in double precision is finite where all numbers in single precision are.
    if values.numel() and not (
        float(values.min()) >= 0 and torch.isfinite(values.sum(dtype=torch.float64))
    ):
        raise FederatedError(
            f"squared gradients must be finite and >= 0, but those of {name} aren't"
        )


def _double(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
