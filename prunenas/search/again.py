"""Training a study's candidates again, with fresh seeds: what is missing, and one such training."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from prunenas.architecture import Architecture
from prunenas.errors import DataError, PrunenasError, TrainingError, refuse_to_hide_ctrl_c
from prunenas.methods import Dense
from prunenas.search.repeats import Repeat, seeds
from prunenas.search.view import StudyView
from prunenas.training import EpochMetrics
from prunenas.training.shared import Trainings
from prunenas.trial import halted, job_of


@dataclass(frozen=True)
class Again:
    """A training that is to be done; pickles, so that a worker can be handed it.

    Attributes:
        number: The trial that found the architecture.
        architecture: What is trained.
        seed: The fresh training seed.
        index: Which of the study's fresh seeds it is, from 1.
        of: How many each candidate is to have.
        epochs: As many as the trial's.
        flops_ratio: FLOPs as a share of the dense network's.
    """

    number: int
    architecture: Architecture
    seed: int
    index: int
    of: int
    epochs: int
    flops_ratio: float

    @property
    def digest(self) -> str:
        """The architecture's."""
        return self.architecture.digest


def missing(view: StudyView) -> list[Again]:
    """The trainings that candidates still need; none before all trials are done.

    The first seed of every candidate comes before the second of any, so that a study that is
    interrupted knows as much of each.
    """
    if not view.trials_done:
        return []
    found = []
    for index, seed in enumerate(seeds(view.settings["search"]["seed"], view.repeats_total), 1):
        for candidate in view.repeats:
            record = candidate.record
            if any(each.seed == seed for each in candidate.trainings):
                continue
            assert record.architecture is not None  # candidates are complete
            architecture = Architecture.from_dict(record.architecture)
            found.append(
                Again(
                    number=record.number,
                    architecture=architecture,
                    seed=seed,
                    index=index,
                    of=view.repeats_total,
                    epochs=record.epochs,
                    flops_ratio=architecture.flops / view.dense_flops,
                )
            )
    return found


def train_again(
    again: Again,
    dense: Dense,
    trainings: Trainings,
    checkpoint: Path,
    report: Callable[[EpochMetrics], None],
) -> Repeat:
    """Train a candidate with a fresh seed; a training that fails ends in its reason.

    Args:
        again: Which one.
        dense: The dense network, whose data, recipe and device are the training's.
        trainings: Where trainings are shared; the result is stored under (architecture, seed).
        checkpoint: Where the training is kept if it is not shared; see ``training.train``.
        report: Told of each epoch.

    Raises:
        DataError: The data can't be read, which every other training would meet too.
        StudyError: Nor can the file system: it is full, or gone.
    """
    clock, done = time.monotonic(), 0
    accuracy = reason = reused = None

    def tell(metrics: EpochMetrics) -> None:
        nonlocal done
        done = metrics.epoch
        report(metrics)

    job = job_of(again.architecture, dense, epochs=again.epochs, seed=again.seed)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    try:
        shared = trainings.train(job, trial=again.number, report=tell, checkpoint=checkpoint)
        accuracy, reused = shared.training.validation.accuracy, shared.by
    except TrainingError as error:
        reason = error.reason
    except (DataError, OSError) as error:
        raise halted(f"trial {again.number} with seed {again.seed}", error) from error
    except PrunenasError as error:
        reason = str(error)
    except Exception as error:  # one candidate's trouble must not end the study
        refuse_to_hide_ctrl_c(error)
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return Repeat(
        seed=again.seed,
        accuracy=accuracy,
        reason=reason,
        epochs=done,
        seconds=round(time.monotonic() - clock, 3),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        reused=reused,
    )
