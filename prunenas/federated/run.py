"""A federated training in one process: server and clients, round after round.

Clients of a round work side by side, each in a thread of its own that computes alone, so that no
figure depends on how many there are.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import torch
from torch import nn

from prunenas.cache import Cache
from prunenas.federated.client import Client
from prunenas.federated.ending import ended, validated
from prunenas.federated.history import FederatedRun, History, Point
from prunenas.federated.messages import Task, Update
from prunenas.federated.setting import Setting
from prunenas.training.sealed import read_checkpoint, write_checkpoint

Watch = Callable[[Point], bool | None]

_PATIENCE = 2.0  # seconds of work before a checkpoint is worth its time
_SHARE = 50  # seconds of work for each second of writing


def federate(
    setting: Setting,
    *,
    watch: Watch = lambda point: None,
    rounds: Callable[[int], None] = lambda done: None,
    checkpoint: Path | None = None,
) -> FederatedRun:
    """Train, and find masks where the strategy does.

    Args:
        setting: All that decides what comes of it.
        watch: Told of each validation; those before an interruption first. ``True`` ends it.
        rounds: Told of the number of rounds done, after each and after initial pruning.
        checkpoint: A file that it goes on from, written as often as is worth its time, and where
            it ends early, by Ctrl-C too. The caller removes it.

    Raises:
        FederatedError, DataError, TrainingError: It can't begin, or can't go on.
    """
    return _Run(setting, checkpoint).to_the_end(watch, rounds)


class _Run:
    def __init__(self, setting: Setting, checkpoint: Path | None) -> None:
        self.setting = setting
        self.checkpoint = checkpoint
        self.server = setting.server()
        self.clients = setting.clients()
        self.network = setting.network()  # the server's, for validation
        self.history = History()
        self.all_threads = torch.get_num_threads()
        alone = setting.device.type != "cpu" or any(client.stochastic for client in self.clients)
        self.threads = 1 if alone else self.all_threads
        self._written = time.monotonic()
        self._pause = _PATIENCE

    def to_the_end(self, watch: Watch, rounds: Callable[[int], None]) -> FederatedRun:
        self._resume()
        stopped = False
        for point in self.history.points:
            stopped |= bool(watch(point))
        with self._crew() as crew:
            interrupted = False
            while not (self.server.finished or stopped or interrupted):
                pruned = self.server.pruner() is None
                interrupted = self._turn(crew)
                rounds(self.server.round)
                if pruned and self.setting.federation.evaluates_after(self.server.round):
                    self.history.points.append(self._validated())
                    stopped = bool(watch(self.history.points[-1]))
                self._keep(last=stopped or interrupted)
        if interrupted:
            raise KeyboardInterrupt
        return ended(self.server, self.history, stopped=stopped and not self.server.finished)

    def _turn(self, crew: "_Crew") -> bool:
        """Initial pruning where it is due, else one round; whether Ctrl-C came meanwhile."""
        pruner = self.server.pruner()
        chosen = self.server.chosen() if pruner is None else (pruner,)
        updates, interrupted = crew.work(self._tasks(chosen))
        report = self.server.finish(updates) if pruner is None else self.server.begin(updates[0])
        self.history.reports.append(report)
        return interrupted

    def _tasks(self, chosen: Sequence[int]) -> list[tuple[Client, Task]]:
        tasks = []
        for number in chosen:
            client = self.clients[number]
            task = self.server.task(number)
            client.share(self.server.packing)  # the same object for all: masks are large
            tasks.append((client, task))
        return tasks

    def _validated(self) -> Point:
        torch.set_num_threads(self.all_threads)  # the clients rest meanwhile
        try:
            return validated(self.server, self.network, self.setting, self.history)
        finally:
            torch.set_num_threads(1)

    @contextmanager
    def _crew(self) -> Iterator["_Crew"]:
        networks = [self.setting.network() for _ in range(self.threads)]
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(
                self.threads, initializer=torch.set_num_threads, initargs=(1,)
            ) as pool:
                yield _Crew(pool, networks)
        finally:
            torch.set_num_threads(self.all_threads)

    def _keep(self, *, last: bool) -> None:
        if self.checkpoint is None or (self.server.finished and not last):
            return
        now = time.monotonic()
        if not last and now - self._written < self._pause:
            return
        values = {
            "server": self.server.state(),
            "clients": [client.state() for client in self.clients],
            "history": self.history.to_dict(),
        }
        write_checkpoint(self.checkpoint, values, identity=self._identity())
        self._written = time.monotonic()
        self._pause = max(_PATIENCE, _SHARE * (self._written - now))

    def _resume(self) -> None:
        if self.checkpoint is None:
            return
        values = read_checkpoint(self.checkpoint, identity=self._identity())
        if values is None:
            return
        self.server.load(values["server"])
        for client, state in zip(self.clients, values["clients"], strict=True):
            client.load(state, self.network)
        self.history = History.from_dict(values["history"])

    def _identity(self) -> str:
        return identity(self.setting)


class _Crew:
    """Threads, each with a network to work on."""

    def __init__(self, pool: ThreadPoolExecutor, networks: Sequence[nn.Module]) -> None:
        self._pool = pool
        self._free: SimpleQueue[nn.Module] = SimpleQueue()
        for network in networks:
            self._free.put(network)

    def work(self, tasks: Sequence[tuple[Client, Task]]) -> tuple[list[Update], bool]:
        """Do all tasks; what came of them, and whether Ctrl-C came meanwhile.

        It waits until all are done: a client that has begun a round must not begin it again.
        """
        futures: list[Future[Update]] = [
            self._pool.submit(self._one, client, task) for client, task in tasks
        ]
        interrupted = False
        for future in futures:
            while not future.done():
                try:
                    future.exception()
                except KeyboardInterrupt:
                    interrupted = True
        return [future.result() for future in futures], interrupted

    def _one(self, client: Client, task: Task) -> Update:
        network = self._free.get()
        try:
            return client.work(task, network)
        finally:
            self._free.put(network)


def identity(setting: Setting) -> str:
    """Return a digest of all that a federated training's figures depend on, but for its code."""
    return Cache.key(
        architecture=setting.architecture.digest,
        data=setting.data.digest,
        federation=dict(setting.federation.settings()),
        strategy=type(setting.strategy).__name__,
        hyperparameters=setting.strategy.model_dump(mode="json"),
        time=setting.time.to_dict(),
        seed=setting.seed,
        device=setting.device.type,
    )
