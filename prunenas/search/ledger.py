"""A study as Optuna's storage keeps it: settings, trials and their records."""

from collections.abc import Collection, Iterator
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from prunenas.architecture import Space
from prunenas.errors import StudyError, unknown
from prunenas.places import address
from prunenas.search.front import front_of
from prunenas.search.proposal import propose
from prunenas.search.repeats import KEPT, Repeat, progress, standing
from prunenas.search.samplers import sampler
from prunenas.search.schedule import Standing
from prunenas.search.seen import Seen
from prunenas.search.stoppers import epoch_at
from prunenas.search.storage import open_storage
from prunenas.search.verdicts import CONSTRAINTS, constraints, verdict
from prunenas.search.view import StudyView
from prunenas.spec import Cost, Study
from prunenas.spec.objective import costs_of
from prunenas.trial import Candidate, Record

_NARROW = 1e-9
"""A ratio at which every group has its fewest channels."""


class Ledger:
    """One study in its storage. Made by ``founding.begin`` (to run it) or ``read`` (to look at it).

    The storage is the record: each trial carries its ``Record`` as a user attribute, the study its
    settings and what is known of the dense network. MLflow and pictures are made from these.
    """

    def __init__(
        self, storage: RDBStorage, name: str, url: str, space: Space | None = None
    ) -> None:
        self._study = Seen(name, storage)
        self._storage = self._study._storage  # with Optuna's cache of finished trials
        self._url = url
        self._least = space.flops(space.widths(_NARROW)) if space is not None else 0

    @classmethod
    def read(cls, storage: RDBStorage, url: str, name: str) -> "Ledger":
        """Open a study to look at it.

        Raises:
            StudyError: There is no such study; names those there are.
        """
        known = optuna.get_all_study_names(storage)
        if name not in known:
            none = f"there are no studies in {address(url)}"
            raise StudyError(unknown("study", name, known) if known else none)
        return cls(storage, name, url)

    @property
    def identity(self) -> str:
        """What tells this study from any other of the same name."""
        return str(self._study.user_attrs["identity"])

    def untold(self) -> list[Record]:
        """Records that were written, but their process ended before it told Optuna of them."""
        return [
            Record.from_dict(trial.user_attrs["record"])
            for trial in self._trials()
            if trial.state == TrialState.RUNNING and "record" in trial.user_attrs
        ]

    def standings(self, study: Study) -> list[Standing]:
        """How far each trial has come that was begun, in order."""
        shares, dense = study.search.rungs, self._study.user_attrs["dense"]["flops"]
        found = []
        for trial in self._trials():
            kept = trial.user_attrs
            jobs = tuple((job, rung) for job, rung in kept.get("jobs", [[trial.number, 0]]))
            record = kept.get("record") or kept.get("paused", {}).get("record")
            costs, reached = None, tuple[float, ...]()
            if record is not None and record["flops"] is not None:
                flops = record["flops"]
                costs = Record.from_dict(record).costs(self._costs)
                epochs = study.epochs_for(dense_flops=dense, flops=flops)
                curve = [point["validation_accuracy"] for point in record["curve"]]
                ends = [epoch_at(share, epochs) for share in shares]
                reached = tuple(curve[end - 1] for end in ends if end <= len(curve))
            running = trial.state == TrialState.RUNNING and not _is_paused(trial)
            found.append(Standing(trial.number, "start" in kept, jobs, running, costs, reached))
        return found

    def propose(
        self,
        study: Study,
        space: Space,
        number: int | None = None,
        hidden: Collection[int] = (),
    ) -> Candidate:
        """A new trial's candidate, or that of a trial that was begun.

        Args:
            study: What is searched.
            space: The channel groups of its dense network.
            number: A trial that was begun: what it has is read, what it lacks is proposed.
            hidden: Trials that the sampler is to think running.
        """
        # Starts wait from the beginning, with the first numbers.
        at = len(self._trials()) if number is None else number
        name = self._study.user_attrs["sampler"]
        self._study.sampler = sampler(name, study.search.seed, at, study, space)
        with self._study.without(hidden):  # it samples as it is asked for its first parameter
            trial = self._study.ask() if number is None else Trial(self._study, self._id(at))
            candidate = propose(trial, study, space)
        return replace(candidate, start=trial.user_attrs.get("start"))

    def assign(self, number: int, job: int, rung: int) -> None:
        """Write down that a trial is trained up to a rung, before it is."""
        trial = self._trials()[number]
        jobs = [*trial.user_attrs.get("jobs", []), [job, rung]]
        self._storage.set_trial_user_attr(trial._trial_id, "jobs", jobs)

    def pause(self, record: Record) -> None:
        """Keep what is known of a trial that may go on."""
        trial = self._trials()[record.number]
        job = trial.user_attrs["jobs"][-1][0]
        paused = {"job": job, "record": record.to_dict()}
        self._storage.set_trial_user_attr(trial._trial_id, "paused", paused)

    def paused(self) -> list[Record]:
        """Trials that may go on, as far as they came."""
        return [
            Record.from_dict(trial.user_attrs["paused"]["record"])
            for trial in self._trials()
            if trial.state == TrialState.RUNNING and "paused" in trial.user_attrs
        ]

    def pausing_at(self, number: int) -> int:
        """The epoch at which a trial paused last; 0 for one that never did."""
        paused = self.paused_record(number)
        return 0 if paused is None else paused.epochs

    def paused_record(self, number: int) -> Record | None:
        """A trial as it stood when it paused last; None for one that never did."""
        paused = self._trials()[number].user_attrs.get("paused")
        return None if paused is None else Record.from_dict(paused["record"])

    def write(
        self, record: Record, asked: int | None = None, visible: Collection[int] | None = None
    ) -> None:
        """Keep a trial's record and tell Optuna what came of it.

        Args:
            record: How it ended.
            asked: The target in FLOPs that it was to meet, where targets are searched.
            visible: Trials whose results this one may depend on; None for all before it.
        """
        trial = self._trials()[record.number]
        kept = self._study.user_attrs
        told = constraints(
            record,
            asked=asked,
            latency_ms=kept["objective"].get("latency_ms"),
            least=self._least,
            dense=kept["dense"]["flops"],
        )
        if told and not trial.constraints:
            self._storage.set_trial_system_attr(trial._trial_id, CONSTRAINTS, told)
        # For whoever looks at Optuna's own pages, where a state is one of five.
        why = f": {record.reason}" if record.reason else ""
        self._storage.set_trial_user_attr(trial._trial_id, "outcome", f"{record.state}{why}")
        self._storage.set_trial_user_attr(trial._trial_id, "record", record.to_dict())
        self.tell(record, visible)

    def tell(self, record: Record, visible: Collection[int] | None = None) -> None:
        """Tell Optuna what a record says; ``visible`` as for ``write``."""
        number = record.number
        one_objective = len(self._study.directions) == 1
        if record.state == "stopped" and one_objective and record.accuracy is not None:
            self._trial(number).report(record.accuracy, record.epochs)
        earlier = [
            other
            for other in _records(self._trials())
            if visible is None or other.number in visible
        ]
        told = verdict(record, earlier, self._costs, self._least)
        self._study.tell(number, told.values, state=told.state)

    def _trials(self) -> list[FrozenTrial]:
        """All that were begun, in order; a trial's number is its index."""
        trials = self._study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.state != TrialState.WAITING]

    def _id(self, number: int) -> int:
        return int(self._trials()[number]._trial_id)

    def _trial(self, number: int) -> Trial:
        """A trial to write to; its proposal is complete."""
        return Trial(self._study, self._id(number))

    @property
    def deterministic(self) -> bool:
        """Whether the number of workers makes no difference to it."""
        return bool(self._study.user_attrs.get("deterministic"))

    @cached_property
    def _costs(self) -> tuple[Cost, ...]:
        """What is minimized; a study never changes it, and every reading asks the storage."""
        return costs_of(self._study.user_attrs["objective"].get("minimize"))

    @property
    def dense_latency(self) -> dict[str, Any] | None:
        """The dense network's latency as a record has one; None before it is measured."""
        kept: dict[str, Any] | None = self._study.user_attrs.get("dense_latency")
        return kept

    @dense_latency.setter
    def dense_latency(self, latency: dict[str, Any]) -> None:
        self._study.set_user_attr("dense_latency", latency)

    @property
    def spread(self) -> dict[str, Any] | None:
        """What was kept of trainings repeated with other seeds; None before."""
        kept: dict[str, Any] | None = self._study.user_attrs.get("spread")
        return kept

    @spread.setter
    def spread(self, spread: dict[str, Any]) -> None:
        self._study.set_user_attr("spread", spread)

    def set_dense_accuracy(self, accuracy: float | None) -> None:
        """Keep the dense network's validation accuracy, once it is known."""
        if accuracy is not None and self._study.user_attrs.get("dense_accuracy") != accuracy:
            self._study.set_user_attr("dense_accuracy", accuracy)

    def set_repeat(self, number: int, repeat: Repeat) -> None:
        """Keep what a fresh seed says of a trial's architecture.

        With the study: Optuna lets nothing be written to a finished trial. Only one process may
        call it, as several seeds of a candidate stand in one attribute.
        """
        kept = self._study.user_attrs.get(f"{KEPT}{number}", [])
        others = [each for each in kept if each["seed"] != repeat.seed]
        self._study.set_user_attr(f"{KEPT}{number}", [*others, asdict(repeat)])

    def view(self) -> StudyView:
        """The study as it stands.

        Raises:
            StudyError: It was not made by prunenas, or by another version of it.
        """
        kept = self._study.user_attrs
        name = self._study.study_name
        if "settings" not in kept:
            raise StudyError(f"study {name!r} in {address(self._url)} was not made by prunenas")
        trials = self._study.get_trials(deepcopy=False)
        records = tuple(_records(trials))
        counts: dict[str, int] = {}
        for record in records:
            counts[record.state] = counts.get(record.state, 0) + 1
        open_trials = [trial for trial in trials if trial.state == TrialState.RUNNING]
        paused = sum(_is_paused(trial) for trial in open_trials)
        counts |= {"paused": paused} if paused else {}
        counts |= {"running": len(open_trials) - paused} if len(open_trials) > paused else {}
        costs, dense = self._costs, kept["dense"]
        repeats, wanted = standing(kept, records, costs), kept.get("repeats", 0)
        repeated, asked = progress(repeats, wanted)
        return StudyView(
            name=name,
            text=kept["text"],
            objective=kept["objective"],
            directions=tuple(each.name.lower() for each in self._study.directions),
            trials_total=kept["trials"],
            records=records,
            counts=counts,
            front=front_of(records, costs),
            dense_flops=dense["flops"],
            dense_params=dense["params"],
            dense_accuracy=kept.get("dense_accuracy"),
            dense_widths=dense["widths"],
            finished=len(records) >= kept["trials"] and repeated == asked,
            storage=self._url,
            identity=kept["identity"],
            settings=kept["settings"],
            repeats_total=wanted,
            repeats=repeats,
            dense_latency=self.dense_latency,
            dense_round_seconds=dense.get("round_seconds"),
        )


def read_study(storage: str, name: str) -> StudyView:
    """Read a study as it stands.

    Raises:
        StudyError: There is no such storage or study; names those there are.
    """
    with open_storage(storage, create=False) as opened:
        return Ledger.read(opened, storage, name).view()


def names(url: str) -> list[str]:
    """Names of the studies in a storage, sorted.

    Raises:
        StudyError: There is no such storage.
    """
    with open_storage(url, create=False) as storage:
        return sorted(optuna.get_all_study_names(storage))


def _records(trials: list[FrozenTrial]) -> Iterator[Record]:
    for trial in trials:
        if trial.state.is_finished() and "record" in trial.user_attrs:
            yield Record.from_dict(trial.user_attrs["record"])


def _is_paused(trial: FrozenTrial) -> bool:
    """Whether its last training has ended, and it may go on."""
    paused = trial.user_attrs.get("paused")
    return paused is not None and paused["job"] == trial.user_attrs["jobs"][-1][0]
