"""Running a study: propose, derive, count, train from scratch, write down; until all is done."""

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from prunenas.architecture import Architecture, Space, fill_arguments, trace
from prunenas.cache import Cache
from prunenas.data import Data, load
from prunenas.errors import SpecError, StudyError
from prunenas.methods import Dense
from prunenas.places import HOME
from prunenas.search.again import Again, missing, train_again
from prunenas.search.events import (
    DenseEpoch,
    Event,
    FrontChanged,
    RepeatEpoch,
    RepeatFinished,
    RepeatStarted,
    StudyFinished,
    StudyStarted,
    TrialEpoch,
    TrialFinished,
    TrialStarted,
)
from prunenas.search.ledger import Ledger
from prunenas.search.projection import (
    dense_figures,
    log_repeats,
    mappings,
    opened,
    tracker_of,
)
from prunenas.search.proposal import propose
from prunenas.search.spread import repeated, spread_of
from prunenas.search.stoppers import Curve, Noise, Stopper, curves_of
from prunenas.search.storage import claim, open_storage
from prunenas.search.view import StudyView
from prunenas.search.weights import Weights
from prunenas.spec import Study, check_widths
from prunenas.tracking import SafeTracker
from prunenas.training import EpochMetrics
from prunenas.training.shared import Trainings
from prunenas.trial import run_trial


def run_study(
    study: Study,
    *,
    storage: str,
    tracking: str | None = None,
    device: str = "auto",
    warn: Callable[[str], None] = lambda text: None,
    watch: Callable[[Event], None] = lambda event: None,
    home: Path = HOME,
    cache: str | Path | None = None,
) -> StudyView:
    """Run a study, or go on with it, until it has all its trials and repeats.

    Interrupted at any point (Ctrl-C, a killed process, a power cut) it goes on where it stood: a
    trial that was under way keeps its number, its proposal and its finished epochs.

    Args:
        study: What is searched.
        storage: URL of the storage it lives in.
        tracking: URI of MLflow; None takes what ``mlflow.yml`` says.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, or ``"auto"``: a GPU where there is one.
        warn: Told of trouble that doesn't end the study, one line each.
        watch: Told of every event.
        home: Folder for checkpoints, dense networks and the front's weights.
        cache: Folder that trainings are shared in; None takes ``home / "cache"``, ``"off"`` does
            every training anew and leaves none to others.

    Raises:
        SourceError, TraceError, DataError, SpecError, StudyError: The study can't start.
    """
    chosen = device_named(device)
    data = load(**study.data.model_dump(), device=chosen)
    space = trace_study(study, data)
    mistakes = [text for entry in study.methods for text in check_widths(entry.space, space)]
    if mistakes:
        raise SpecError(dict.fromkeys(mistakes))
    with ExitStack() as stack:
        stack.enter_context(claim(storage, study.name, home / "locks"))
        opened_storage = stack.enter_context(open_storage(storage))
        ledger = Ledger.begin(opened_storage, storage, study, space)
        return _Run(study, data, space, ledger, chosen, warn, watch, home, cache).run(tracking)


def trace_study(study: Study, data: Data) -> Space:
    """The space of a study's dense network on its data."""
    arguments = fill_arguments(
        study.model.name,
        study.model.arguments,
        classes=data.classes,
        input_shape=data.input_shape,
    )
    return trace(study.model.name, arguments=arguments, input_shape=data.input_shape)


@dataclass
class _Run:
    """One call of ``run_study``, all set up."""

    study: Study
    data: Data
    space: Space
    ledger: Ledger
    device: torch.device
    warn: Callable[[str], None]
    watch: Callable[[Event], None]
    home: Path
    cache: str | Path | None

    def run(self, tracking: str | None) -> StudyView:
        view = self.ledger.view()
        done = len(view.records)
        self.watch(
            StudyStarted(
                name=view.name,
                trials_done=done,
                trials_total=view.trials_total,
                groups=len(self.space.groups),
                dense_flops=view.dense_flops,
                resumed=done > 0 or "running" in view.counts,
            )
        )
        if view.front:
            self.watch(FrontChanged(view.front))
        tracker = SafeTracker(tracker_of(view, tracking), self.warn)
        opened(tracker, view)
        records, front = mappings(view.records), mappings(view.front)
        tracker.sync(records, view.dense_widths, front, dense_figures(view))
        log_repeats(tracker, view)
        ended = "failed"
        try:
            view = self._trials(view, tracker)
            view = self._repeat(view, tracker)
            ended = "finished"
        except KeyboardInterrupt:
            ended = "interrupted"
            raise
        finally:
            tracker.close_study(ended)
        self.watch(StudyFinished(view))
        return view

    def _trials(self, view: StudyView, tracker: SafeTracker) -> StudyView:
        identity = self.ledger.identity
        shared = self.cache != "off"
        # A study of its own still trains its dense network once, and keeps it until its end.
        private = self.home / "private" / identity
        cache = Cache(Path(self.cache or self.home / "cache") if shared else private, self.warn)
        trainings = Trainings(cache if shared else None, self.study.name, identity)
        dense = Dense(
            space=self.space,
            data=self.data,
            recipe=self.study.train,
            cache=cache,
            seed=self.study.search.seed,
            device=self.device,
            report=self._dense_epoch,
        )
        weights = Weights(self.home / "weights", self.ledger.identity)
        search = self.study.search
        noise = Noise(
            len(self.data.validation), self._spread() if search.stopper == "pareto" else {}
        )
        while (trial := self.ledger.next(self.study)) is not None:
            if not self.ledger.settle(trial):
                candidate = replace(
                    propose(trial, self.study, self.space), start=trial.user_attrs.get("start")
                )
                checkpoint = self.home / "checkpoints" / self.ledger.identity / f"{trial.number}.pt"
                checkpoint.parent.mkdir(parents=True, exist_ok=True)
                telling = _Telling(
                    self.watch,
                    trial.number,
                    candidate.method_name,
                    self.space,
                    Stopper(
                        search.stopper,
                        curves_of(view.records, self.study.train, self.space.dense.flops),
                        noise,
                        any_cost=self.study.objective.budget is not None,
                    ),
                )
                outcome = run_trial(
                    candidate,
                    dense,
                    derived=telling.derived,
                    report=telling.epoch,
                    checkpoint=checkpoint,
                    trainings=trainings,
                )
                if outcome.weights is not None:
                    weights.keep(trial.number, outcome.weights)
                searched = self.study.objective.range is not None
                self.ledger.write(trial, outcome.record, candidate.flops if searched else None)
                checkpoint.unlink(missing_ok=True)
                self.ledger.set_dense_accuracy(dense.accuracy())
                tracker.log_trial(outcome.record.to_dict(), view.dense_widths)
                self.watch(TrialFinished(outcome.record))
            before, view = view.front, self.ledger.view()
            weights.only({record.number for record in view.front})
            if view.front != before:
                self.watch(FrontChanged(view.front))
            tracker.log_front(mappings(view.front), mappings(view.records), dense_figures(view))
        shutil.rmtree(private, ignore_errors=True)
        return view

    def _repeat(self, view: StudyView, tracker: SafeTracker) -> StudyView:
        """Train the candidates again with fresh seeds, where the study asks for that."""
        folder = self.home / "checkpoints" / self.ledger.identity
        cache = None
        if self.cache != "off":
            cache = Cache(Path(self.cache or self.home / "cache"), self.warn)
        trainings = Trainings(cache, self.study.name, self.ledger.identity)
        before, total = view.repeats_done
        for done, again in enumerate(missing(view), before):
            self.watch(RepeatStarted(again, done, total))

            def report(metrics: EpochMetrics, again: Again = again) -> None:
                self.watch(RepeatEpoch(again, metrics.epoch, metrics.validation.accuracy))

            checkpoint = folder / f"repeat-{again.number}-{again.seed}.pt"
            repeat = train_again(
                again, self.study, self.data, self.device, trainings, checkpoint, report
            )
            self.ledger.set_repeat(again.number, repeat)
            checkpoint.unlink(missing_ok=True)
            self.watch(RepeatFinished(again, repeat, done + 1, total))
            view = self.ledger.view()
            log_repeats(tracker, view)
        return view

    def _spread(self) -> dict[float, float]:
        """Standard deviations over repeated seeds, measured once a study."""
        kept = self.ledger.spread
        if kept is None:
            folder = self.home / "checkpoints" / self.ledger.identity
            folder.mkdir(parents=True, exist_ok=True)
            kept = repeated(
                self.study, self.space, self.data, self.device, folder, self._dense_epoch
            )
            self.ledger.spread = kept
        return spread_of(kept)

    def _dense_epoch(self, what: str, metrics: EpochMetrics) -> None:
        accuracy = metrics.validation.accuracy
        self.watch(DenseEpoch(what, metrics.epoch, self.study.train.epochs, accuracy))


@dataclass
class _Telling:
    """Turns what a trial reports into events."""

    watch: Callable[[Event], None]
    number: int
    method: str
    space: Space
    stopper: Stopper
    flops: int = 0
    epochs: int = 0
    accuracies: tuple[float, ...] = ()

    def derived(self, architecture: Architecture, epochs: int) -> None:
        self.flops, self.epochs = architecture.flops, epochs
        ratio = architecture.flops / self.space.dense.flops
        self.watch(TrialStarted(self.number, self.method, architecture.flops, ratio, epochs))

    def epoch(self, metrics: EpochMetrics) -> str | None:
        accuracy = metrics.validation.accuracy
        self.watch(TrialEpoch(self.number, metrics.epoch, self.epochs, accuracy))
        self.accuracies = (*self.accuracies, accuracy)
        own = Curve(self.flops, self.epochs, self.accuracies)
        return "stop" if self.stopper.stops(own) else None


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
