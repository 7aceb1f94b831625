"""A worker: a process that carries out tasks until the process that hands them out is gone."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, Protocol, Self

import torch

from prunenas.errors import PrunenasError


class Task(Protocol):
    """Something to be done; pickles."""

    @property
    def what(self) -> str:
        """What warnings call it, such as ``trial 3``."""

    def progress(self, event: Any) -> tuple[str, int] | None:
        """Which of its trainings an event has brought to which epoch; None if it tells of none."""

    def heard(self, event: Any) -> Self:
        """The task once an event of it was passed on, which is not told again if it is repeated."""

    def given_up(self, reason: str) -> Any:
        """What comes of it where its workers die; the reason is one line."""


class Doer(Protocol):
    """Carries out tasks, one at a time."""

    def do(self, task: Any) -> Any:
        """Carry out a task; what goes wrong with it alone stands in what comes of it.

        Raises:
            PrunenasError: Trouble that every other task would have too.
        """


class Bench(Protocol):
    """What a worker needs to begin; pickles."""

    @property
    def device(self) -> str:
        """A torch device."""

    @property
    def threads(self) -> int:
        """Of the CPU, for this worker."""

    def open(self, watch: Callable[[Any], None], warn: Callable[[str], None]) -> Doer:
        """Begin; runs in the worker.

        Args:
            watch: Told of events; they pickle.
            warn: Told of trouble that ends nothing, one line each.
        """


@dataclass(frozen=True)
class Ready:
    """A worker has what it needs, and waits for tasks."""


@dataclass(frozen=True)
class Told:
    """A worker tells of an event."""

    event: Any


@dataclass(frozen=True)
class Warned:
    """A worker warns of trouble that ends nothing."""

    text: str


@dataclass(frozen=True)
class Trouble:
    """A worker can't go on, and neither could another; why, in one line."""

    text: str


@dataclass(frozen=True)
class Ended:
    """A task has ended, and what came of it."""

    done: Any


def work(connection: Connection, bench: Bench) -> None:
    """Carry out the tasks that come through a connection; answer with events and ends.

    Args:
        connection: To the process that hands tasks out.
        bench: What is needed for them.
    """
    # Ctrl-C reaches every process of the terminal; the one that runs the study ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupted)  # that is how it does
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(bench.threads)
    try:
        _serve(connection, bench)
        connection.recv()  # the end comes from the other side
    except EOFError:  # nobody is there any more
        return
    except KeyboardInterrupt:  # the training is on disk; now as it would have ended without us
        signal.raise_signal(signal.SIGTERM)


def _serve(connection: Connection, bench: Bench) -> None:
    try:
        doer = bench.open(
            lambda event: connection.send(Told(event)),
            lambda text: connection.send(Warned(text)),
        )
        connection.send(Ready())
        while True:
            task = connection.recv()
            connection.send(Ended(doer.do(task)))
    except PrunenasError as error:
        connection.send(Trouble(str(error)))
    except torch.cuda.OutOfMemoryError as error:  # before any training, whose own are failures
        words = " ".join(str(error).split())[:200]
        connection.send(Trouble(f"a worker can't start on {bench.device}: {words}"))


def _interrupted(number: int, frame: FrameType | None) -> None:
    """End as at Ctrl-C: a training writes down what it has done."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # whoever asks twice won't wait
    raise KeyboardInterrupt


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
