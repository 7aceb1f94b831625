"""PruneFL: masks and the number of weights are found while the clients train.

Jiang, Wang, Valls, Ko, Lee, Leung, Tassiulas, "Model Pruning Enables Efficient Federated Learning
on Edge Devices" (PruneFL), IEEE TNNLS 34(12), 2023, arXiv 1909.12326; hyperparameters from its
authors' code. Before the first round one client finds masks on a few of its images. Afterwards,
every `interval` rounds, the smallest weights may go and any may come back: those stay whose squared
gradients promise the largest decrease of the loss for the time that a round then takes.

Differs from the paper: reconfigurations come after every `interval` rounds from the first on; the
authors' code waits for five evaluations first, which is the same with its own figures. Of weights
equal in size exactly the share stays that must, not all of them. Sending squared gradients of
dropped weights counts as time. ``regrow: zero`` is our choice beside the authors' ``stale``.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from prunenas.federated.greedy import reconfigure, removable_at
from prunenas.federated.initial import InitialPruning
from prunenas.federated.strategies._base import Moment, Strategy


@final
class PruneFL(Strategy):
    """Finds the weights that decrease the loss most for a round's time."""

    source: ClassVar[str] = (
        "Jiang et al. 2023, Model Pruning Enables Efficient Federated Learning on Edge Devices"
    )
    accumulates: ClassVar[bool] = True

    interval: int = Field(50, ge=1, strict=True, description="Rounds between reconfigurations")
    removable: float = Field(
        0.3, gt=0, lt=1, description="Share of a layer's weights that one may drop, at first"
    )
    half_life: float = Field(
        10000.0, gt=0, description="Rounds after which that share is half as large"
    )
    max_density: float | None = Field(
        None, gt=0, le=1, description="Share of all prunable weights that may come to be kept"
    )
    regrow: Literal["stale", "zero"] = Field(
        "stale", description="What weights come back with: what they had when they went, or 0"
    )
    initial: InitialPruning | None = Field(
        InitialPruning(),
        description="How one client finds masks before the first round; null for none",
    )

    @property
    def initial_pruning(self) -> InitialPruning | None:
        """How a client finds first masks before any round."""
        return self.initial

    def reconfigures_after(self, round_number: int, rounds: int) -> bool:
        """Return whether masks change after a round."""
        del rounds
        return round_number % self.interval == 0

    def masks_after(self, moment: Moment) -> Mapping[str, Tensor]:
        """Return the best masks under the time model, among those near enough."""
        return reconfigure(
            moment.weights,
            moment.masks,
            moment.squares,
            moment.others,
            moment.time,
            removable=removable_at(moment.round, initial=self.removable, half_life=self.half_life),
            max_density=self.max_density,
        )

    def regrown(self, weight: Tensor) -> Tensor:
        """Return the values that weights come back with."""
        return weight if self.regrow == "stale" else torch.zeros_like(weight)
