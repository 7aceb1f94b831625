"""Iterative magnitude pruning in a federation: small weights go in equal steps.

Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks", NIPS
2015, as PruneFL's authors compare it (Jiang et al. 2023, their code): over the first half of the
rounds each layer loses the same share of what it has left, so often that the density comes out.
"""

from collections.abc import Mapping
from typing import ClassVar, final

import torch
from pydantic import Field
from torch import Tensor

from prunenas.federated.strategies._base import Moment, Strategy


@final
class IterativeMagnitude(Strategy):
    """Drops each layer's smallest weights, bit by bit."""

    source: ClassVar[str] = (
        "Han et al. 2015, Learning both Weights and Connections for Efficient Neural Networks, NIPS"
    )
    needs_density: ClassVar[bool] = True

    density: float = Field(gt=0, le=1, description="Share of the prunable weights to keep")
    steps: int = Field(20, ge=1, strict=True, description="In how many steps the weights go")

    def reconfigures_after(self, round_number: int, rounds: int) -> bool:
        """Return whether a step comes after a round."""
        return self._steps_at(round_number, rounds) > self._steps_at(round_number - 1, rounds)

    def masks_after(self, moment: Moment) -> Mapping[str, Tensor]:
        """Return masks of each layer's largest weights, as many as there should be by now."""
        part = self._steps_at(moment.round, moment.rounds) / self.steps
        masks = {}
        for name, weight in moment.weights.items():
            sizes = weight.abs().masked_fill(~moment.masks[name].to(weight.device), -1.0).flatten()
            count = max(1, round(self.density**part * len(sizes)))
            mask = torch.zeros(len(sizes), dtype=torch.bool)
            mask[sizes.argsort(descending=True, stable=True)[:count].cpu()] = True
            masks[name] = mask.reshape(weight.shape) & moment.masks[name]
        return masks

    def _steps_at(self, round_number: int, rounds: int) -> int:
        """How many steps are done after a round: all after half of the rounds."""
        half = max(1, rounds // 2)
        return min(self.steps, round_number * self.steps // half)
