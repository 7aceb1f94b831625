"""What a worker is asked to do, and what it answers."""

from dataclasses import dataclass

from prunenas.search.again import Again
from prunenas.search.repeats import Repeat
from prunenas.search.stoppers import Stopper
from prunenas.trial import Candidate, Record


@dataclass(frozen=True)
class Try:
    """Train a candidate, from scratch or from its checkpoint.

    Attributes:
        candidate: What was proposed.
        stopper: When it ends early; knows the trials it is compared with.
        share: Share of its training, in (0, 1], at whose end it pauses; 1: it goes to its end.
        told: Epochs of it that watchers have heard of.
    """

    candidate: Candidate
    stopper: Stopper
    share: float = 1.0
    told: int = 0


@dataclass(frozen=True)
class Tried:
    """A candidate's training has ended.

    Attributes:
        task: What was asked.
        record: What is known of the trial now; its state is ``paused`` where it may go on.
        dense_accuracy: Of the dense network on the validation split, in [0, 1]; None unless it has
            been trained.
    """

    task: Try
    record: Record
    dense_accuracy: float | None = None


@dataclass(frozen=True)
class Repeated:
    """A training with a fresh seed has ended.

    Attributes:
        task: What was asked.
        repeat: What came of it.
    """

    task: Again
    repeat: Repeat


Task = Try | Again
Done = Tried | Repeated


def trial_of(task: Task) -> int:
    """Number of the trial that a task is for."""
    return task.candidate.number if isinstance(task, Try) else task.number
