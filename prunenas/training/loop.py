"""The one training loop."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from prunenas.data import Data
from prunenas.errors import TrainingError
from prunenas.training.checkpoint import Checkpoint, shape_digest
from prunenas.training.evaluation import measure
from prunenas.training.health import (
    require_alive,
    require_finite,
    require_usable_scale,
    within_memory,
)
from prunenas.training.keeping import Keeper
from prunenas.training.masks import Masks
from prunenas.training.metrics import UNKNOWN, EpochMetrics, Metrics, Training
from prunenas.training.outputs import cross_entropy, hits, logits_of
from prunenas.training.precision import Numerics
from prunenas.training.recipe import Recipe
from prunenas.training.repeatable import random_numbers, repeatable
from prunenas.training.schedule import learning_rate

Report = Callable[[EpochMetrics], bool | str | None]
Penalty = Callable[[nn.Module, float], None]
AfterEpoch = Callable[[nn.Module, int], None]

# Steps between two looks at the loss: reading it every step would make a GPU wait for Python.
_LOOK_EVERY = 50


def train(
    network: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    epochs: int | None = None,
    seed: int,
    device: torch.device | str = "cpu",
    report: Report | None = None,
    penalty: Penalty | None = None,
    after_epoch: AfterEpoch | None = None,
    keep_best: bool = False,
    checkpoint: Path | None = None,
    keep_end: bool = False,
) -> Training:
    """Train a network in place, from the weights it has, on the training split.

    The same network, data, recipe, epochs and seed give the same weights bit for bit on the same
    machine and number of threads, interrupted or not. torch's global random state is left as it
    was; dropout draws from ``(seed, epoch)``.

    Args:
        network: Answers images ``(N, C, H, W)`` with logits ``(N, classes)``, or with a tuple of
            them and auxiliary logits. Ends on the device, in train mode.
        data: Only its training and validation splits are read; the latter may be empty, but then
            nobody notices a dead network.
        recipe: How.
        epochs: How many, if not ``recipe.epochs``; see ``Recipe.epochs_for``.
        seed: Of batch order, augmentation and dropout, not of the weights the network comes with.
        device: Where; best the one ``data`` was loaded to.
        report: Hears of every finished epoch; answering ``True`` or ``"stop"`` ends the training.
            A resumed training tells it of the earlier epochs again first.
        penalty: Given the network and the step's learning rate after each backward pass, it may
            add to gradients (network slimming does). A parameter whose gradient it sets to None is
            left to it by the optimiser (sparse structure selection steps its factors so). It must
            depend on nothing but what it is given.
        after_epoch: Given the network and the number of epochs finished, from 1, after each
            epoch's last step and before its validation: it may change weights in place (soft
            filter pruning zeroes filters). It must depend on nothing but what it is given.
        keep_best: Whether the network ends with the weights of the epoch of highest validation
            accuracy, the first of equals, instead of the last epoch's. For weights that are
            handed on; a figure that is compared must not be chosen so.
        checkpoint: A file, written in one step as often as is worth its time (see ``keeping``),
            and in any case where the training ends early: by Ctrl-C, an error or a "stop". If it
            exists, is whole, and was written for the same recipe, epochs, seed, data, device and
            layer shapes, training goes on from there; otherwise it is replaced. The caller gives
            each training a path of its own, and removes it.
        keep_end: Whether the end is written to it as well: for a caller who has more to do, which
            may fail, before the weights are safe.

    Returns:
        What it says of itself. With ``keep_best`` its ``validation`` is the best epoch's.

    Raises:
        TrainingError: ``non-finite loss``, ``dead network`` (see ``health.require_alive``),
            ``out of memory``, or settings that don't go together.
    """
    numerics = Numerics.choose(
        device, precision=recipe.precision, memory_format=recipe.memory_format
    )
    epochs = recipe.epochs if epochs is None else epochs
    full, rest = divmod(len(data.train), recipe.batch_size)
    steps = full + (rest > 1)  # a last batch of one image is dropped: BatchNorm can't take it
    if epochs < 1 or steps < 1:
        raise TrainingError(
            "nothing to train",
            "training needs >= 1 epoch and >= 2 images, "
            f"but there are {epochs} and {len(data.train)}",
        )

    def work() -> Training:
        with numerics.laid_out(network), repeatable(numerics.device):
            hooks = penalty, after_epoch, keep_best
            run = _Run(network, data, recipe, epochs, steps, seed, numerics, *hooks)
            return run.to_the_end(report, checkpoint, keep_end)

    return within_memory(work, numerics.device)


@dataclass
class _Run:
    network: nn.Module
    data: Data
    recipe: Recipe
    epochs: int
    steps_per_epoch: int
    seed: int
    numerics: Numerics
    penalty: Penalty | None
    after_epoch: AfterEpoch | None
    keep_best: bool
    optimizer: torch.optim.Optimizer = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)
    masks: Masks = field(init=False)
    best: dict[str, Tensor] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.optimizer = _optimizer(self.network, self.recipe, self.numerics.device)
        half = self.numerics.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(self.numerics.device.type, enabled=half)

    def to_the_end(
        self, report: Report | None, checkpoint: Path | None, keep_end: bool
    ) -> Training:
        self.network.train()
        curve = self._resume(checkpoint) if checkpoint else []
        self.masks = Masks(self.network)  # those of a checkpoint, if it has any
        keeper = Keeper(checkpoint, self._identity, written=len(curve))
        stopped = False
        for epoch in curve:  # all of them, even after a "stop": the weights are the last one's
            stopped |= _says_stop(report, epoch)
        with keeper.watching():
            while len(curve) < self.epochs and not stopped:
                curve.append(self._epoch(len(curve)))
                if self.keep_best and _best(curve) is curve[-1]:
                    self.best = copy.deepcopy(self.network.state_dict())
                keeper.take(self._state(curve), last=len(curve) == self.epochs)
                stopped = _says_stop(report, curve[-1])
            if keep_end or len(curve) < self.epochs:  # stopped, it may go on later
                keeper.write()
        self.network.zero_grad()  # gradients are as large as the weights: not left to the caller
        if self.keep_best:
            self.network.load_state_dict(self.best)
        return Training(
            validation=(_best(curve) if self.keep_best else curve[-1]).validation,
            curve=tuple(curve),
            seconds=sum(epoch.seconds for epoch in curve),
            stopped=stopped and len(curve) < self.epochs,
        )

    def _epoch(self, epoch: int) -> EpochMetrics:
        started = time.perf_counter()
        with random_numbers(self.seed, epoch, self.numerics.device):
            train, lr = self._pass(epoch)
        if self.after_epoch is not None:
            self.after_epoch(self.network, epoch + 1)
            self.masks.changed(self.optimizer)
        if not len(self.data.validation):
            return EpochMetrics(epoch + 1, train, UNKNOWN, lr, time.perf_counter() - started)
        validation, constant = measure(
            self.network, self.data.validation, self.numerics, classes=self.data.classes
        )
        require_finite([torch.tensor(validation.loss)], epoch=epoch + 1, lr=lr)
        if constant:
            images, labels = next(iter(self.data.validation.batches(self.recipe.batch_size)))
            require_alive(self.network, self.numerics, images, labels, epoch=epoch + 1)
        return EpochMetrics(epoch + 1, train, validation, lr, time.perf_counter() - started)

    def _pass(self, epoch: int) -> tuple[Metrics, float]:
        """One pass over the training split: running metrics and the last learning rate."""
        losses: list[Tensor] = []
        right: list[Tensor] = []
        sizes: list[int] = []
        lr = 0.0
        batches = self.data.train.batches(
            self.recipe.batch_size, seed=self.seed, epoch=epoch, augment=self.recipe.augment
        )
        for index, (images, labels) in enumerate(batches):
            lr = self._set_lr(epoch * self.steps_per_epoch + index)
            loss, hit = self._step(images, labels, lr)
            losses.append(loss)
            right.append(hit)
            sizes.append(len(labels))
            if index % _LOOK_EVERY == _LOOK_EVERY - 1:
                require_finite(losses[-_LOOK_EVERY:], epoch=epoch + 1, lr=lr)
        require_finite(losses[-_LOOK_EVERY:], epoch=epoch + 1, lr=lr)
        if self.scaler.is_enabled():
            require_usable_scale(self.scaler.get_scale(), epoch=epoch + 1)
        total = sum(sizes)
        weighted = zip(torch.stack(losses).tolist(), sizes, strict=True)
        return (
            Metrics(
                loss=sum(loss * size for loss, size in weighted) / total,
                accuracy=sum(torch.stack(right).tolist()) / total,
            ),
            lr,
        )

    def _step(self, images: Tensor, labels: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        labels = labels.to(self.numerics.device, non_blocking=True)
        self.optimizer.zero_grad()
        with self.numerics.autocast():
            outputs = self.network(self.numerics.place(images))
        logits, auxiliary = logits_of(outputs, images=len(labels), classes=self.data.classes)
        loss = cross_entropy(logits, auxiliary, labels, self.recipe.label_smoothing)
        # The scaler does nothing at all, to loss or step, unless the precision is float16.
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self.penalty is not None:
            self.scaler.unscale_(self.optimizer)
            self.penalty(self.network, lr)
        self.masks.silence()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.masks.drop()
        return loss.detach(), hits(logits, labels)

    def _set_lr(self, step: int) -> float:
        lr = learning_rate(
            self.recipe, step, steps_per_epoch=self.steps_per_epoch, epochs=self.epochs
        )
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _identity(self) -> dict[str, object]:
        return {
            "recipe": self.recipe.model_dump_json(),
            "epochs": self.epochs,
            "seed": self.seed,
            "data": self.data.digest,
            "network": shape_digest(self.network),
            "penalty": self.penalty is not None,
            "after_epoch": self.after_epoch is not None,
            "keep_best": self.keep_best,
            **self.numerics.to_dict(),
        }

    def _resume(self, path: Path) -> list[EpochMetrics]:
        found = Checkpoint.read(path, identity=self._identity(), device=self.numerics.device)
        if found is None:
            return []
        self.network.load_state_dict(found.network)
        self.optimizer.load_state_dict(dict(found.optimizer))
        self.scaler.load_state_dict(dict(found.scaler))
        self.best = dict(found.best)
        return list(found.curve)

    def _state(self, curve: list[EpochMetrics]) -> Checkpoint:
        return Checkpoint(
            network=self.network.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scaler=self.scaler.state_dict(),
            curve=tuple(curve),
            best=self.best,
        )


def _best(curve: list[EpochMetrics]) -> EpochMetrics:
    """The epoch of highest validation accuracy, the first of equals; the last without any."""
    if math.isnan(curve[-1].validation.accuracy):
        return curve[-1]
    return max(curve, key=lambda epoch: epoch.validation.accuracy)


def _says_stop(report: Report | None, epoch: EpochMetrics) -> bool:
    answer = report(epoch) if report else None
    return answer is True or answer == "stop"


def _optimizer(network: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.SGD:
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    groups: list[dict[str, object]] = [{"params": weights}]
    if not recipe.decay_all:  # vectors are biases and normalisation parameters
        groups = [
            {"params": [weight for weight in weights if weight.ndim > 1]},
            {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
        ]
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
        fused=device.type in ("cpu", "cuda"),
    )
