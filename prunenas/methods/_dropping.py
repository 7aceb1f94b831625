"""One step of drop pruning: weights drop away, and others drop back.

Jia et al., "Drop Pruning for Model Compression" (arXiv 1812.02035; second version: "Stochastic
Model Pruning via Weight Dropping Away and Back"). Its text could not be read: the equations are a
reconstruction that is consistent with its abstracts.

Candidates are the share ``pruned`` of weights of smallest size, those that are gone counting as 0.
Of the candidates that are there each drops away with probability ``away``; of the weights that were
gone before the step each drops back with probability ``back``. Without training between steps, the
share that is gone follows ``a' = a + away (pruned - a) - back a``, to the fixed point
``away pruned / (away + back)``.
"""

from collections.abc import Mapping

import torch
from torch import Tensor


def dropped(
    sizes: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    *,
    pruned: float,
    away: float,
    back: float,
    together: bool,
    random: torch.Generator,
) -> dict[str, Tensor]:
    """Return the masks after one step.

    Args:
        sizes: ``|w|`` by the weight's name.
        masks: Before the step, bool of the same shapes.
        pruned: Share of the weights that are candidates, in [0, 1).
        away: Probability for a candidate that is there to go.
        back: Probability for a weight that is gone to come back.
        together: Whether candidates are the smallest of all layers, or those of each.
        random: On the CPU; drawn from once for each weight, so that equal states give equal steps.
    """
    names = list(sizes)
    alive = {name: sizes[name].cpu() * masks[name].cpu() for name in names}
    groups = [names] if together else [[name] for name in names]
    found = {}
    for group in groups:
        flat = torch.cat([alive[name].flatten() for name in group])
        there = torch.cat([masks[name].cpu().flatten() for name in group])
        count = round(pruned * len(flat))
        # Weights that are gone come first, then the smallest: a weight of exactly 0 may be there.
        order = torch.where(there, flat, -1.0).argsort(stable=True)
        candidate = torch.zeros_like(there)
        candidate[order[:count]] = True
        chance = torch.rand(len(flat), generator=random)
        goes = candidate & there & (chance < away)
        comes = ~there & (chance < back)
        after = (there & ~goes) | comes
        pieces = torch.split(after, [alive[name].numel() for name in group])
        for name, piece in zip(group, pieces, strict=True):
            found[name] = piece.reshape(alive[name].shape)
    return found
