"""Running a study: propose, hand out, write down, track; until all is done."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from prunenas.errors import SpecError
from prunenas.places import HOME
from prunenas.search.benches import benches
from prunenas.search.crew import Alone, Crew, Processes
from prunenas.search.events import (
    Event,
    FrontChanged,
    StudyFinished,
    StudyStarted,
    TrialFinished,
    TrialPaused,
)
from prunenas.search.ledger import Ledger
from prunenas.search.projection import dense_figures, mappings, opened, tracker_of
from prunenas.search.schedule import WINDOW, Schedule
from prunenas.search.spread import repeated, spread_of
from prunenas.search.stoppers import Noise, Stopper, curves_of
from prunenas.search.storage import claim, open_storage
from prunenas.search.tasks import Task
from prunenas.search.view import StudyView
from prunenas.search.workshop import Place, Workshop, device_named
from prunenas.spec import Study, check_widths
from prunenas.tracking import SafeTracker
from prunenas.trial import Record


@dataclass(frozen=True)
class Labour:
    """Who carries a study's trials out.

    Attributes:
        workers: How many processes; 1 is the calling process itself.
        per_gpu: How many of them share a GPU, at most.
        deterministic: Whether the number of workers may make no difference to any trial; None: as
            the study was begun, a new one is not.
    """

    workers: int = 1
    per_gpu: int = 1
    deterministic: bool | None = None


def run_study(
    study: Study,
    *,
    storage: str,
    tracking: str | None = None,
    device: str = "auto",
    labour: Labour = Labour(),
    warn: Callable[[str], None] = lambda text: None,
    watch: Callable[[Event], None] = lambda event: None,
    home: Path = HOME,
    cache: str | Path | None = None,
) -> StudyView:
    """Run a study, or go on with it, until it has all its trials.

    Interrupted at any point (Ctrl-C, a killed process, a power cut) it goes on where it stood: a
    trial that was under way keeps its number, its proposal and its finished epochs.

    Args:
        study: What is searched.
        storage: URL of the storage it lives in.
        tracking: URI of MLflow; None takes what ``mlflow.yml`` says.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, or ``"auto"``: a GPU where there is one.
        labour: Who carries its trials out.
        warn: Told of trouble that doesn't end the study, one line each.
        watch: Told of every event, in the calling thread.
        home: Folder for checkpoints, dense networks and the front's weights.
        cache: Folder that trainings are shared in; None takes ``home / "cache"``, ``"off"`` does
            every training anew and leaves none to others.

    Raises:
        SourceError, TraceError, DataError, SpecError, StudyError: The study can't start, or can't
            go on; what it has is kept.
    """
    chosen = device_named(device)
    shared = None if cache == "off" else Path(cache or home / "cache")
    workshop = Workshop.opened(study, chosen, Place(home, shared, ""), watch, warn)
    space = workshop.space
    mistakes = [text for entry in study.methods for text in check_widths(entry.space, space)]
    if mistakes:
        raise SpecError(dict.fromkeys(mistakes))
    with ExitStack() as stack:
        opened_storage = stack.enter_context(open_storage(storage))
        stack.enter_context(claim(opened_storage, storage, study.name))
        ledger = Ledger.begin(
            opened_storage, storage, study, space, deterministic=labour.deterministic
        )
        if ledger.deterministic:
            # A sum's order, and with it its last digits, depend on the number of threads.
            stack.enter_context(_threads(1))
        place = Place(home, shared, ledger.identity)
        workshop = replace(workshop, place=place)
        crew: Crew = Alone(workshop)
        wanted = benches(study, device, place, workers=labour.workers, per_gpu=labour.per_gpu)
        if len(wanted) > 1:
            processes = Processes(wanted, watch, warn)
            stack.callback(processes.close)
            crew = processes
        return _Run(study, workshop, ledger, crew, len(wanted)).run(tracking)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class _Run:
    """One call of ``run_study``, all set up."""

    study: Study
    workshop: Workshop
    ledger: Ledger
    crew: Crew
    workers: int
    schedule: Schedule = field(init=False)
    noise: Noise = field(init=False)
    started: set[int] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        search = self.study.search
        window = WINDOW if self.ledger.deterministic else None
        by_cost = self.study.objective.minimize is not None
        self.schedule = Schedule(search.trials, search.rungs, by_cost, window)

    def run(self, tracking: str | None) -> StudyView:
        view = self.ledger.view()
        done = len(view.records)
        self.workshop.watch(
            StudyStarted(
                name=view.name,
                trials_done=done,
                trials_total=view.trials_total,
                groups=len(self.workshop.space.groups),
                dense_flops=view.dense_flops,
                resumed=done > 0 or "running" in view.counts,
                workers=self.workers,
            )
        )
        if view.front:
            self.workshop.watch(FrontChanged(view.front))
        tracker = SafeTracker(tracker_of(view, tracking), self.workshop.warn)
        opened(tracker, view)
        records, front = mappings(view.records), mappings(view.front)
        tracker.sync(records, view.dense_widths, front, dense_figures(view))
        ended = "failed"
        try:
            view = self._trials(view, tracker)
            ended = "finished"
        except KeyboardInterrupt:
            ended = "interrupted"
            raise
        finally:
            tracker.close_study(ended)
        self.workshop.watch(StudyFinished(view))
        return view

    def _trials(self, view: StudyView, tracker: SafeTracker) -> StudyView:
        self.ledger.settle()
        pareto = self.study.search.stopper == "pareto" and not self.ledger.view().finished
        spread = self._spread() if pareto else {}
        self.noise = Noise(len(self.workshop.data.validation), spread)
        self._hand_out()
        while self.crew.busy():
            done = self.crew.wait()
            record = self._written(done.task, done.record)
            self.ledger.set_dense_accuracy(done.dense_accuracy)
            self._hand_out()  # before anything slow: nobody waits for MLflow
            if record.state == "paused":
                self.workshop.watch(TrialPaused(record))
                continue
            view = self._shown(view, tracker, [record])
        screened = [self._screened(record) for record in self.ledger.paused()]
        for record in screened:
            self.ledger.write(record)
        view = self._shown(view, tracker, screened)
        self.workshop.place.clear()
        return view

    def _hand_out(self) -> None:
        """Give every idle worker a task, as long as there are any."""
        while self.crew.idle() and (task := self._next()) is not None:
            self.started.add(task.candidate.number)
            self.crew.begin(task)

    def _next(self) -> Task | None:
        standings = self.ledger.standings(self.study)
        # What an earlier process has left unfinished comes first, in its own order.
        left = [s for s in standings if s.running and s.number not in self.started]
        if left:
            first = min(left, key=lambda standing: standing.jobs[-1][0])
            job, rung = first.jobs[-1]
            hidden = self._hidden(job)
            space = self.workshop.space
            candidate = self.ledger.propose(self.study, space, first.number, hidden)
        else:
            decided = self.schedule.next(standings)
            if decided is None:
                return None
            job, rung = decided.job, decided.rung
            candidate = self.ledger.propose(
                self.study, self.workshop.space, decided.trial, self._hidden(job)
            )
            if len(self.schedule.rungs) > 1:
                # Starts aren't paused: the study must not end worse than they are.
                rung = len(self.schedule.rungs) - 1 if candidate.start is not None else rung
                self.ledger.assign(candidate.number, job, rung)
        visible = self.schedule.visible(standings, job)
        records = [r for r in self.ledger.view().records if r.number in visible]
        stopper = Stopper(
            "none" if candidate.start is not None else self.study.search.stopper,
            curves_of(records, self.study.train, self.workshop.space.dense.flops),
            self.noise,
            any_cost=self.study.objective.budget is not None,
        )
        paused = self.ledger.paused_record(candidate.number)
        told = 0 if paused is None else paused.epochs
        return Task(candidate, stopper, self.schedule.rungs[rung], told)

    def _hidden(self, job: int) -> frozenset[int]:
        if self.schedule.window is None:
            return frozenset()
        standings = self.ledger.standings(self.study)
        return frozenset(s.number for s in standings) - self.schedule.visible(standings, job)

    def _written(self, task: Task, record: Record) -> Record:
        """Keep how a task ended."""
        number = task.candidate.number
        self.started.discard(number)
        earlier = self.ledger.paused_record(number)
        if earlier is not None:
            record = replace(
                record, started=earlier.started, seconds=earlier.seconds + record.seconds
            )
        if record.state == "paused":
            self.ledger.pause(record)
            return record
        searched = self.study.objective.range is not None
        asked = task.candidate.flops if searched else None
        visible = None
        if self.schedule.window is not None:
            standings = self.ledger.standings(self.study)
            job = standings[number].jobs[-1][0]
            visible = self.schedule.visible(standings, job)
        self.ledger.write(record, asked, visible)
        return record

    def _screened(self, record: Record) -> Record:
        """A paused trial at the study's end: others were more promising."""
        assert record.flops is not None
        epochs = self.study.train.epochs_for(
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
        # Workers keep weights of trials that are not written down yet.
        self.workshop.place.weights().only({r.number for r in view.front} | self.started)
        if view.front != before:
            self.workshop.watch(FrontChanged(view.front))
        tracker.log_front(mappings(view.front), mappings(view.records), dense_figures(view))
        return view

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
