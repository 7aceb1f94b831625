"""What a worker is asked to do, and what it answers."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from prunenas.search.again import Again
from prunenas.search.events import DenseEpoch, Event, RepeatEpoch, TrialEpoch
from prunenas.search.repeats import Repeat
from prunenas.search.stoppers import Stopper
from prunenas.trial import Candidate, Record, blank_record


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

    @property
    def what(self) -> str:
        """See ``workers.Task``; so for what follows."""
        return f"trial {self.candidate.number}"

    def progress(self, event: Event) -> tuple[str, int] | None:
        """See ``workers.Task``."""
        return reached(event)

    def heard(self, event: Event) -> "Try":
        """See ``workers.Task``."""
        if isinstance(event, TrialEpoch):
            return replace(self, told=max(self.told, event.epoch))
        return self

    def given_up(self, reason: str) -> "Tried":
        """See ``workers.Task``."""
        return Tried(self, replace(blank_record(self.candidate), reason=reason))


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
class TryAgain:
    """Train a candidate with a fresh seed.

    Attributes:
        again: Which, and with which.
    """

    again: Again

    @property
    def what(self) -> str:
        """See ``workers.Task``; so for what follows."""
        return f"trial {self.again.number}"

    def progress(self, event: Event) -> tuple[str, int] | None:
        """See ``workers.Task``."""
        return reached(event)

    def heard(self, event: Event) -> "TryAgain":
        """See ``workers.Task``."""
        return self

    def given_up(self, reason: str) -> "Repeated":
        """See ``workers.Task``."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        seed = self.again.seed
        return Repeated(self.again, Repeat(seed, None, reason, epochs=0, seconds=0.0, finished=now))


@dataclass(frozen=True)
class Repeated:
    """A training with a fresh seed has ended.

    Attributes:
        again: What was asked.
        repeat: What came of it.
    """

    again: Again
    repeat: Repeat


Task = Try | TryAgain
Done = Tried | Repeated


def reached(event: Event) -> tuple[str, int] | None:
    """Return which training an event has brought to which epoch; None if it tells of none."""
    if not isinstance(event, TrialEpoch | DenseEpoch | RepeatEpoch):
        return None
    return (event.what if isinstance(event, DenseEpoch) else ""), event.epoch
