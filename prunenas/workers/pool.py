"""Worker processes. One that dies is replaced; its task goes on from its last checkpoint.

Workers never see a study's storage or MLflow: the one process that runs it hands out tasks and
writes down what comes of them. So there is nothing to lease, nothing to lock but results in the
cache, and nothing is written twice.
"""

import multiprocessing
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any

from prunenas.errors import StudyError
from prunenas.workers.process import Bench, Ended, Ready, Task, Told, Trouble, Warned, work

_DEATHS = 3
"""So many deaths of a worker over one epoch, or before it is ready, are no accident."""

_IMPORTED = ("torch._dynamo", "torch.export")
"""What a worker needs besides its bench's module: tracing imports them when it is first done."""

_FAREWELL = 10.0
"""Seconds that a worker has to end by itself, once it answers no more or is asked to."""


@dataclass
class _Worker:
    """A process, and what it is at."""

    number: int
    bench: Bench
    process: BaseProcess
    connection: Connection
    task: Task | None = None
    ready: bool = False
    deaths: int = 0
    false_starts: int = 0
    reached: dict[str, int] = field(default_factory=dict)

    def note(self, event: Any) -> None:
        """Take in what has come of its task: an epoch that is new excuses earlier deaths."""
        if self.task is None:
            return
        if (progress := self.task.progress(event)) is not None:
            what, epoch = progress
            if epoch > self.reached.get(what, 0):
                self.reached[what], self.deaths = epoch, 0
        self.task = self.task.heard(event)


class Pool:
    """Worker processes, and the tasks they are at."""

    def __init__(
        self,
        benches: Sequence[Bench],
        watch: Callable[[Any], None],
        warn: Callable[[str], None],
    ) -> None:
        """Start them.

        Args:
            benches: What each worker needs.
            watch: Told of events.
            warn: Told of trouble that ends nothing, one line each.

        Raises:
            StudyError: One can't start.
        """
        self._watch, self._warn = watch, warn
        self._workers: list[_Worker] = []
        try:
            for number, bench in enumerate(benches):
                self._workers.append(_started(number, bench))
        except BaseException:  # Ctrl-C too: the first may take seconds
            self.close()
            raise

    def close(self) -> None:
        """End all workers: each writes down the epochs it has finished, if it answers in time."""
        for worker in self._workers:
            worker.process.terminate()
        deadline = time.monotonic() + _FAREWELL
        try:
            for worker in self._workers:
                worker.process.join(max(0.0, deadline - time.monotonic()))
        finally:  # whoever presses Ctrl-C again won't wait
            for worker in self._workers:
                worker.process.kill()
            for worker in self._workers:
                worker.process.join()
                worker.connection.close()

    def idle(self) -> bool:
        """Whether one more task can be begun."""
        return any(worker.task is None for worker in self._workers)

    def busy(self) -> bool:
        """Whether any task is under way."""
        return any(worker.task is not None for worker in self._workers)

    def begin(self, task: Task) -> None:
        """Begin a task; only where `idle`."""
        worker = next(worker for worker in self._workers if worker.task is None)
        worker.task, worker.deaths, worker.reached = task, 0, {}
        self._send(worker)

    def wait(self) -> Any:
        """Wait until a task has ended, and return what came of it.

        Raises:
            StudyError: Trouble that every other task would have too.
        """
        while True:
            ready = wait([worker.connection for worker in self._workers])
            for worker in self._workers:
                if worker.connection in ready and (done := self._heard(worker)) is not None:
                    return done

    def _heard(self, worker: _Worker) -> Any:
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            return self._lost(worker)
        match message:
            case Ready():
                worker.ready, worker.false_starts = True, 0
            case Told(event):
                worker.note(event)
                self._watch(event)
            case Warned(text):
                self._warn(text)
            case Trouble(text):
                raise StudyError(text)
            case Ended(done):
                worker.task = None
                return done
        return None

    def _lost(self, worker: _Worker) -> Any:
        """Replace a worker that has died."""
        worker.connection.close()
        worker.process.join(_FAREWELL)
        worker.process.kill()  # one that can't end
        worker.process.join()
        how = _ended_by(worker.process.exitcode)
        task = worker.task
        if worker.ready:
            worker.deaths += 1
        else:  # no task is to blame
            worker.false_starts += 1
            if worker.false_starts >= _DEATHS:
                raise StudyError(f"worker {worker.number} can't start: it {how}, {_DEATHS} times")
        new = _started(worker.number, worker.bench)
        worker.process, worker.connection, worker.ready = new.process, new.connection, False
        if task is None:
            return None
        if worker.deaths >= _DEATHS:
            worker.task = None
            return task.given_up(f"its worker {how}, {_DEATHS} times before an epoch of it ended")
        self._warn(
            f"worker {worker.number} {how}; {task.what} goes on from its last checkpoint in a "
            "new one"
        )
        self._send(worker)
        return None

    def _send(self, worker: _Worker) -> None:
        with suppress(OSError):  # it has died: `wait` will hear of it
            worker.connection.send(worker.task)


def prepare(module: str) -> None:
    """Begin to import what workers need, if that has not begun; returns at once.

    Importing PyTorch takes seconds of a core. On Linux one process does so for all workers, which
    start as its forks. Elsewhere forks of a process that has loaded the system's libraries may
    crash, and each worker imports for itself.

    Args:
        module: Of the benches. The first one that a process prepares decides, and others are
            imported in the workers.
    """
    if sys.platform == "linux":
        from multiprocessing import forkserver  # not every system has it

        # It imports, but uses nothing: no threads, no GPU, which don't outlive a fork.
        multiprocessing.set_forkserver_preload([*_IMPORTED, module])
        with _no_interrupt():
            forkserver.ensure_running()


def _started(number: int, bench: Bench) -> _Worker:
    prepare(type(bench).__module__)
    ours, theirs = multiprocessing.Pipe()
    context: ForkServerContext | SpawnContext = multiprocessing.get_context("spawn")
    if sys.platform == "linux":
        context = multiprocessing.get_context("forkserver")
    process = context.Process(
        target=work, args=(theirs, bench), name=f"prunenas worker {number}"
    )  # no daemon: those may not have processes of their own, which decode image folders
    try:
        with _no_main_module():
            process.start()
    except (EOFError, OSError) as error:
        raise StudyError(f"worker {number} can't start: {error}") from error
    theirs.close()  # else the pipe would outlive the worker
    return _Worker(number, bench, process, ours)


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Keep Ctrl-C from a process that starts, for as long as it lives; this thread hears of it.

    Else the one that imports would show a traceback. Workers ignore Ctrl-C anyhow.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_main = threading.Lock()


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Start a process that does not run the user's script a second time.

    Spawned processes import the main module, for functions that are defined there; ours are not.
    A script without ``if __name__ == "__main__"`` would start its study again in each worker.
    """
    with _main:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def _ended_by(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        memory = " (the system does that where memory is exhausted)" if name == "SIGKILL" else ""
        return f"was ended by {name}{memory}"
    return f"ended with exit code {code}"
