"""What a running study tells whoever watches it.

The search calls ``watch(event)`` and never looks at the answer: a watcher prints, draws or counts.
Accuracies are shares in [0, 1] on the validation split; epochs count from 1; FLOPs are fused
multiply-adds for one input.
"""

from dataclasses import dataclass

from prunenas.search.again import Again
from prunenas.search.repeats import Repeat
from prunenas.search.view import StudyView
from prunenas.trial import Record


@dataclass(frozen=True)
class StudyStarted:
    """The study is open; ``trials_done`` is more than 0 only where it was ``resumed``.

    ``workers`` is how many trials may run at a time.
    """

    name: str
    trials_done: int
    trials_total: int
    groups: int
    dense_flops: int
    resumed: bool
    workers: int = 1


@dataclass(frozen=True)
class DenseEpoch:
    """An epoch of a training that methods learn from, or a step of other work of theirs.

    ``what`` names it in words, ``unit`` says which of the two. A step may be without an accuracy.
    """

    what: str
    epoch: int
    epochs: int
    accuracy: float | None
    unit: str = "epoch"


@dataclass(frozen=True)
class TrialStarted:
    """An architecture was derived and its training begins."""

    number: int
    method: str
    flops: int
    flops_ratio: float
    epochs: int


@dataclass(frozen=True)
class TrialEpoch:
    """A trial's network has finished an epoch."""

    number: int
    epoch: int
    epochs: int
    accuracy: float


@dataclass(frozen=True)
class TrialFinished:
    """A trial ended, in whatever state; it need not have started training."""

    record: Record


@dataclass(frozen=True)
class TrialPaused:
    """A trial has reached a rung, and waits there until it is promising enough to go on."""

    record: Record


@dataclass(frozen=True)
class FrontChanged:
    """The front as it now stands, by ascending FLOPs."""

    front: tuple[Record, ...]


@dataclass(frozen=True)
class RepeatStarted:
    """A candidate's training with a fresh seed begins; ``done`` of ``total`` have ended."""

    again: Again
    done: int
    total: int


@dataclass(frozen=True)
class RepeatEpoch:
    """A training with a fresh seed has finished an epoch."""

    again: Again
    epoch: int
    accuracy: float


@dataclass(frozen=True)
class RepeatFinished:
    """A training with a fresh seed ended, or failed; this one is among the ``done``."""

    again: Again
    repeat: Repeat
    done: int
    total: int


@dataclass(frozen=True)
class StudyFinished:
    """All trials are done, and all repeats."""

    view: StudyView


Event = (
    StudyStarted
    | DenseEpoch
    | TrialStarted
    | TrialEpoch
    | TrialFinished
    | TrialPaused
    | FrontChanged
    | RepeatStarted
    | RepeatEpoch
    | RepeatFinished
    | StudyFinished
)
