"""Trainings from scratch that nobody does twice: not a trial, not a study, not a process."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunenas.architecture import Architecture
from prunenas.cache import Cache, Entry
from prunenas.data import Data
from prunenas.training.causes import causes
from prunenas.training.loop import Report, train
from prunenas.training.metrics import EpochMetrics, Metrics, Training
from prunenas.training.recipe import Recipe

KIND = "scratch"  # of the cache's entries

Done = tuple[Training, dict[str, Tensor]]
"""What came of a training, and the state dict it ended with, on the CPU."""


@dataclass(frozen=True)
class Way:
    """Another way to train than `train`, with epochs of its own.

    Attributes:
        train: Does it: given a report, told of each epoch, and a checkpoint, as for `train`.
        key: JSON values that its result depends on besides those of the job.
    """

    train: Callable[[Report, Path | None], Done]
    key: Mapping[str, Any]


@dataclass(frozen=True)
class Shared:
    """A training that was done or read.

    Attributes:
        training: As the trial that asked would have done it, stopped where its report said so.
        weights: State dict on the CPU; None where the training was stopped.
        by: Whose training it is, ``trial 3`` or ``STUDY/3``; None if it is the trial's own.
    """

    training: Training
    weights: dict[str, Tensor] | None
    by: str | None


@dataclass(frozen=True)
class Job:
    """What is to be trained.

    Attributes:
        architecture: The result is stored under it; ``make`` must build it.
        make: Builds the network with the weights that ``seed`` gives it; not called where the
            result is read.
        data: What it is trained on.
        recipe: How.
        epochs: How long.
        seed: Of weights, batch order, augmentation and dropout.
        device: Where.
        initial: JSON values that say which weights ``make`` begins with, where they aren't those
            that ``seed`` gives.
        way: What trains it, where that isn't `train`; ``make`` is not called then.
    """

    architecture: Architecture
    make: Callable[[], nn.Module]
    data: Data
    recipe: Recipe
    epochs: int
    seed: int
    device: torch.device | str
    initial: Mapping[str, Any] | None = None
    way: Way | None = None

    def key(self) -> str:
        """What its result is stored under."""
        return Cache.key(
            **causes(
                self.architecture,
                self.data,
                self.recipe,
                epochs=self.epochs,
                seed=self.seed,
                device=self.device,
            ),
            **({} if self.initial is None else {"initial": dict(self.initial)}),
            **({} if self.way is None else {"way": dict(self.way.key)}),
        )

    def about(self) -> str:
        """In words, for lists."""
        return (
            f"{self.architecture.source} at {self.architecture.flops:,} FLOPs on "
            f"{self.data.name}, {self.epochs} epochs, seed {self.seed}"
        )


@dataclass(frozen=True)
class Trainings:
    """Does trainings, or reads them where they were done before.

    Attributes:
        cache: Where results are shared; None does every training anew.
        study: Name of the study that asks, as others will read it.
        identity: Tells the study from any other of that name.
    """

    cache: Cache | None = None
    study: str = ""
    identity: str = ""

    def train(
        self,
        job: Job,
        *,
        trial: int,
        report: Report | None = None,
        checkpoint: Path | None = None,
    ) -> Shared:
        """Train, or read the training of another.

        Whoever needs a result that another process is working on waits for it; if that process
        dies, its checkpoint is taken up. A training that is read is told epoch by epoch as well,
        and "stop" ends it where it would have ended: only finished trainings are stored.

        Args:
            job: What.
            trial: Number of the trial that asks.
            report: As for ``train``.
            checkpoint: As for ``train``, where results are not shared; shared ones have their own.

        Raises:
            TrainingError: The training can't go on, with its reason.
        """
        if self.cache is None:
            return _ended(*_compute(job, report, checkpoint))
        key = job.key()
        entry = self.cache.get(KIND, key)
        if entry is None:
            with self.cache.lock(KIND, key):
                entry = self.cache.get(KIND, key)
                if entry is None:
                    return self._first(self.cache, key, job, trial, report)
        return self._read(entry, trial, report)

    def _first(self, cache: Cache, key: str, job: Job, trial: int, report: Report | None) -> Shared:
        checkpoint = cache.unfinished(KIND, key)
        training, weights, stop = _compute(job, report, checkpoint)
        # Stopped, it stays a checkpoint, which the next one who needs it takes up.
        if not training.stopped:
            meta = {
                "about": job.about(),
                "study": self.study,
                "identity": self.identity,
                "trial": trial,
                "curve": [_plain(epoch) for epoch in training.curve],
            }
            cache.keep(KIND, key, weights, meta)
            checkpoint.unlink(missing_ok=True)
        return _ended(training, weights, stop)

    def _read(self, entry: Entry, trial: int, report: Report | None) -> Shared:
        meta = entry.meta
        curve = tuple(_epoch(values) for values in meta["curve"])
        stop = next((epoch.epoch for epoch in curve if says_stop(report, epoch)), None)
        training = Training(
            validation=curve[-1].validation,
            curve=curve,
            seconds=sum(epoch.seconds for epoch in curve),
            stopped=False,
        )
        own_study = meta["identity"] == self.identity
        by = f"trial {meta['trial']}" if own_study else f"{meta['study']}/{meta['trial']}"
        own = own_study and meta["trial"] == trial  # it was interrupted before it was written down
        return replace(_ended(training, dict(entry.tensors), stop), by=None if own else by)


def says_stop(report: Report | None, epoch: EpochMetrics) -> bool:
    """Tell of an epoch; whether the answer is to stop."""
    answer = report(epoch) if report else None
    return answer is True or answer == "stop"


def _compute(
    job: Job, report: Report | None, checkpoint: Path | None
) -> tuple[Training, dict[str, Tensor], int | None]:
    """Train; also the first epoch after which ``report`` said stop."""
    stops: list[int] = []

    def tell(epoch: EpochMetrics) -> bool:
        stop = says_stop(report, epoch)
        if stop:
            stops.append(epoch.epoch)
        return stop

    if job.way is not None:
        return *job.way.train(tell, checkpoint), min(stops, default=None)
    network = job.make()
    training = train(
        network,
        job.data,
        job.recipe,
        epochs=job.epochs,
        seed=job.seed,
        device=job.device,
        report=tell,
        checkpoint=checkpoint,
    )
    weights = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    return training, weights, min(stops, default=None)


def _plain(epoch: EpochMetrics) -> dict[str, Any]:
    """An epoch as JSON values; a figure that nobody took is empty."""
    values = asdict(epoch)
    if math.isnan(epoch.train.accuracy):
        values["train"]["accuracy"] = None
    return values


def _ended(training: Training, weights: dict[str, Tensor], stop: int | None) -> Shared:
    """The training as far as its trial wants it.

    What is read, or taken up from a checkpoint of another, may be longer than that.
    """
    if stop is None or (stop == len(training.curve) and not training.stopped):
        return Shared(training, weights, None)
    curve = training.curve[:stop]
    return Shared(
        Training(
            validation=curve[-1].validation,
            curve=curve,
            seconds=sum(epoch.seconds for epoch in curve),
            stopped=True,
        ),
        None,
        None,
    )


def _epoch(values: dict[str, Any]) -> EpochMetrics:
    accuracy = values["train"]["accuracy"]
    return EpochMetrics(
        **{
            **values,
            "train": Metrics(values["train"]["loss"], math.nan if accuracy is None else accuracy),
            "validation": Metrics(**values["validation"]),
        }
    )
