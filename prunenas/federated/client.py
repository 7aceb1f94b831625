"""A client: local steps on its own images, and the sums of squared gradients that it keeps.

A step obeys the masks as PruneFL's do (Jiang et al. 2023, arXiv 1909.12326): the loss is that of
the network whose dropped weights are 0, but gradients are taken at dropped weights too, because
they tell what it would bring to have them back. After a round the client adds
``(sum of its steps' gradients)² × images seen`` to what it keeps; for weights that it has, the
server knows that number from their change. What it keeps is dropped weights' alone, and is sent
only in a round of reconfiguration.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunenas.data import ClientSplit
from prunenas.errors import FederatedError, TrainingError
from prunenas.federated.federation import Federation, Loss
from prunenas.federated.initial import InitialPruning, prune_initially
from prunenas.federated.messages import Task, Update
from prunenas.federated.packing import Packing
from prunenas.federated.state import prunable_weights, travelling
from prunenas.federated.time import TimeModel
from prunenas.training.outputs import logits_of
from prunenas.training.repeatable import random_numbers


class LostMasks(FederatedError):
    """A client was told weights without masks, but has no masks, or others."""


@dataclass
class Sums:
    """What a client keeps from round to round.

    Attributes:
        since: The first round that it is about; 0 where there is none.
        last: The last one.
        squares: By the weight's name, float32 of the whole weight's shape; only dropped places
            mean anything.
    """

    since: int
    last: int
    squares: dict[str, Tensor]


class Client:
    """One client of a federation.

    Args:
        number: From 0.
        split: Its images.
        federation: Its settings.
        seed: Of the run.
        time: The time model, for initial pruning.
        initial: How initial pruning goes, where this client may be asked for it.
        stochastic: Whether the network draws random numbers in train mode, as dropout does. They
            are then seeded for each round, which only one client of a process at a time can do.
    """

    def __init__(
        self,
        number: int,
        split: ClientSplit,
        federation: Federation,
        seed: int,
        *,
        time: TimeModel,
        initial: InitialPruning | None = None,
        stochastic: bool = False,
    ) -> None:
        self.number = number
        self._split = split
        self._federation = federation
        self._seed = seed
        self._time = time
        self._initial = initial
        self.stochastic = stochastic
        self._packing: Packing | None = None
        self._sums = Sums(0, 0, {})

    def work(self, task: Task, network: nn.Module) -> Update:
        """Carry out a task.

        Args:
            task: What to do.
            network: Of the federation, on the client's device; its weights are overwritten, and
                hold the client's afterwards.

        Raises:
            LostMasks: The task has no masks, and those that the client has are others.
            FederatedError: The task doesn't fit the network.
            TrainingError: The loss is no number any more.
        """
        packing = self._packing_of(task, network)
        state = travelling(network)
        if task.weights.keys() != state.keys():
            raise FederatedError(
                f"a task must hold the network's {len(state)} tensors, but holds others: "
                f"{sorted(task.weights.keys() ^ state.keys())[:3]}"
            )
        for name, tensor in state.items():
            packing.unpack(name, task.weights[name].to(tensor.device), tensor)
        network.train()
        if not self.stochastic:
            return self._answer(task, packing, network, state)
        device = next(iter(state.values())).device
        with random_numbers(self._seed * 100_003 + self.number, task.round, device):
            return self._answer(task, packing, network, state)

    def share(self, packing: Packing) -> None:
        """Take masks from another client of the same process, to have them once in memory."""
        self._packing = packing

    def state(self) -> dict[str, Tensor]:
        """Return all that it needs in a later round, small: its masks' bits and its sums."""
        packing, sums = self._packing, self._sums
        if packing is None:
            return {}
        kept = {f"mask:{name}": bits for name, bits in packing.bits().items()}
        kept["rounds"] = torch.tensor([sums.since, sums.last])
        for name, squares in sums.squares.items():
            kept[f"squares:{name}"] = packing.dropped(name, squares)
        return kept

    def load(self, state: Mapping[str, Tensor], network: nn.Module) -> None:
        """Take up what `state` returned; nothing, where it is empty."""
        if not state:
            return
        weights = prunable_weights(network, self._time)
        shapes = {name: weight.shape for name, weight in weights.items()}
        bits = {name: state[f"mask:{name}"] for name in shapes}
        packing = self._packing = Packing.from_bits(bits, shapes)
        since, last = state["rounds"].tolist()
        self._sums = Sums(since, last, {})
        for name, mask in packing.masks.items():
            if f"squares:{name}" in state:
                whole = torch.zeros(mask.shape)
                whole[~mask] = state[f"squares:{name}"]
                self._sums.squares[name] = whole.to(weights[name].device)

    def _packing_of(self, task: Task, network: nn.Module) -> Packing:
        if task.masks is not None:
            known = self._packing
            if known is None or known.digest != task.mask_digest:
                weights = prunable_weights(network, self._time)
                shapes = {name: weight.shape for name, weight in weights.items()}
                self._packing = Packing.from_bits(task.masks, shapes)
        packing = self._packing
        if packing is None or packing.digest != task.mask_digest:
            has = "none" if packing is None else packing.digest
            raise LostMasks(
                f"client {self.number} must have the masks {task.mask_digest}, but has {has}"
            )
        return packing

    def _answer(
        self, task: Task, packing: Packing, network: nn.Module, state: Mapping[str, Tensor]
    ) -> Update:
        if task.round == 0:
            return self._pruned(task, packing, network, state)
        totals = self._totals(task, packing, network)
        loss, examples = self._steps(task, packing, network, totals)
        for name, total in totals.items():
            self._sums.squares[name].addcmul_(total, total, value=examples)
        return Update(
            client=self.number,
            round=task.round,
            examples=examples,
            loss=loss,
            mask_digest=packing.digest,
            changes={
                name: packing.pack(name, tensor).cpu().sub_(task.weights[name])
                for name, tensor in state.items()
            },
            squares=self._handed_in(packing) if task.upload else None,
        )

    def _totals(self, task: Task, packing: Packing, network: nn.Module) -> dict[str, Tensor]:
        """Zeros for the gradients of this round, and for the sums where they begin anew."""
        if not task.accumulate:
            return {}
        weights = prunable_weights(network, self._time)
        partly = {name: weights[name] for name in packing.kept}
        sums = self._sums
        if (
            sums.since != task.since
            or task.round <= sums.last
            or partly.keys() != sums.squares.keys()
        ):
            zeros = {name: torch.zeros_like(weight) for name, weight in partly.items()}
            sums = self._sums = Sums(task.since, 0, zeros)
        sums.last = task.round
        return {name: torch.zeros_like(weight) for name, weight in partly.items()}

    def _steps(
        self, task: Task, packing: Packing, network: nn.Module, totals: Mapping[str, Tensor]
    ) -> tuple[float, int]:
        """Do the local steps; the mean loss, and how many images they saw."""
        federation = self._federation
        parameters = {n: p for n, p in network.named_parameters() if p.requires_grad}
        factors = {
            name: packing.masks[name].to(parameters[name].device, parameters[name].dtype)
            for name in packing.kept
        }
        losses, seen = [], 0
        for images, labels in self._split.batches_from(
            task.round, federation.updates, federation.batch_size, self._seed
        ):
            loss = loss_of(network(images), labels, federation.loss)
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            with torch.no_grad():
                for (name, weight), gradient in zip(parameters.items(), gradients, strict=True):
                    if gradient is None:
                        continue
                    if name in totals:
                        totals[name].add_(gradient)
                    if name in factors:
                        weight.addcmul_(gradient, factors[name], value=-task.lr)
                    else:
                        weight.add_(gradient, alpha=-task.lr)
            losses.append(loss.detach())
            seen += len(labels)
        mean = float(torch.stack(losses).mean())
        if not math.isfinite(mean):
            raise TrainingError(
                "non-finite loss",
                f"the loss must stay finite, but didn't at client {self.number} in round "
                f"{task.round} at learning rate {task.lr:g}",
            )
        return mean, seen

    def _handed_in(self, packing: Packing) -> dict[str, Tensor]:
        squares = self._sums.squares
        handed = {name: packing.dropped(name, squares[name]).cpu() for name in packing.kept}
        self._sums = Sums(0, 0, {})
        return handed

    def _pruned(
        self, task: Task, packing: Packing, network: nn.Module, state: Mapping[str, Tensor]
    ) -> Update:
        """Initial pruning; what comes back is packed by the masks that it found."""
        if self._initial is None:
            raise FederatedError(
                "the strategy has no initial pruning, but a client is asked for it"
            )
        before = {name: tensor.clone() for name, tensor in state.items()}
        found = prune_initially(
            network,
            self._split,
            packing.masks,
            self._initial,
            time=self._time,
            lr=task.lr,
            batch_size=self._federation.batch_size,
            loss=lambda outputs, labels: loss_of(outputs, labels, self._federation.loss),
            seed=self._seed,
        )
        after = self._packing = Packing.of(found.masks)
        return Update(
            client=self.number,
            round=0,
            examples=found.examples,
            loss=found.loss,
            mask_digest=after.digest,
            changes={
                name: after.pack(name, tensor - before[name]).cpu()
                for name, tensor in state.items()
            },
            masks=after.bits(),
        )


def loss_of(outputs: object, labels: Tensor, kind: Loss) -> Tensor:
    """Mean loss of a batch ``()``, in nats.

    ``binary`` is the mean over images and classes of the binary cross-entropy of each logit with
    whether it is the image's class.
    """
    logits, _ = logits_of(outputs, images=len(labels))
    if kind == "cross_entropy":
        return F.cross_entropy(logits, labels)
    targets = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, targets)
