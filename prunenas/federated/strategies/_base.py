"""What decides the masks of a federated training (`Strategy`), and what it may look at."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from prunenas.data import generator
from prunenas.federated.initial import InitialPruning
from prunenas.federated.packing import Masks
from prunenas.federated.time import TimeModel


@dataclass(frozen=True)
class Moment:
    """The server after a round.

    Attributes:
        round: Rounds done, from 1.
        rounds: Of the whole training.
        weights: Prunable weights by name; at dropped places their values when they were dropped.
        change: What the round changed of them; 0 at dropped places.
        lr: Learning rate of the round.
        masks: Of the round.
        squares: Accumulated squared gradients of prunable weights, dropped or not, since the last
            reconfiguration; empty where the strategy doesn't want them.
        others: The sum of those of all other parameters.
        time: What a round takes.
    """

    round: int
    rounds: int
    weights: Mapping[str, Tensor]
    change: Mapping[str, Tensor]
    lr: float
    masks: Masks
    squares: Mapping[str, Tensor]
    others: float
    time: TimeModel


class Strategy(BaseModel):
    """What decides which weights a federated training has, round by round.

    A strategy is one final, frozen class whose fields are its hyperparameters.

    Attributes:
        source: The paper, for tables.
        accumulates: Whether it wants squared gradients.
        needs_density: Whether it is told the density that it arrives at, by its field `density`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    source: ClassVar[str]
    accumulates: ClassVar[bool] = False
    needs_density: ClassVar[bool] = False

    @property
    def initial_pruning(self) -> InitialPruning | None:
        """How a client finds first masks before any round; None where none does."""
        return None

    def first_masks(self, weights: Mapping[str, Tensor], masks: Masks, seed: int) -> Masks:
        """Return the masks of the first round; those that the network comes with.

        Args:
            weights: Prunable weights by name.
            masks: What the network comes with.
            seed: Of random choices.
        """
        del weights, seed
        return masks

    def reconfigures_after(self, round_number: int, rounds: int) -> bool:
        """Return whether `masks_after` is asked after a round, from 1."""
        del round_number, rounds
        return False

    @abstractmethod
    def masks_after(self, moment: Moment) -> Masks:
        """Return the masks from the next round on."""

    def regrown(self, weight: Tensor) -> Tensor:
        """Return the values that weights which come back begin with, as large as they are many.

        Args:
            weight: Their values when they were dropped, flat.
        """
        return weight


def largest(scores: Mapping[str, Tensor], density: float) -> dict[str, Tensor]:
    """Return masks of the highest scores of all layers together.

    Args:
        scores: By the weight's name. Of equal ones the first stay; each layer keeps its highest.
        density: Share that is kept, in (0, 1].
    """
    flat = torch.cat([score.flatten() for score in scores.values()])
    keep = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
    order = flat.argsort(descending=True, stable=True)
    keep[order[: round(density * len(flat))]] = True
    masks = {}
    pieces = torch.split(keep, [score.numel() for score in scores.values()])
    for (name, score), piece in zip(scores.items(), pieces, strict=True):
        piece = piece.clone()
        piece[score.argmax()] = True
        masks[name] = piece.reshape(score.shape).cpu()
    return masks


def random_scores(weights: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Return a random number for each weight, float32 of its shape."""
    random = generator("random masks", seed)
    return {name: torch.rand(weight.shape, generator=random) for name, weight in weights.items()}
