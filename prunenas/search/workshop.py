"""Where trials are carried out: one dense network, its data and a device, in one process."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch

from prunenas.architecture import Architecture, Space, fill_arguments, trace
from prunenas.cache import Cache
from prunenas.data import Data, load
from prunenas.errors import StudyError
from prunenas.latency import Gauge, Protocol
from prunenas.methods import Dense
from prunenas.search.again import Again, train_again
from prunenas.search.events import DenseEpoch, Event, RepeatEpoch, TrialEpoch, TrialStarted
from prunenas.search.masks import Masks
from prunenas.search.stoppers import Curve, epoch_at
from prunenas.search.tasks import Done, Repeated, Task, Tried, Try
from prunenas.search.weights import Weights
from prunenas.spec import ModelSection, Study
from prunenas.training import EpochMetrics
from prunenas.training.shared import Trainings
from prunenas.trial import Record, run_trial


@dataclass(frozen=True)
class Place:
    """Where a study keeps what can be computed again.

    Attributes:
        home: Folder for checkpoints, private results and the front's weights.
        cache: Folder that trainings are shared in; None does every training anew.
        identity: Tells the study from any other of its name.
    """

    home: Path
    cache: Path | None
    identity: str

    @property
    def checkpoints(self) -> Path:
        """Folder of the study's checkpoints that are not shared."""
        return self.home / "checkpoints" / self.identity

    @property
    def private(self) -> Path:
        """Folder of dense networks where results are not shared: trained once, even so."""
        return self.home / "private" / self.identity

    def weights(self) -> Weights:
        """The weights of the study's front."""
        return Weights(self.home / "weights", self.identity)

    def masks(self) -> Masks:
        """The masks of the study's trials."""
        return Masks(self.home / "masks", self.identity)

    def clear(self) -> None:
        """Remove what a finished study needs no more."""
        shutil.rmtree(self.private, ignore_errors=True)
        shutil.rmtree(self.checkpoints, ignore_errors=True)


@dataclass
class Workshop:
    """Carries out tasks, one at a time.

    Attributes:
        study: What is searched.
        data: On the device.
        space: Of the dense network.
        device: Where trainings run.
        place: Where results are kept.
        watch: Told of every event.
        warn: Told of trouble that ends nothing, one line each.
        gauge: Measures latency; None where the study doesn't.
    """

    study: Study
    data: Data
    space: Space
    device: torch.device
    place: Place
    watch: Callable[[Event], None]
    warn: Callable[[str], None]
    dense: Dense = field(init=False)
    trainings: Trainings = field(init=False)
    gauge: Gauge | None = field(init=False)
    _dense_accuracy: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        shared = self.place.cache
        cache = Cache(shared or self.place.private, self.warn)
        self.trainings = Trainings(cache if shared else None, self.study.name, self.place.identity)
        protocol = self.study.protocol
        self.gauge = Gauge(Protocol(**protocol.model_dump()), cache) if protocol else None
        self.dense = Dense(
            space=self.space,
            data=self.data,
            recipe=self.study.train,
            cache=cache,
            seed=self.study.search.seed,
            device=self.device,
            report=self.dense_epoch,
            progress=self.dense_step,
            federation=self.study.federation,
        )

    @classmethod
    def opened(
        cls,
        study: Study,
        device: torch.device,
        place: Place,
        watch: Callable[[Event], None],
        warn: Callable[[str], None],
    ) -> Self:
        """Load the data and trace the network.

        Raises:
            SourceError, TraceError, DataError: There is no such network or data.
        """
        data = load(**study.data.model_dump(), device=device)
        return cls(study, data, trace_study(study, data), device, place, watch, warn)

    def do(self, task: Task) -> Done:
        """Carry out a task; what goes wrong with it alone stands in what comes of it.

        Raises:
            DataError, StudyError: Trouble that every other trial would have too.
        """
        return self._try(task) if isinstance(task, Try) else self._again(task.again)

    def _again(self, again: Again) -> Repeated:
        again = replace(again, architecture=self.place.masks().whole(again.architecture))
        checkpoint = self.place.checkpoints / f"repeat-{again.number}-{again.seed}.pt"

        def report(metrics: EpochMetrics) -> None:
            self.watch(RepeatEpoch(again, metrics.epoch, metrics.validation.accuracy))

        repeat = train_again(again, self.dense, self.trainings, checkpoint, report)
        checkpoint.unlink(missing_ok=True)
        return Repeated(again, repeat)

    def _try(self, task: Try) -> Tried:
        candidate = task.candidate
        checkpoint = self.place.checkpoints / f"{candidate.number}.pt"
        telling = _Telling(self.watch, task, self.study.objective.costs)

        def derived(architecture: Architecture, record: Record, epochs: int) -> None:
            self.place.masks().keep(architecture)
            telling.derived(record, epochs)

        outcome = run_trial(
            candidate,
            self.dense,
            derived=derived,
            report=telling.epoch,
            checkpoint=checkpoint,
            trainings=self.trainings,
            measure=self.gauge.latency if self.gauge is not None else None,
        )
        record = outcome.record
        if record.state == "stopped" and telling.pausing:
            record = replace(record, state="paused", reason=None)
        else:
            checkpoint.unlink(missing_ok=True)
        if outcome.weights is not None:
            try:
                self.place.weights().keep(candidate.number, outcome.weights)
            except OSError as error:  # exports train such a trial again
                self.warn(f"weights of trial {candidate.number} can't be kept: {error}")
        if self._dense_accuracy is None:  # it is read from a file as large as the network
            self._dense_accuracy = self.dense.accuracy()
        return Tried(task, record, self._dense_accuracy)

    def dense_epoch(self, what: str, metrics: EpochMetrics) -> None:
        """Tell of an epoch of a training that trials rest on."""
        accuracy = metrics.validation.accuracy
        self.watch(DenseEpoch(what, metrics.epoch, self.study.train.epochs, accuracy))

    def dense_step(self, what: str, done: int, total: int, accuracy: float | None) -> None:
        """Tell of a step of a method's work."""
        self.watch(DenseEpoch(what, done, total, accuracy, unit="step"))


@dataclass
class _Telling:
    """Turns what a trial reports into events, and answers whether it goes on."""

    watch: Callable[[Event], None]
    task: Try
    names: Sequence[str]
    pausing: bool = False
    costs: tuple[float, ...] = ()
    epochs: int = 0
    accuracies: tuple[float, ...] = ()

    def derived(self, record: Record, epochs: int) -> None:
        costs = record.costs(self.names)
        assert costs is not None
        assert record.flops is not None
        assert record.flops_ratio is not None
        self.costs, self.epochs = tuple(map(float, costs)), epochs
        self.watch(
            TrialStarted(record.number, record.method, record.flops, record.flops_ratio, epochs)
        )

    def epoch(self, metrics: EpochMetrics) -> str | None:
        accuracy = metrics.validation.accuracy
        if metrics.epoch > self.task.told:
            number = self.task.candidate.number
            self.watch(TrialEpoch(number, metrics.epoch, self.epochs, accuracy))
        self.accuracies = (*self.accuracies, accuracy)
        if self.task.stopper.stops(Curve(self.costs, self.epochs, self.accuracies)):
            return "stop"
        last = epoch_at(self.task.share, self.epochs)
        self.pausing = last <= metrics.epoch < self.epochs
        return "stop" if self.pausing else None


@dataclass(frozen=True)
class StudyBench:
    """What a worker of a study needs; see ``workers.Bench``.

    Attributes:
        settings: ``Study.settings()``.
        device: A torch device.
        threads: Of the CPU, for this worker.
        place: Where results are kept.
    """

    settings: dict[str, Any]
    device: str
    threads: int
    place: Place

    def open(self, watch: Callable[[Event], None], warn: Callable[[str], None]) -> Workshop:
        """Load the data and trace the network; see `Workshop.opened`."""
        study = Study.model_validate(self.settings)
        return Workshop.opened(study, device_named(self.device), self.place, watch, warn)


def trace_study(study: Study, data: Data) -> Space:
    """The space of a study's dense network on its data."""
    return trace_model(study.model, data)


def trace_model(model: ModelSection, data: Data) -> Space:
    """The space of a dense network on its data."""
    arguments = fill_arguments(
        model.name, model.arguments, classes=data.classes, input_shape=data.input_shape
    )
    return trace(model.name, arguments=arguments, input_shape=data.input_shape)


def device_named(name: str) -> torch.device:
    """The device of a name; ``"auto"`` is a GPU where there is one.

    Raises:
        StudyError: There is no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)  # the first use of a device says whether it is there
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        count = torch.cuda.device_count()
        known = ["auto", "cpu", *(f"cuda:{index}" for index in range(count))]
        raise StudyError(
            f"device {name!r} can't be used here. Known: {', '.join(known)}"
        ) from error
    return device
