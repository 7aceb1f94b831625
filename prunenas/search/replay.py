"""A trial's trained weights: as kept for the front, or trained again from its record."""

from pathlib import Path

from torch import Tensor

from prunenas.architecture import Architecture, build
from prunenas.cache import Cache
from prunenas.data import load
from prunenas.errors import StudyError
from prunenas.places import HOME
from prunenas.search.view import StudyView
from prunenas.search.weights import Weights
from prunenas.search.workshop import device_named
from prunenas.spec import Study
from prunenas.training.shared import Job, Trainings
from prunenas.trial import Record


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
        StudyError: The trial is not complete.
    """
    kept = Weights(home / "weights", view.identity).get(record.number)
    if kept is not None:
        return kept
    if record.state != "complete" or record.architecture is None:
        raise StudyError(f"trial {record.number} of {view.name!r} is {record.state}: no weights")
    study = Study.model_validate(view.settings)
    chosen = device_named(device)
    architecture, seed = Architecture.from_dict(record.architecture), record.seeds["training"]
    job = Job(
        architecture=architecture,
        make=lambda: build(architecture, seed=seed, trust=True),
        data=load(**study.data.model_dump(), device=chosen),
        recipe=study.train,
        epochs=record.epochs,
        seed=seed,
        device=chosen,
    )
    trainings = Trainings(Cache(home / "cache"), view.name, view.identity)
    shared = trainings.train(job, trial=record.number)
    assert shared.weights is not None  # nobody has said stop
    return shared.weights
