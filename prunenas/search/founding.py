"""Beginning a study in its storage, or opening the one that was begun."""

import uuid
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.study import StudyDirection

from prunenas.architecture import Space
from prunenas.errors import StudyError
from prunenas.federated import round_seconds, time_model
from prunenas.places import address
from prunenas.search.ledger import Ledger
from prunenas.search.samplers import resolved, sampler
from prunenas.search.starts import Start, starts_of
from prunenas.spec import Study


def begin(
    storage: RDBStorage,
    url: str,
    study: Study,
    space: Space,
    *,
    deterministic: bool | None = None,
) -> Ledger:
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
    costs = study.objective.costs
    directions = [StudyDirection.MAXIMIZE, *(StudyDirection.MINIMIZE for _ in costs)]
    starts = _starts(storage, url, study, space)
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
            found.set_metric_names(["accuracy", *costs])
        dense = space.dense
        found.set_user_attr("identity", uuid.uuid4().hex)
        found.set_user_attr("starts", [asdict(start) for start in starts])
        found.set_user_attr("objective", study.objective.model_dump(exclude_none=True))
        known = {"flops": dense.flops, "params": dense.params, "widths": dict(dense.widths)}
        if study.federation is not None:
            time = time_model(study.federation, space)
            known["round_seconds"] = round_seconds(dense, time)
        found.set_user_attr("dense", known)
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
    found.set_user_attr("repeats", study.search.repeats)
    found.set_user_attr("sampler", resolved(study, space))
    for start in found.user_attrs["starts"][len(found.trials) :]:
        found.enqueue_trial(start["parameters"], user_attrs={"start": start["name"]})
    return Ledger(storage, study.name, url, space)


def _starts(storage: RDBStorage, url: str, study: Study, space: Space) -> list[Start]:
    """The starts of a new study. Before it is made: what has no such starts is not begun."""
    if study.name in optuna.get_all_study_names(storage):
        kept = optuna.load_study(study_name=study.name, storage=storage).user_attrs
        if "settings" in kept:
            return []
    earlier = study.search.warm_start
    view = Ledger.read(storage, url, earlier).view() if earlier is not None else None
    return starts_of(study, space, view)


def _differences(stored: Any, given: Any, place: str = "") -> Iterator[str]:
    """Where two studies' settings differ, but for the trials and repeats, which may grow."""
    if place in ("search.trials", "search.repeats"):
        return
    if isinstance(stored, Mapping) and isinstance(given, Mapping):
        for key in [*stored, *(key for key in given if key not in stored)]:
            inner = f"{place}.{key}" if place else str(key)
            yield from _differences(stored.get(key), given.get(key), inner)
    elif isinstance(stored, list) and isinstance(given, list) and len(stored) == len(given):
        for index, pair in enumerate(zip(stored, given, strict=True)):
            yield from _differences(*pair, f"{place}[{index}]")
    elif stored != given:
        yield f"{place} was {stored!r} and is {given!r}"
