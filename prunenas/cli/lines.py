"""A running study as plain lines, one for each event: for pipes, log files and CI."""

import sys
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from prunenas.cli import repeats, units
from prunenas.cli.progress import Progress
from prunenas.search.events import (
    DenseEpoch,
    Event,
    FrontChanged,
    RepeatEpoch,
    RepeatFinished,
    RepeatStarted,
    StudyFinished,
    StudyStarted,
    TrialEpoch,
    TrialFinished,
    TrialPaused,
    TrialStarted,
)
from prunenas.trial import Record


class Lines:
    """Print each event as one line that says by itself what it is about.

    Args:
        progress: The state that the events are folded into.
        write: Prints one line; flushes, so that a reader of the pipe sees it at once.
    """

    def __init__(
        self,
        progress: Progress,
        write: Callable[[str], None] = lambda line: print(line, flush=True),
    ) -> None:
        self._progress = progress
        self._write = write

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, error, trace

    def warn(self, message: str) -> None:
        """Print trouble on stderr."""
        print(f"warning: {message}", file=sys.stderr, flush=True)

    def watch(self, event: Event) -> None:
        """Take one event in and print it."""
        self._progress.update(event)
        for line in self._words(event):
            self._write(line)

    def _words(self, event: Event) -> Iterator[str]:
        progress = self._progress
        match event:
            case StudyStarted():
                yield (
                    f"{event.name}: {units.plural(event.trials_total, 'trial')} over "
                    f"{units.plural(event.groups, 'channel group')}, "
                    f"dense network {units.count(event.dense_flops)} FLOPs"
                )
                if event.resumed:
                    yield f"{event.name}: resumed, {event.trials_done} of them done"
            case DenseEpoch():
                if event.unit == "epoch" or _is_tenth(event.epoch, event.epochs):
                    reached = f", accuracy {units.accuracy(event.accuracy)}"
                    yield (
                        f"{event.what}: {event.unit} {event.epoch}/{event.epochs}"
                        f"{'' if event.accuracy is None else reached}"
                    )
            case TrialStarted():
                yield (
                    f"trial {event.number}: {event.method}, "
                    f"{units.share(event.flops_ratio)} of dense FLOPs, "
                    f"{units.plural(event.epochs, 'epoch')}"
                )
            case TrialEpoch():
                yield (
                    f"trial {event.number}: epoch {event.epoch}/{event.epochs}, "
                    f"accuracy {units.accuracy(event.accuracy)}"
                )
            case TrialFinished():
                left = progress.seconds_left() if progress.done < progress.total else None
                tail = "" if left is None else f", about {units.duration(left)} left"
                yield f"{outcome(event.record)} [{progress.done}/{progress.total}{tail}]"
            case TrialPaused():
                yield outcome(event.record)
            case FrontChanged():
                if event.front:
                    best = max(record.accuracy or 0.0 for record in event.front)
                    least = min(record.flops_ratio or 1.0 for record in event.front)
                    yield (
                        f"front: {units.plural(len(event.front), 'architecture')}, best accuracy "
                        f"{units.accuracy(best)}, smallest {units.share(least)} of dense FLOPs"
                    )
            case RepeatStarted(again):
                yield (
                    f"{repeats.name(again)}: {units.share(again.flops_ratio)} of dense FLOPs, "
                    f"{units.plural(again.epochs, 'epoch')}"
                )
            case RepeatEpoch(again):
                yield (
                    f"{repeats.name(again)}: epoch {event.epoch}/{again.epochs}, "
                    f"accuracy {units.accuracy(event.accuracy)}"
                )
            case RepeatFinished(again, ended, done, total):
                left = progress.seconds_left() if done < total else None
                tail = "" if left is None else f", about {units.duration(left)} left"
                yield f"{repeats.outcome(again, ended)} [{done}/{total}{tail}]"
            case StudyFinished():
                states = ", ".join(
                    f"{n} {state}" for state, n in sorted(progress.counts.items()) if n
                )
                yield f"{event.view.name}: finished, {states}"


def outcome(record: Record) -> str:
    """Word how a trial ended, in one line."""
    words = [f"trial {record.number}: {record.state}"]
    if record.accuracy is not None:
        words.append(f"accuracy {units.accuracy(record.accuracy)}")
    if record.flops_ratio is not None:
        words.append(f"{units.share(record.flops_ratio)} of dense FLOPs")
    if record.latency_ms is not None:
        words.append(f"latency {units.milliseconds(record.latency_ms)}")
    if record.round_seconds is not None:
        words.append(f"round {units.seconds(record.round_seconds)}")
    words.append(units.duration(record.seconds))
    if record.reused:
        words.append(f"training of {record.reused}")
    if record.reason:
        words.append(" ".join(record.reason.split()))
    return ", ".join(words)


def _is_tenth(done: int, total: int) -> bool:
    """Whether a tenth of all steps is full with this one: more lines than ten nobody reads.

    >>> [done for done in range(1, 31) if _is_tenth(done, 30)]
    [3, 6, 9, 12, 15, 18, 21, 24, 27, 30]
    >>> [done for done in range(1, 4) if _is_tenth(done, 3)]
    [1, 2, 3]
    """
    return done * 10 // total > (done - 1) * 10 // total
