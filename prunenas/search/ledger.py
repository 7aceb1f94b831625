"""A study as Optuna's storage keeps it: settings, trials and their records."""

import uuid
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from prunenas.architecture import Space
from prunenas.errors import StudyError, unknown
from prunenas.places import address
from prunenas.search.front import front_of
from prunenas.search.proposal import propose
from prunenas.search.samplers import resolved, sampler
from prunenas.search.schedule import Standing
from prunenas.search.seen import Seen
from prunenas.search.starts import Start, starts_of
from prunenas.search.stoppers import epoch_at
from prunenas.search.storage import open_storage
from prunenas.search.verdicts import CONSTRAINT, verdict, violation
from prunenas.search.view import StudyView
from prunenas.spec import Study
from prunenas.trial import Candidate, Record

_NARROW = 1e-9
"""A ratio at which every group has its fewest channels."""


class Ledger:
    """One study in its storage. Made by ``begin`` (to run it) or ``read`` (to look at it).

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
    def begin(
        cls,
        storage: RDBStorage,
        url: str,
        study: Study,
        space: Space,
        *,
        deterministic: bool | None = None,
    ) -> "Ledger":
        """Open a study to run it: a new one, or the one of that name with the same settings.

        Args:
            storage: Where it lives.
            url: The storage's.
            study: What is searched.
            space: The channel groups of its dense network.
            deterministic: Whether the number of workers may make no difference; None: as it was
                begun, a new one is not.

        Raises:
            StudyError: The storage has a study of that name with other settings.
        """
        directions = [StudyDirection.MAXIMIZE]
        if study.objective.minimize is not None:
            directions.append(StudyDirection.MINIMIZE)
        starts = cls._starts(storage, url, study, space)
        found = optuna.create_study(
            storage=storage,
            study_name=study.name,
            directions=directions,
            load_if_exists=True,
            sampler=sampler("random", study.search.seed, 0),
        )
        settings = study.settings()
        stored = found.user_attrs.get("settings")
        if stored is None:
            if found.trials:
                raise StudyError(
                    f"study {study.name!r} in {address(url)} was not made by prunenas; "
                    "give yours another name"
                )
            with warnings.catch_warnings():  # of metric names, which Optuna calls experimental
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                found.set_metric_names(["accuracy", "flops"][: len(directions)])
            dense = space.dense
            found.set_user_attr("identity", uuid.uuid4().hex)
            found.set_user_attr("starts", [asdict(start) for start in starts])
            found.set_user_attr("objective", study.objective.model_dump(exclude_none=True))
            found.set_user_attr(
                "dense",
                {"flops": dense.flops, "params": dense.params, "widths": dict(dense.widths)},
            )
            found.set_user_attr("deterministic", bool(deterministic))
            found.set_user_attr("settings", settings)
        elif differences := list(_differences(stored, settings)):
            shown = "; ".join(differences[:4]) + ("; …" if len(differences) > 4 else "")
            raise StudyError(
                f"study {study.name!r} in {address(url)} was begun with other settings: {shown}. "
                "Give the study another name, or another --storage"
            )
        begun = bool(found.user_attrs.get("deterministic"))
        if deterministic is not None and deterministic != begun:
            raise StudyError(
                f"study {study.name!r} in {address(url)} was begun with"
                f"{'' if begun else 'out'} --deterministic, and goes on like that"
            )
        found.set_user_attr("text", study.text)
        found.set_user_attr("trials", study.search.trials)
        found.set_user_attr("sampler", resolved(study, space))
        for start in found.user_attrs["starts"][len(found.trials) :]:
            found.enqueue_trial(start["parameters"], user_attrs={"start": start["name"]})
        return cls(storage, study.name, url, space)

    @classmethod
    def _starts(cls, storage: RDBStorage, url: str, study: Study, space: Space) -> list[Start]:
        """The starts of a new study. Before it is made: what has no such starts is not begun."""
        if study.name in optuna.get_all_study_names(storage):
            kept = optuna.load_study(study_name=study.name, storage=storage).user_attrs
            if "settings" in kept:
                return []
        earlier = study.search.warm_start
        view = cls.read(storage, url, earlier).view() if earlier is not None else None
        return starts_of(study, space, view)

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

    def settle(self) -> None:
        """Tell Optuna of trials whose record was written but that were interrupted before that."""
        for trial in self._trials():
            if trial.state == TrialState.RUNNING and "record" in trial.user_attrs:
                self._tell(trial.number, Record.from_dict(trial.user_attrs["record"]), None)

    def standings(self, study: Study) -> list[Standing]:
        """How far each trial has come that was begun, in order."""
        shares, dense = study.search.rungs, self._study.user_attrs["dense"]["flops"]
        found = []
        for trial in self._trials():
            kept = trial.user_attrs
            jobs = tuple((job, rung) for job, rung in kept.get("jobs", [[trial.number, 0]]))
            record = kept.get("record") or kept.get("paused", {}).get("record")
            flops, reached = None, tuple[float, ...]()
            if record is not None and record["flops"] is not None:
                flops = record["flops"]
                epochs = study.train.epochs_for(dense_flops=dense, flops=flops)
                curve = [point["validation_accuracy"] for point in record["curve"]]
                ends = [epoch_at(share, epochs) for share in shares]
                reached = tuple(curve[end - 1] for end in ends if end <= len(curve))
            running = trial.state == TrialState.RUNNING and not _is_paused(trial)
            found.append(Standing(trial.number, "start" in kept, jobs, running, flops, reached))
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
        self._study.sampler = sampler(name, study.search.seed, at)
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
        if asked is not None and CONSTRAINT not in trial.constraints:
            dense = self._study.user_attrs["dense"]["flops"]
            self._trial(record.number).set_constraint(
                CONSTRAINT, violation(record, asked, self._least, dense)
            )
        self._storage.set_trial_user_attr(trial._trial_id, "record", record.to_dict())
        self._tell(record.number, record, visible)

    def _tell(self, number: int, record: Record, visible: Collection[int] | None) -> None:
        one_objective = len(self._study.directions) == 1
        if record.state == "stopped" and one_objective and record.accuracy is not None:
            self._trial(number).report(record.accuracy, record.epochs)
        earlier = [
            other
            for other in _records(self._trials())
            if visible is None or other.number in visible
        ]
        told = verdict(record, earlier, self._directions, self._least)
        self._study.tell(number, told.values, state=told.state)

    def _trials(self) -> list[FrozenTrial]:
        """All that were begun, in order; a trial's number is its index."""
        trials = self._study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.state != TrialState.WAITING]

    def _id(self, number: int) -> int:
        return int(self._trials()[number]._trial_id)

    def _trial(self, number: int) -> Trial:
        """A trial to write to; its proposal is complete."""
        self._study.sampler = sampler("random", 0, number)
        return Trial(self._study, self._id(number))

    @property
    def deterministic(self) -> bool:
        """Whether the number of workers makes no difference to it."""
        return bool(self._study.user_attrs.get("deterministic"))

    @property
    def _directions(self) -> tuple[str, ...]:
        return tuple(direction.name.lower() for direction in self._study.directions)

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

    def view(self) -> StudyView:
        """The study as it stands.

        Raises:
            StudyError: It was not made by prunenas, or by another version of it.
        """
        kept: Mapping[str, Any] = self._study.user_attrs
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
        directions = self._directions
        dense = kept["dense"]
        return StudyView(
            name=name,
            text=kept["text"],
            objective=kept["objective"],
            directions=directions,
            trials_total=kept["trials"],
            records=records,
            counts=counts,
            front=front_of(records, directions),
            dense_flops=dense["flops"],
            dense_params=dense["params"],
            dense_accuracy=kept.get("dense_accuracy"),
            dense_widths=dense["widths"],
            finished=len(records) >= kept["trials"],
            storage=self._url,
            identity=kept["identity"],
            settings=kept["settings"],
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


def _differences(stored: Any, given: Any, place: str = "") -> Iterator[str]:
    """Where two studies' settings differ, but for the number of trials, which may grow."""
    if place == "search.trials":
        return
    if isinstance(stored, Mapping) and isinstance(given, Mapping):
        for key in [*stored, *(key for key in given if key not in stored)]:
            inner = f"{place}.{key}" if place else str(key)
            yield from _differences(stored.get(key), given.get(key), inner)
    elif stored != given:
        yield f"{place} was {stored!r} and is {given!r}"
