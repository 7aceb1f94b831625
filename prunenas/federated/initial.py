"""Initial pruning: one client finds first masks on a few of its own images, before any round.

Jiang et al. 2023, "Model Pruning Enables Efficient Federated Learning on Edge Devices" (PruneFL),
first stage; figures from its authors' code. The network is trained pass after pass over a fixed
set of images, and reconfigured as in the rounds afterwards, by the squared gradients of all steps
since the last time: for the first time when it has learnt a little, then every so many passes,
until its size settles.

Differs from the paper: this stage counts as time, by the same time model and as if nothing were
pruned during it, which is more than it takes; in the authors' simulation it takes none. A weight
that was dropped here and comes back in later rounds starts from its value before this stage: the
server never sees another.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from prunenas.data import ClientSplit
from prunenas.errors import TrainingError
from prunenas.federated.greedy import reconfigure
from prunenas.federated.packing import Masks
from prunenas.federated.state import prunable_weights
from prunenas.federated.time import TimeModel
from prunenas.training.outputs import logits_of

_LEARNT = 1.5  # times the accuracy of guessing, on these images, before the first reconfiguration
_SETTLED = 5  # reconfigurations in a row that change the density by no more than `tolerance`
_LOOK_EVERY = 10  # passes between two looks at the accuracy


class InitialPruning(BaseModel):
    """How the first masks are found."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    client: int = Field(
        default=0, ge=0, strict=True, description="The client that is asked, from 0"
    )
    batches: int = Field(default=10, ge=1, strict=True, description="Batches of its images, fixed")
    passes: int = Field(default=1000, ge=1, strict=True, description="Passes over them at most")
    interval: int = Field(
        default=50, ge=1, strict=True, description="Passes between reconfigurations"
    )
    tolerance: float = Field(
        default=0.1,
        gt=0,
        description="Relative change of the density at which its size has settled",
    )


@dataclass(frozen=True)
class Found:
    """What initial pruning came to.

    Attributes:
        masks: Of all prunable weights.
        examples: Images that its steps saw.
        loss: Mean loss of its last pass.
    """

    masks: dict[str, Tensor]
    examples: int
    loss: float


def prune_initially(
    network: nn.Module,
    split: ClientSplit,
    masks: Masks,
    settings: InitialPruning,
    *,
    time: TimeModel,
    removable: float = 0.3,
    lr: float,
    batch_size: int,
    loss: Callable[[object, Tensor], Tensor],
    seed: int,
) -> Found:
    """Train the network on a few images, and find masks.

    Args:
        network: Trained in place; dropped weights end at 0. In train mode.
        split: The client's images.
        masks: What it begins with.
        settings: How.
        time: What a round takes.
        removable: Share of a layer's weights that one reconfiguration may drop.
        lr: Learning rate.
        batch_size: Images in a batch.
        loss: Of outputs and labels.
        seed: Of the choice of images.

    Raises:
        TrainingError: The loss is no number any more.
    """
    batches = list(split.batches_from(0, settings.batches, batch_size, seed))
    weights = prunable_weights(network, time)
    current = {name: mask.clone() for name, mask in masks.items()}
    parameters = {n: p for n, p in network.named_parameters() if p.requires_grad}
    squares = {name: torch.zeros_like(p) for name, p in parameters.items()}
    first: int | None = None  # the pass before which the first look found that it has learnt
    densities: list[float] = []
    losses = [0.0]
    for done in range(settings.passes):
        if first is None and done % _LOOK_EVERY == 0 and _has_learnt(network, batches):
            first = done
        losses = []
        for images, labels in batches:
            value = loss(network(images), labels)
            gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
            _step(parameters, gradients, squares, current, lr)
            losses.append(float(value.detach()))
            if not math.isfinite(losses[-1]):
                raise TrainingError(
                    "non-finite loss",
                    f"the loss must stay finite, but didn't in initial pruning at learning rate "
                    f"{lr:g}",
                )
        if first is not None and (done - first) % settings.interval == 0:
            current = reconfigure(
                {name: weight.cpu() for name, weight in weights.items()},
                current,
                {name: squares[name].cpu() for name in current},
                float(sum(s.double().sum() for n, s in squares.items() if n not in current)),
                time,
                removable=removable,
            )
            _zero(weights, current)
            for square in squares.values():
                square.zero_()
            total = sum(mask.numel() for mask in current.values())
            densities.append(sum(int(mask.sum()) for mask in current.values()) / total)
            if _has_settled(densities, settings.tolerance):
                break
    examples = (done + 1) * sum(len(labels) for _, labels in batches)
    return Found(current, examples, sum(losses) / len(losses))


@torch.no_grad()
def _step(
    parameters: dict[str, nn.Parameter],
    gradients: tuple[Tensor | None, ...],
    squares: dict[str, Tensor],
    masks: Masks,
    lr: float,
) -> None:
    for (name, weight), gradient in zip(parameters.items(), gradients, strict=True):
        if gradient is None:
            continue
        if name in masks:  # as in the authors' code, what is dropped here has no gradient any more
            gradient = gradient * masks[name].to(gradient.device)
        squares[name].addcmul_(gradient, gradient)
        weight.sub_(gradient, alpha=lr)


@torch.no_grad()
def _zero(weights: dict[str, Tensor], masks: Masks) -> None:
    for name, mask in masks.items():
        weights[name].masked_fill_(~mask.to(weights[name].device), 0.0)


@torch.no_grad()
def _has_learnt(network: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> bool:
    """Whether the network does better than guessing on its images."""
    right = seen = classes = 0
    network.eval()
    for images, labels in batches:
        logits, _ = logits_of(network(images), images=len(labels))
        right += int((logits.argmax(1) == labels).sum())
        seen, classes = seen + len(labels), logits.shape[1]
    network.train()
    return right / seen >= _LEARNT / classes


def _has_settled(densities: list[float], tolerance: float) -> bool:
    """Whether the last so many reconfigurations changed the density by little each."""
    last = densities[-_SETTLED - 1 :]
    changes = [abs(b / a - 1) for a, b in pairwise(last)]
    return len(changes) == _SETTLED and max(changes) <= tolerance
