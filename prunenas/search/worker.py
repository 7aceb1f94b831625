"""A worker: a process that carries out a study's tasks until the process that runs it is gone."""

import multiprocessing
import os
import signal
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

import torch

from prunenas.errors import PrunenasError
from prunenas.search.events import Event
from prunenas.search.tasks import Task
from prunenas.search.workshop import Place, Workshop, device_named
from prunenas.spec import Study


@dataclass(frozen=True)
class Bench:
    """What a worker needs.

    Attributes:
        settings: ``Study.settings()``.
        device: A torch device.
        threads: Of the CPU, for this worker.
        place: Where results are kept.
    """

    settings: dict[str, Any]
    device: str
    threads: int
    place: Place


@dataclass(frozen=True)
class Ready:
    """A worker has its data and its network, and waits for tasks."""


@dataclass(frozen=True)
class Told:
    """A worker tells of an event."""

    event: Event


@dataclass(frozen=True)
class Warned:
    """A worker warns of trouble that ends nothing."""

    text: str


@dataclass(frozen=True)
class Trouble:
    """A worker can't go on, and neither could another; why, in one line."""

    text: str


def work(connection: Connection, bench: Bench) -> None:
    """Carry out the tasks that come through a connection; answer with events and ends.

    Args:
        connection: To the process that runs the study.
        bench: What is needed for it.
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
        workshop = Workshop.opened(
            Study.model_validate(bench.settings),
            device_named(bench.device),
            bench.place,
            watch=lambda event: connection.send(Told(event)),
            warn=lambda text: connection.send(Warned(text)),
        )
        connection.send(Ready())
        while True:
            task: Task = connection.recv()
            connection.send(workshop.do(task))
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
