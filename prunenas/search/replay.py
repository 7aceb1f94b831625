"""A trial's trained weights: as kept for the front, or trained again from its record."""

from pathlib import Path

from torch import Tensor

from prunenas.architecture import Architecture
from prunenas.cache import Cache
from prunenas.data import load
from prunenas.errors import StudyError
from prunenas.methods import Dense
from prunenas.places import HOME
from prunenas.search.masks import Masks
from prunenas.search.view import StudyView
from prunenas.search.weights import Weights
from prunenas.search.workshop import device_named, trace_study
from prunenas.training.shared import Trainings
from prunenas.trial import Record, job_of


def whole_architecture(view: StudyView, record: Record, home: Path = HOME) -> Architecture:
    """A trial's architecture with its masks, where it has any.

    Args:
        view: The study.
        record: One of its trials that has an architecture.
        home: The folder that the study kept its masks in.

    Raises:
        StudyError: The trial has no architecture, or its masks are not there.
    """
    if record.architecture is None:
        raise StudyError(f"trial {record.number} of {view.name!r} has no architecture")
    architecture = Architecture.from_dict(record.architecture)
    return Masks(home / "masks", view.identity).whole(architecture)


def trained_weights(
    view: StudyView, record: Record, *, device: str = "auto", home: Path = HOME
) -> dict[str, Tensor]:
    """The state dict a trial ended with, on the CPU.

    The front's weights are kept where the study ran, those of shared trainings in the cache.
    Others, and those of a study that ran in another folder, are trained again: same seeds, same
    data, same epochs, on the same machine to the same figure.

    Args:
        view: The study.
        record: One of its complete trials.
        device: Where it is trained again, if it has to be.
        home: The folder that the study kept its weights in.

    Raises:
        StudyError: The trial is not complete, or the study is of another version.
    """
    kept = Weights(home / "weights", view.identity).get(record.number)
    if kept is not None:
        return kept
    if record.state != "complete" or record.architecture is None:
        raise StudyError(f"trial {record.number} of {view.name!r} is {record.state}: no weights")
    study = view.study()
    chosen = device_named(device)
    architecture, seed = whole_architecture(view, record, home), record.seeds["training"]
    data, cache = load(**study.data.model_dump(), device=chosen), Cache(home / "cache")
    dense = Dense(
        trace_study(study, data),
        data,
        study.train,
        cache,
        seed=study.search.seed,
        device=chosen,
        federation=study.federation,
    )
    job = job_of(architecture, dense, epochs=record.epochs, seed=seed)
    shared = Trainings(cache, view.name, view.identity).train(job, trial=record.number)
    assert shared.weights is not None  # nobody has said stop
    return shared.weights
