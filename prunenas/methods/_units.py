"""From a score for each weight (or kernel, or filter) to the masks of the whole network.

A *unit* is what is kept or dropped as one. Every layer keeps its strongest unit whatever is asked,
so that no layer goes dead. Of equal scores the first in the forward pass are kept.
"""

from collections.abc import Callable, Mapping
from math import prod

import torch
from torch import Tensor

from prunenas.errors import BudgetError

Scores = Mapping[str, Tensor]
"""By the name of a layer's weight a score for each unit, of any shape; the highest are kept."""


def strongest(scores: Scores, count: int) -> dict[str, Tensor]:
    """Return which units are among the ``count`` of highest score of all layers.

    Returns:
        Bool tensors of the scores' shapes. At least one unit of each layer is kept, in place of
        the weakest that others would keep; with fewer units than layers, more than ``count`` are.
    """
    flat = _Flat(scores)
    rest = max(0, count - len(flat.first))
    return flat.masks(flat.order[:rest])


def within(scores: Scores, costs: Mapping[str, int], budget: int) -> dict[str, Tensor]:
    """Return the units of highest score that together cost no more than the budget.

    From the highest on as long as they fit; then those that still do.

    Args:
        scores: Of the units.
        costs: Of one unit in each layer; 0 where it costs nothing.
        budget: What all that are kept may cost.

    Raises:
        BudgetError: One unit of each layer costs more.
    """
    flat = _Flat(scores)
    each = torch.tensor([costs[name] for name in flat.names])
    left = budget - int(each.sum())
    if left < 0:
        raise BudgetError(
            f"every layer keeps a weight, so that {int(each.sum()):,} FLOPs of masked layers are "
            f"left at least, but the budget allows them {budget:,}"
        )
    candidates, chosen = flat.order, []
    while len(candidates):
        cost = each[flat.layer[candidates]]
        fits = cost <= left
        candidates, cost = candidates[fits], cost[fits]
        taken = int((cost.cumsum(0) <= left).sum())  # costs are >= 0: a prefix
        chosen.append(candidates[:taken])
        left -= int(cost[:taken].sum())
        candidates = candidates[taken:]
    return flat.masks(torch.cat(chosen) if chosen else flat.order[:0])


class _Flat:
    """All layers' units in one row.

    Attributes:
        names: Of the layers.
        layer: For each unit the index of its layer, int64.
        first: Each layer's strongest unit, by its place in the row.
        order: All others, the highest score first.
    """

    def __init__(self, scores: Scores) -> None:
        self._scores, self.names = scores, list(scores)
        sizes = torch.tensor([scores[name].numel() for name in self.names])
        starts = sizes.cumsum(0) - sizes
        self.layer = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
        flat = torch.cat([scores[name].detach().flatten().cpu() for name in self.names])
        self.first = torch.stack(
            [
                start + scores[name].argmax().cpu()
                for name, start in zip(scores, starts, strict=True)
            ]
        )
        other = torch.ones(len(flat), dtype=torch.bool)
        other[self.first] = False
        places = other.nonzero().flatten()
        self.order = places[flat[places].argsort(descending=True, stable=True)]

    def masks(self, kept: Tensor) -> dict[str, Tensor]:
        """Return the masks that keep these units, and each layer's strongest."""
        keep = torch.zeros(len(self.layer), dtype=torch.bool)
        keep[kept] = keep[self.first] = True
        pieces = torch.split(keep, [self._scores[name].numel() for name in self.names])
        return {
            name: piece.reshape(self._scores[name].shape)
            for name, piece in zip(self.names, pieces, strict=True)
        }


def uniform_densities(shapes: Mapping[str, tuple[int, ...]], density: float) -> dict[str, float]:
    """Return the same density for every layer."""
    return dict.fromkeys(shapes, density)


def erk_densities(shapes: Mapping[str, tuple[int, ...]], density: float) -> dict[str, float]:
    """Return densities that favour small layers, whose mean over all weights is ``density``.

    A layer's is proportional to ``(out + in + kh + kw) / (out * in * kh * kw)``, at most 1: the
    Erdős–Rényi-kernel distribution. Source: Evci et al., "Rigging the Lottery: Making All Tickets
    Winners", ICML 2020, section 3 (from memory).

    Args:
        shapes: Of the weights, ``(out, in / groups, *kernel)``.
        density: In (0, 1].
    """
    sizes = {name: prod(shape) for name, shape in shapes.items()}
    raw = {name: sum(shape) / sizes[name] for name, shape in shapes.items()}
    full: set[str] = set()
    wanted = density * sum(sizes.values())
    while True:
        rest = [name for name in shapes if name not in full]
        spread = sum(raw[name] * sizes[name] for name in rest)
        left = wanted - sum(sizes[name] for name in full)
        factor = left / spread if spread else 0.0
        over = {name for name in rest if factor * raw[name] > 1}
        if not over:
            return {name: 1.0 if name in full else factor * raw[name] for name in shapes}
        full |= over


DISTRIBUTIONS: Mapping[str, Callable[[Mapping[str, tuple[int, ...]], float], dict[str, float]]] = {
    "uniform": uniform_densities,
    "erk": erk_densities,
}
"""How a density of the network is spread over its layers, where scores don't decide it."""
