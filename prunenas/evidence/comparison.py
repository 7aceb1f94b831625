"""Running a comparison: every cell once, in this process or in several."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from prunenas.cache import Cache
from prunenas.data import Data, load
from prunenas.errors import StudyError
from prunenas.evidence.cells import Cell, Contender, Outcome, cells
from prunenas.evidence.laboratory import Laboratory
from prunenas.evidence.table import Row, table
from prunenas.search.workshop import device_named, trace_model
from prunenas.spec import Comparison
from prunenas.spec.study import ModelSection
from prunenas.training import EpochMetrics
from prunenas.workers import Pool


@dataclass(frozen=True)
class Compared:
    """One dense network's part of a comparison.

    Attributes:
        model: Which.
        flops: Fused multiply-adds of the dense network for one input.
        params: Its number of parameters.
        contenders: In the order of the rows.
        results: What came of cells so far, in the order in which they are worked out.
        total: How many cells there are.
    """

    model: ModelSection
    flops: int
    params: int
    contenders: tuple[Contender, ...]
    results: dict[Cell, Outcome]
    total: int

    def rows(self, comparison: Comparison) -> list[Row]:
        """Return its table; see ``evidence.table``."""
        return table(
            self.contenders,
            self.results,
            protocol=comparison.train.protocol,
            margin=comparison.margin,
        )


@dataclass(frozen=True)
class Told:
    """What a comparison tells while it runs.

    Attributes:
        what: The training, in words; None once a cell is done.
        metrics: Of an epoch.
        parts: How far all networks are, once a cell is done.
    """

    what: str | None = None
    metrics: EpochMetrics | None = None
    parts: tuple[Compared, ...] = ()


Watch = Callable[[Told], None]


def compare(
    comparison: Comparison,
    *,
    contenders: tuple[Contender, ...] | None = None,
    device: str = "auto",
    workers: int = 1,
    folder: Path,
    watch: Watch = lambda told: None,
    warn: Callable[[str], None] = lambda text: None,
) -> tuple[Compared, ...]:
    """Work out all cells of a comparison that have not been, and return everything.

    Interrupted at any point, the same call goes on: outcomes, dense networks and trainings are
    kept, and a training that was under way is taken up at its last checkpoint.

    Args:
        comparison: What is compared.
        contenders: The rows; by default each method at each budget.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"``: a GPU where there is one.
        workers: Processes; 1 is the calling one.
        folder: Of the cache.
        watch: Told of every epoch and every cell, in the calling process.
        warn: Told of trouble that ends nothing, one line each.

    Raises:
        SourceError, TraceError, DataError, StudyError: It can't start, or can't go on.
    """
    if workers < 1:
        raise StudyError(f"`workers >= 1` must hold, but it is {workers}")
    chosen = str(device_named(device))
    threads = max(1, torch.get_num_threads() // workers)
    bench = Bench(comparison, chosen, threads, folder)
    own = bench.open(watch, warn)
    rows = contenders or every_method(comparison)
    parts = [
        _part(comparison, own.laboratory(index), model, rows)
        for index, model in enumerate(comparison.models)
    ]
    todo = [
        CellTask(index, cell)
        for index, part in enumerate(parts)
        for cell in _cells(comparison, part)
        if cell not in part.results
    ]
    for done in (
        _alone(own, todo) if workers == 1 else _together([bench] * workers, todo, watch, warn)
    ):
        parts[done.task.model].results[done.task.cell] = done.outcome
        watch(Told(parts=tuple(parts)))
    return tuple(_in_order(comparison, part) for part in parts)


@dataclass(frozen=True)
class CellTask:
    """A cell of one of a comparison's networks; see ``workers.Task``.

    Attributes:
        model: Which network, from 0.
        cell: Of its table.
    """

    model: int
    cell: Cell

    @property
    def what(self) -> str:
        """In words."""
        return str(self.cell)

    def progress(self, event: Told) -> tuple[str, int] | None:
        """See ``workers.Task``."""
        if event.what is None or event.metrics is None:
            return None
        return event.what, event.metrics.epoch

    def heard(self, event: Told) -> "CellTask":
        """Nothing is told again: see ``workers.Task``."""
        return self

    def given_up(self, reason: str) -> "CellDone":
        """See ``workers.Task``."""
        return CellDone(self, Outcome(reason=reason))


@dataclass(frozen=True)
class CellDone:
    """A cell, and what came of it."""

    task: CellTask
    outcome: Outcome


@dataclass(frozen=True)
class Bench:
    """What a worker of a comparison needs; see ``workers.Bench``.

    Attributes:
        comparison: What is compared.
        device: A torch device.
        threads: Of the CPU, for this worker.
        folder: Of the cache.
    """

    comparison: Comparison
    device: str
    threads: int
    folder: Path

    def open(self, watch: Watch, warn: Callable[[str], None]) -> "Laboratories":
        """Load the data."""
        data = load(**self.comparison.data.model_dump(), device=torch.device(self.device))
        return Laboratories(self, data, watch, warn)


class Laboratories:
    """A comparison's networks, each traced when it is first needed."""

    def __init__(self, bench: Bench, data: Data, watch: Watch, warn: Callable[[str], None]) -> None:
        """Args: what is needed, and who is told."""
        self._bench, self._data, self._watch, self._warn = bench, data, watch, warn
        self._open: dict[int, Laboratory] = {}

    def laboratory(self, index: int) -> Laboratory:
        """Return a network's."""
        if index not in self._open:
            comparison = self._bench.comparison
            self._open[index] = Laboratory(
                space=trace_model(comparison.models[index], self._data),
                data=self._data,
                recipe=comparison.train,
                fine_tuning=comparison.fine_tuning(),
                cache=Cache(self._bench.folder, self._warn),
                device=self._bench.device,
                report=lambda what, metrics: self._watch(Told(what, metrics)),
            )
        return self._open[index]

    def do(self, task: CellTask) -> CellDone:
        """Work a cell out; see ``workers.Doer``."""
        return CellDone(task, self.laboratory(task.model).outcome(task.cell))


def every_method(comparison: Comparison) -> tuple[Contender, ...]:
    """Return a comparison's methods, each at each budget."""
    return tuple(
        Contender(method.title, method.name, budget, dict(method.hyperparameters))
        for budget in comparison.budgets
        for method in comparison.methods
    )


def _part(
    comparison: Comparison,
    laboratory: Laboratory,
    model: ModelSection,
    contenders: tuple[Contender, ...],
) -> Compared:
    dense = laboratory.space.dense
    part = Compared(model, laboratory.space.dense_flops, dense.params, contenders, {}, 0)
    every = _cells(comparison, part)
    known = {cell: found for cell in every if (found := laboratory.known(cell)) is not None}
    return replace(part, results=known, total=len(every))


def _cells(comparison: Comparison, part: Compared) -> list[Cell]:
    seeds = range(comparison.seed, comparison.seed + comparison.seeds)
    return cells(list(part.contenders), comparison.arms, seeds)


def _in_order(comparison: Comparison, part: Compared) -> Compared:
    order = _cells(comparison, part)
    return replace(part, results={cell: part.results[cell] for cell in order})


def _alone(own: Laboratories, todo: list[CellTask]) -> Iterator[CellDone]:
    for task in todo:
        yield own.do(task)


def _together(
    benches: list[Bench], todo: list[CellTask], watch: Watch, warn: Callable[[str], None]
) -> Iterator[CellDone]:
    waiting = list(reversed(todo))
    pool = Pool(benches[: len(todo)], watch, warn)
    try:
        while waiting or pool.busy():
            while waiting and pool.idle():
                pool.begin(waiting.pop())
            done: CellDone = pool.wait()
            yield done
    finally:
        pool.close()
