"""A study as Optuna's storage keeps it: settings, trials and their records."""

import uuid
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from prunenas.architecture import Space
from prunenas.errors import StudyError, unknown
from prunenas.places import address
from prunenas.search.front import front_of
from prunenas.search.samplers import resolved, sampler
from prunenas.search.starts import Start, starts_of
from prunenas.search.storage import open_storage
from prunenas.search.verdicts import CONSTRAINT, verdict, violation
from prunenas.search.view import StudyView
from prunenas.spec import Study
from prunenas.trial import Record

_NARROW = 1e-9
"""A ratio at which every group has its fewest channels."""


class Ledger:
    """One study in its storage. Made by ``begin`` (to run it) or ``read`` (to look at it).

    The storage is the record: each trial carries its ``Record`` as a user attribute, the study its
    settings and what is known of the dense network. MLflow and pictures are made from these.
    """

    def __init__(self, study: optuna.Study, url: str, space: Space | None = None) -> None:
        self._study = study
        self._url = url
        self._space = space
        self._least = space.flops(space.widths(_NARROW)) if space is not None else 0

    @classmethod
    def begin(cls, storage: RDBStorage, url: str, study: Study, space: Space) -> "Ledger":
        """Open a study to run it: a new one, or the one of that name with the same settings.

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
            sampler=sampler("random", study.search.seed, 0, study, space),
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
            found.set_user_attr("settings", settings)
        elif differences := list(_differences(stored, settings)):
            shown = "; ".join(differences[:4]) + ("; …" if len(differences) > 4 else "")
            raise StudyError(
                f"study {study.name!r} in {address(url)} was begun with other settings: {shown}. "
                "Give the study another name, or another --storage"
            )
        found.set_user_attr("text", study.text)
        found.set_user_attr("trials", study.search.trials)
        found.set_user_attr("sampler", resolved(study, space))
        for start in found.user_attrs["starts"][len(found.trials) :]:
            found.enqueue_trial(start["parameters"], user_attrs={"start": start["name"]})
        return cls(found, url, space)

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
        return cls(optuna.load_study(study_name=name, storage=storage), url)

    @property
    def identity(self) -> str:
        """What tells this study from any other of the same name."""
        return str(self._study.user_attrs["identity"])

    def next(self, study: Study) -> Trial | None:
        """The next trial to run: one that was left unfinished, else a new one; None at the end.

        Only one process may ask (see ``storage.claim``): a trial that runs in no process is one
        that was interrupted, and goes on under its own number.
        """
        trials = self._study.get_trials(deepcopy=False)
        left = next((trial for trial in trials if trial.state == TrialState.RUNNING), None)
        asked = [trial for trial in trials if trial.state != TrialState.WAITING]
        if left is None and len(asked) >= study.search.trials:
            return None
        # Starts wait from the beginning, with the first numbers.
        number = len(asked) if left is None else left.number
        name = self._study.user_attrs["sampler"]
        assert self._space is not None, "a study that is only read has no next trial"
        self._study.sampler = sampler(name, study.search.seed, number, study, self._space)
        return self._study.ask() if left is None else Trial(self._study, left._trial_id)

    def settle(self, trial: Trial) -> bool:
        """Tell Optuna of a trial whose record was written but that was interrupted before that."""
        stored = trial.user_attrs.get("record")
        if stored is None:
            return False
        self._tell(trial, Record.from_dict(stored))
        return True

    def write(self, trial: Trial, record: Record, asked: int | None = None) -> None:
        """Keep a trial's record and tell Optuna what came of it.

        Args:
            trial: As ``next`` gave it.
            record: How it ended.
            asked: The target in FLOPs that it was to meet, where targets are searched.
        """
        if asked is not None and CONSTRAINT not in trial.constraints:
            dense = self._study.user_attrs["dense"]["flops"]
            trial.set_constraint(CONSTRAINT, violation(record, asked, self._least, dense))
        trial.set_user_attr("record", record.to_dict())
        self._tell(trial, record)

    def _tell(self, trial: Trial, record: Record) -> None:
        one_objective = len(self._study.directions) == 1
        if record.state == "stopped" and one_objective and record.accuracy is not None:
            trial.report(record.accuracy, record.epochs)
        earlier = _records(self._study.get_trials(deepcopy=False))
        told = verdict(record, earlier, self._directions, self._least)
        self._study.tell(trial, told.values, state=told.state)

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
        if running := sum(trial.state == TrialState.RUNNING for trial in trials):
            counts["running"] = running
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
