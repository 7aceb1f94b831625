"""The one process of a study that proposes, hands out, writes down and tracks."""

import math
import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from prunenas.search.again import Again, missing
from prunenas.search.crew import Crew
from prunenas.search.events import (
    FrontChanged,
    RepeatFinished,
    RepeatStarted,
    StudyFinished,
    StudyStarted,
    TrialFinished,
    TrialPaused,
)
from prunenas.search.ledger import Ledger
from prunenas.search.projection import dense_figures, log_repeats, mappings, opened, tracker_of
from prunenas.search.schedule import WINDOW, Schedule
from prunenas.search.spread import repeated, spread_of
from prunenas.search.stoppers import Noise, Stopper, curves_of
from prunenas.search.tasks import Repeated, Tried, Try, TryAgain
from prunenas.search.view import StudyView
from prunenas.search.workshop import Workshop
from prunenas.spec import Study
from prunenas.tracking import SafeTracker
from prunenas.trial import Record

_REDRAW = 30.0
"""Seconds between two pictures of the front: each takes a fraction of one."""


@dataclass
class Coordinator:
    """One run of a study, all set up.

    Attributes:
        study: What is searched.
        workshop: This process's own: its space, data and places, whoever does the work.
        ledger: The study in its storage.
        crew: Who does the work.
        workers: How many they are.
    """

    study: Study
    workshop: Workshop
    ledger: Ledger
    crew: Crew
    workers: int
    _schedule: Schedule = field(init=False)
    _noise: Noise = field(init=False)
    _latest: StudyView = field(init=False)
    _drawn: float = field(init=False, default=-math.inf)
    _stale: bool = field(init=False, default=False)
    _under_way: set[int] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        search = self.study.search
        window = WINDOW if self.ledger.deterministic else None
        self._schedule = Schedule(search.trials, search.rungs, window)

    def run(self, tracking: str | None) -> StudyView:
        """Do what the study still needs; the study as it stands at the end."""
        if self.workshop.gauge is not None and self.ledger.dense_latency is None:
            dense = self.workshop.gauge.latency(self.workshop.space.dense)
            self.ledger.dense_latency = dense.to_dict()
        self._latest = view = self.ledger.view()
        done = len(view.records)
        self.workshop.watch(
            StudyStarted(
                name=view.name,
                trials_done=done,
                trials_total=view.trials_total,
                groups=len(self.workshop.space.groups),
                dense_flops=view.dense_flops,
                resumed=done > 0 or bool(view.counts),
                workers=self.workers,
            )
        )
        if view.front:
            self.workshop.watch(FrontChanged(view.front))
        tracker = SafeTracker(tracker_of(view, tracking), self.workshop.warn)
        opened(tracker, view)
        records, front = mappings(view.records), mappings(view.front)
        tracker.sync(records, view.dense_widths, front, dense_figures(view))
        log_repeats(tracker, view)
        ended = "failed"
        try:
            view = self._trials(view, tracker)
            view = self._repeats(view, tracker)
            ended = "finished"
        except KeyboardInterrupt:
            ended = "interrupted"
            raise
        finally:
            tracker.close_study(ended)
        self.workshop.place.clear()
        self.workshop.watch(StudyFinished(view))
        return view

    def _trials(self, view: StudyView, tracker: SafeTracker) -> StudyView:
        for record in self.ledger.untold():
            self.ledger.tell(record, self._visible(record.number))
        pareto = self.study.search.stopper == "pareto" and not view.trials_done
        spread = self._spread() if pareto else {}
        self._noise = Noise(len(self.workshop.data.validation), spread)
        try:
            self._hand_out()
            while self.crew.busy():
                done = self.crew.wait()
                assert isinstance(done, Tried)
                record = self._written(done.task, done.record)
                self.ledger.set_dense_accuracy(done.dense_accuracy)
                self._hand_out()  # before anything slow: nobody waits for MLflow
                if record.state == "paused":
                    self.workshop.watch(TrialPaused(record))
                else:
                    view = self._shown(view, tracker, [record])
            screened = [self._screened(record) for record in self.ledger.paused()]
            for record in screened:
                self.ledger.write(record)
            return self._shown(view, tracker, screened)
        finally:
            self._draw(tracker)

    def _hand_out(self) -> None:
        """Give every idle worker a task, as long as there are any."""
        while self.crew.idle() and (task := self._next()) is not None:
            self._under_way.add(task.candidate.number)
            self.crew.begin(task)

    def _next(self) -> Try | None:
        standings = self.ledger.standings(self.study)
        # What an earlier process has left unfinished comes first, in its own order.
        left = [s for s in standings if s.running and s.number not in self._under_way]
        first = min(left, key=lambda standing: standing.jobs[-1][0], default=None)
        if first is not None:
            trial: int | None = first.number
            job, rung = first.jobs[-1]
        else:
            decided = self._schedule.next(standings)
            if decided is None:
                return None
            trial, job, rung = decided.trial, decided.job, decided.rung
        visible = self._schedule.visible(standings, job)
        hidden = () if self._schedule.window is None else {s.number for s in standings} - visible
        candidate = self.ledger.propose(self.study, self.workshop.space, trial, hidden)
        stopper = self.study.search.stopper
        if candidate.start is not None:  # the study must not end worse than its starts
            stopper, rung = "none", len(self._schedule.rungs) - 1
        if first is None and self.study.search.fidelity:
            self.ledger.assign(candidate.number, job, rung)
        records = [r for r in self.ledger.view().records if r.number in visible]
        return Try(
            candidate,
            Stopper(
                stopper,
                curves_of(
                    records,
                    self.study,
                    self.workshop.space.dense.flops,
                    self.study.objective.costs,
                ),
                self._noise,
            ),
            share=self._schedule.rungs[rung],
            told=self.ledger.pausing_at(candidate.number),
        )

    def _visible(self, number: int) -> Collection[int] | None:
        """Trials that what is told of this one may depend on; None for all before it."""
        if self._schedule.window is None:
            return None
        standings = self.ledger.standings(self.study)
        return self._schedule.visible(standings, standings[number].jobs[-1][0])

    def _written(self, task: Try, record: Record) -> Record:
        """Keep how a task ended."""
        number = task.candidate.number
        self._under_way.discard(number)
        earlier = self.ledger.paused_record(number)
        if earlier is not None:
            record = replace(
                record, started=earlier.started, seconds=earlier.seconds + record.seconds
            )
        if record.state == "paused":
            self.ledger.pause(record)
        else:
            searched = self.study.objective.range is not None
            asked = task.candidate.flops if searched else None
            self.ledger.write(record, asked, self._visible(number))
        return record

    def _screened(self, record: Record) -> Record:
        """A paused trial at the study's end: others were more promising."""
        assert record.flops is not None
        epochs = self.study.epochs_for(
            dense_flops=self.workshop.space.dense.flops, flops=record.flops
        )
        return replace(
            record, state="stopped", reason=f"screened out after epoch {record.epochs} of {epochs}"
        )

    def _shown(self, view: StudyView, tracker: SafeTracker, records: list[Record]) -> StudyView:
        """Track records that were written down; the study as it stands then."""
        for record in records:
            tracker.log_trial(record.to_dict(), view.dense_widths)
            self.workshop.watch(TrialFinished(record))
        before, view = view.front, self.ledger.view()
        self._latest = view
        # Workers keep weights of trials that are not written down yet.
        self.workshop.place.weights().only({r.number for r in view.front} | self._under_way)
        if view.front != before:
            self.workshop.watch(FrontChanged(view.front))
        self._stale |= bool(records)
        if time.monotonic() - self._drawn >= _REDRAW:
            self._draw(tracker)
        return view

    def _draw(self, tracker: SafeTracker) -> None:
        if not self._stale:
            return
        view = self._latest
        tracker.log_front(mappings(view.front), mappings(view.records), dense_figures(view))
        self._drawn, self._stale = time.monotonic(), False

    def _spread(self) -> dict[float, float]:
        """Standard deviations over repeated seeds, measured once a study."""
        kept = self.ledger.spread
        if kept is None:
            shop = self.workshop
            shop.place.checkpoints.mkdir(parents=True, exist_ok=True)
            kept = repeated(
                self.study,
                shop.space,
                shop.data,
                shop.device,
                shop.place.checkpoints,
                shop.dense_epoch,
            )
            self.ledger.spread = kept
        return spread_of(kept)

    def _repeats(self, view: StudyView, tracker: SafeTracker) -> StudyView:
        """Train the candidates again with fresh seeds, where the study asks for that."""
        wanted = missing(view)
        done, total = view.repeats_done
        if view.repeats:  # new trials may have made another picture
            log_repeats(tracker, view)

        def hand_out() -> None:
            while wanted and self.crew.idle():
                again: Again = wanted.pop(0)
                self.workshop.watch(RepeatStarted(again, done, total))
                self.crew.begin(TryAgain(again))

        hand_out()
        while self.crew.busy():
            ended = self.crew.wait()
            assert isinstance(ended, Repeated)
            self.ledger.set_repeat(ended.again.number, ended.repeat)
            done += 1
            hand_out()
            self.workshop.watch(RepeatFinished(ended.again, ended.repeat, done, total))
            view = self.ledger.view()
            log_repeats(tracker, view)
        return view
