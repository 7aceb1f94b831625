"""What is known of a running study: events folded into one state, and the time it still needs."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from prunenas.search.again import Again
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
    TrialPaused,
    TrialStarted,
)
from prunenas.search.view import StudyView
from prunenas.trial import Record


@dataclass
class RunningTrial:
    """A trial in training; ``since`` and ``at`` are the clock's at its start and last epoch."""

    number: int
    method: str
    flops_ratio: float
    epochs: int
    since: float
    at: float
    epoch: int = 0
    accuracy: float | None = None


@dataclass
class DenseTraining:
    """The training, or other work, that a method learns from; its trial has not started yet."""

    what: str
    epoch: int
    epochs: int
    accuracy: float | None
    unit: str = "epoch"


@dataclass
class RunningRepeat:
    """A candidate in training with a fresh seed; ``since`` is the clock's at its start."""

    again: Again
    since: float
    epoch: int = 0
    accuracy: float | None = None


class Progress:
    """The state of a study as its events tell it.

    Args:
        name: The study's name, to be shown before its first event.
        clock: Seconds that only grow; a test hands in its own.
    """

    def __init__(self, name: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.name = name
        self.done = 0
        self.total = 0
        self.groups = 0
        self.dense_flops = 0
        self.resumed = False
        self.finished = False
        self.workers = 1
        self.dense: dict[str, DenseTraining] = {}
        self.running: dict[int, RunningTrial] = {}
        self.repeats: dict[tuple[int, int], RunningRepeat] = {}
        self.repeats_done = 0
        self.repeats_total = 0
        self.front: tuple[Record, ...] = ()
        self.counts: Counter[str] = Counter()
        self._trial_seconds: dict[int, float] = {}
        self._epoch_seconds: list[float] = []
        self._repeat_seconds: list[float] = []

    def update(self, event: Event) -> None:
        """Take one event in."""
        match event:
            case StudyStarted():
                self.name, self.groups = event.name, event.groups
                self.done, self.total = event.trials_done, event.trials_total
                self.dense_flops, self.resumed = event.dense_flops, event.resumed
                self.workers = event.workers
                if event.trials_done:
                    self.counts["done before"] = event.trials_done
            case DenseEpoch():
                self.dense[event.what] = DenseTraining(
                    event.what, event.epoch, event.epochs, event.accuracy, event.unit
                )
                if event.epoch >= event.epochs:
                    del self.dense[event.what]
            case TrialStarted():
                now = self._clock()
                self.running[event.number] = RunningTrial(
                    event.number, event.method, event.flops_ratio, event.epochs, now, now
                )
            case TrialEpoch():
                if trial := self.running.get(event.number):
                    trial.epoch, trial.epochs = event.epoch, event.epochs
                    trial.accuracy, trial.at = event.accuracy, self._clock()
            case TrialFinished():
                self._finish(event.record)
            case TrialPaused():
                self.running.pop(event.record.number, None)
                self._trial_seconds[event.record.number] = event.record.seconds
            case FrontChanged():
                self.front = event.front
            case RepeatStarted(again, done, total):
                self.repeats[again.number, again.seed] = RunningRepeat(again, self._clock())
                self.repeats_done, self.repeats_total = done, total
            case RepeatEpoch(again):
                if repeat := self.repeats.get((again.number, again.seed)):
                    repeat.epoch, repeat.accuracy = event.epoch, event.accuracy
            case RepeatFinished(again, ended, done, total):
                self.repeats.pop((again.number, again.seed), None)
                self.repeats_done, self.repeats_total = done, total
                if ended.reused is None:
                    self._repeat_seconds.append(ended.seconds)
            case StudyFinished():
                self.front, self.counts = event.view.front, Counter(event.view.counts)
                self.finished = True

    def _finish(self, record: Record) -> None:
        # Of several workers' trainings too: those that are under way tell their next epoch.
        self.dense.clear()
        self.running.pop(record.number, None)
        self.done += 1
        self.counts[record.state] += 1
        self._trial_seconds[record.number] = record.seconds
        if record.epochs and record.reused is None:
            self._epoch_seconds.append(record.seconds / record.epochs)

    def seconds_left(self) -> float | None:
        """Estimate the time to the study's end; ``None`` while nothing is known.

        Trials to come are taken to last as long as those that were finished or paused did on
        average, trials told without training among them; a running one by its epochs left at its
        own pace, or before its first epoch at the pace of the finished ones. Workers share what is
        left.
        """
        now = self._clock()
        running = [(trial, self._duration(trial)) for trial in self.running.values()]
        known = [*self._trial_seconds.values()]
        known = known or [seconds for _, seconds in running if seconds is not None]
        known = known or self._repeat_seconds
        if not known:
            return None
        typical = sum(known) / len(known)
        left = max(0, self.total - self.done - len(running)) * typical
        for trial, seconds in running:
            left += max(0.0, (typical if seconds is None else seconds) - (now - trial.since))
        return (left + self._repeats_left(typical)) / self.workers

    def _repeats_left(self, typical: float) -> float:
        """Trainings with fresh seeds last as long as each other, the first one as a trial."""
        if self._repeat_seconds:
            typical = sum(self._repeat_seconds) / len(self._repeat_seconds)
        spent = sum(self._clock() - repeat.since for repeat in tuple(self.repeats.values()))
        return max(0.0, (self.repeats_total - self.repeats_done) * typical - spent)

    def _duration(self, trial: RunningTrial) -> float | None:
        if trial.epoch:
            return (trial.at - trial.since) / trial.epoch * trial.epochs
        if self._epoch_seconds:
            return sum(self._epoch_seconds) / len(self._epoch_seconds) * trial.epochs
        return None


def time_left(view: StudyView) -> float | None:
    """Estimate the seconds of work a study still needs; ``None`` while nothing is known."""
    if view.finished:
        return 0.0
    if not view.records:
        return None
    typical = sum(record.seconds for record in view.records) / len(view.records)
    left = max(0, view.trials_total - len(view.records)) * typical
    trained = [each.seconds for one in view.repeats for each in one.trainings if not each.reused]
    done, total = view.repeats_done
    return left + (total - done) * (sum(trained) / len(trained) if trained else typical)
