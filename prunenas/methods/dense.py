"""The dense network as a method may see it: its channel groups, its data, its training."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunenas.architecture import Space, build
from prunenas.cache import Cache
from prunenas.data import Data
from prunenas.errors import MethodError, TrainingError
from prunenas.federated import Federation
from prunenas.training import EpochMetrics, Metrics, Recipe, train
from prunenas.training.causes import causes

KIND = "dense"  # of the cache's entries

CLIENTS, UPDATES, BATCH = 10, 5, 20  # of a federation that no study describes: PruneFL's


@dataclass(frozen=True)
class Trained:
    """A dense network after its training.

    Attributes:
        state: Its state dict, on the CPU.
        validation: Loss and accuracy (in [0, 1]) on the validation split, of the weights above.
        seconds: What the training took when it was computed.
    """

    state: dict[str, Tensor]
    validation: Metrics
    seconds: float


@dataclass(frozen=True)
class Dense:
    """One dense network of a study; trained on first need and never twice.

    Results are kept in ``cache`` under everything they depend on (see ``training.causes``) and
    the key of what is special about the training.
    A training that was interrupted is taken up at its last epoch.

    Attributes:
        space: The network's channel groups.
        data: What it is trained on.
        recipe: How; its protocol and cap speak of retraining and don't matter here.
        cache: Where trained networks are kept.
        seed: Of initialisation and batch order.
        device: Where the training runs.
        report: Told of every epoch: what is trained ("dense network", ...) and its metrics.
        progress: Told of every step of other work: its name, steps done, steps in all as far as
            is known, and the accuracy reached, in [0, 1], where it was measured.
        federation: Who trains together, where training is federated; see `federated`.
    """

    space: Space
    data: Data
    recipe: Recipe
    cache: Cache
    seed: int = 0
    device: torch.device | str = "cpu"
    report: Callable[[str, EpochMetrics], None] | None = None
    progress: Callable[[str, int, int, float | None], None] | None = None
    federation: Federation | None = None

    def federated(self) -> Federation:
        """Return the federation that federated trainings are in: the study's, or else one as long
        as the recipe.

        Without one there are ten clients, or fewer where they would have less than a batch of
        images each, all alike; as many rounds as the recipe has epochs pass over the training
        images; and the recipe's learning rate. [our choice]
        """
        if self.federation is not None:
            return self.federation
        images = len(self.data.train)
        clients = max(1, min(CLIENTS, images // BATCH))
        seen = clients * UPDATES * min(BATCH, images)
        return Federation(
            clients=clients,
            rounds=max(1, math.ceil(self.recipe.epochs * images / seen)),
            updates=UPDATES,
            batch_size=BATCH,
            lr=self.recipe.lr,
        )

    def epochs_for(self, flops: int) -> int:
        """Return how many epochs an architecture of so many FLOPs is trained from scratch for.

        Where the recipe's protocol is ``federated``, how often it is validated.
        """
        return self.recipe.epochs_for(
            dense_flops=self.space.dense.flops,
            flops=flops,
            evaluations=self.federated().evaluations,
        )

    def network(self) -> nn.Module:
        """Return the dense network with fresh weights, on the CPU, in training mode."""
        # Trusted: tracing this space has already run the source's code.
        return build(self.space.dense, seed=self.seed, trust=True)

    def state(self) -> dict[str, Tensor]:
        """Return the trained dense network's state dict, on the CPU.

        Raises:
            TrainingError: The training can't go on, with its reason.
        """
        return self.train().state

    def train(
        self,
        *,
        prepare: Callable[[nn.Module], None] | None = None,
        penalty: Callable[[nn.Module, float], None] | None = None,
        after_epoch: Callable[[nn.Module, int], None] | None = None,
        keep_best: bool = False,
        key: Mapping[str, Any] | None = None,
        what: str = "dense network",
    ) -> Trained:
        """Train the dense network, or read it from the cache.

        Args:
            prepare: Changes the fresh network before its first epoch.
            penalty: Adds to the gradients of every step, after backward, before the optimiser;
                given the step's learning rate. See ``training.train`` for this and the next two.
            after_epoch: Changes weights after each epoch, before its validation.
            keep_best: Whether the best epoch's weights are handed on instead of the last one's.
            key: JSON values that say what the four do: needed with any of them.
            what: Name of this training in reports.

        Raises:
            MethodError: Any of the four without ``key``.
            TrainingError: The training can't go on, with its reason.
        """
        special = _Special(prepare, penalty, after_epoch, keep_best)
        if key is None and special != _Special():
            raise MethodError(
                f"a special training must have a key to be stored under, but {what!r} has none"
            )
        name = self.key(key)
        with self.cache.lock(KIND, name):
            entry = self.cache.get(KIND, name)
            if entry is None:
                trained = self._compute(name, special, what)
                meta = {
                    "about": f"{what} {self.space.dense.source} on {self.data.name}, "
                    f"{self.recipe.epochs} epochs, seed {self.seed}",
                    "loss": trained.validation.loss,
                    "accuracy": trained.validation.accuracy,
                    "seconds": trained.seconds,
                }
                self.cache.keep(KIND, name, trained.state, meta)
                self.cache.unfinished(KIND, name).unlink(missing_ok=True)
                return trained
        validation = Metrics(loss=entry.meta["loss"], accuracy=entry.meta["accuracy"])
        return Trained(dict(entry.tensors), validation, entry.meta["seconds"])

    def weights_at(self, epoch: int) -> dict[str, Tensor]:
        """Return what the plain training's state dict is after so many epochs, on the CPU.

        The first of them are done again where they have to be, by the whole training's schedule.

        Args:
            epoch: 0 for the weights that it begins with, less than the recipe's epochs.

        Raises:
            TrainingError: The training can't go on, with its reason.
        """
        network = self.network()
        if epoch == 0:
            return {name: value.clone() for name, value in network.state_dict().items()}
        name = self.key({"after": epoch})
        with self.cache.lock(KIND, name):
            entry = self.cache.get(KIND, name)
            if entry is not None:
                return dict(entry.tensors)
            tell = self._reporter(f"dense network, {epoch} epochs")

            def report(metrics: EpochMetrics) -> bool:
                tell(metrics)
                return metrics.epoch >= epoch

            checkpoint = self.cache.unfinished(KIND, name)
            train(
                network,
                self.data,
                self.recipe,
                seed=self.seed,
                device=self.device,
                report=report,
                checkpoint=checkpoint,
            )
            state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
            about = f"dense network {self.space.dense.source} after {epoch} epochs"
            self.cache.keep(KIND, name, state, {"about": about})
            checkpoint.unlink(missing_ok=True)
            return state

    def accuracy(self) -> float | None:
        """Return the plain dense network's validation accuracy, or ``None`` before it is trained.

        Trains nothing.
        """
        try:
            entry = self.cache.get(KIND, self.key(None))
        except TrainingError:  # a device that can't train it has not trained it
            return None
        return None if entry is None else float(entry.meta["accuracy"])

    def key(self, special: Mapping[str, Any] | None) -> str:
        """Return what the plain training is stored under, or what depends on it and more.

        Args:
            special: JSON values: what else it depends on; ``None`` for the plain training.
        """
        return self.cache.key(
            training=dict(special) if special is not None else None,
            **causes(
                self.space.dense,
                self.data,
                self.recipe,
                epochs=self.recipe.epochs,
                seed=self.seed,
                device=self.device,
                # What a special training does besides is a method's code.
                rooms=() if special is None else ("methods",),
            ),
        )

    def _compute(self, name: str, special: "_Special", what: str) -> Trained:
        network = self.network()
        if special.prepare is not None:
            special.prepare(network)
        training = train(
            network,
            self.data,
            self.recipe,
            seed=self.seed,
            device=self.device,
            report=self._reporter(what),
            penalty=special.penalty,
            after_epoch=special.after_epoch,
            keep_best=special.keep_best,
            checkpoint=self.cache.unfinished(KIND, name),
        )
        state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
        return Trained(state, training.validation, training.seconds)

    def _reporter(self, what: str) -> Callable[[EpochMetrics], None]:
        def tell(metrics: EpochMetrics) -> None:
            # Whatever the listener answers: a dense training is never stopped half-way, because
            # all trials that follow rest on it.
            if self.report is not None:
                self.report(what, metrics)

        return tell


@dataclass(frozen=True)
class _Special:
    """What a method has a training do besides; see ``Dense.train``."""

    prepare: Callable[[nn.Module], None] | None = None
    penalty: Callable[[nn.Module, float], None] | None = None
    after_epoch: Callable[[nn.Module, int], None] | None = None
    keep_best: bool = False
