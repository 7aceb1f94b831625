"""Running a comparison: every cell once, in this process or in several."""

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from prunenas.architecture import Space
from prunenas.cache import Cache
from prunenas.data import load
from prunenas.errors import StudyError
from prunenas.evidence.cells import Cell, Contender, Outcome, cells
from prunenas.evidence.laboratory import Laboratory
from prunenas.evidence.table import Row, table
from prunenas.search.workshop import device_named, trace_model
from prunenas.spec import Comparison
from prunenas.spec.study import ModelSection
from prunenas.training import EpochMetrics

_DEATHS = 3
"""So many deaths of workers without a cell done between are no accident."""


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
        device: ``"cpu"``, ``"cuda"``, or ``"auto"``: a GPU where there is one.
        workers: Processes; 1 is the calling one.
        folder: Of the cache.
        watch: Told of every epoch and every cell, in the calling process.
        warn: Told of trouble that ends nothing, one line each.

    Raises:
        SourceError, TraceError, DataError, StudyError: It can't start, or can't go on.
    """
    chosen = device_named(device)
    bench = _Bench(comparison, str(chosen), folder)
    parts = [_part(bench, index, warn) for index in range(len(comparison.models))]
    todo = [
        (index, cell)
        for index, part in enumerate(parts)
        for cell in _cells(comparison, part)
        if cell not in part.results
    ]
    done = _alone(bench, todo, watch) if workers == 1 else _together(bench, todo, workers, watch)
    for index, cell, outcome in done:
        parts[index].results[cell] = outcome
        watch(Told(parts=tuple(parts)))
    return tuple(_in_order(comparison, part) for part in parts)


@dataclass(frozen=True)
class _Bench:
    """What a worker needs; pickles."""

    comparison: Comparison
    device: str
    folder: Path


def _part(bench: _Bench, index: int, warn: Callable[[str], None]) -> Compared:
    comparison = bench.comparison
    laboratory = _laboratory(bench, index, None, warn)
    contenders = tuple(
        Contender(method.title, method.name, budget, dict(method.hyperparameters))
        for budget in comparison.budgets
        for method in comparison.methods
    )
    space = laboratory.space
    part = Compared(
        comparison.models[index],
        space.dense_flops,
        space.dense.params,
        contenders,
        {},
        0,
    )
    every = _cells(comparison, part)
    known = {cell: found for cell in every if (found := laboratory.known(cell)) is not None}
    return replace(part, results=known, total=len(every))


def _cells(comparison: Comparison, part: Compared) -> list[Cell]:
    seeds = range(comparison.seed, comparison.seed + comparison.seeds)
    return cells(list(part.contenders), comparison.arms, seeds)


def _in_order(comparison: Comparison, part: Compared) -> Compared:
    order = _cells(comparison, part)
    return replace(part, results={cell: part.results[cell] for cell in order})


def _laboratory(
    bench: _Bench,
    index: int,
    report: Callable[[str, EpochMetrics], None] | None,
    warn: Callable[[str], None] = lambda text: None,
) -> Laboratory:
    comparison, device = bench.comparison, torch.device(bench.device)
    data = load(**comparison.data.model_dump(), device=device)
    return Laboratory(
        space=_space(bench, index),
        data=data,
        recipe=comparison.train,
        fine_tuning=comparison.fine_tuning(),
        cache=Cache(bench.folder, warn),
        device=device,
        report=report,
    )


def _space(bench: _Bench, index: int) -> Space:
    comparison = bench.comparison
    data = load(**comparison.data.model_dump())
    return trace_model(comparison.models[index], data)


Done = Iterator[tuple[int, Cell, Outcome]]


def _alone(bench: _Bench, todo: list[tuple[int, Cell]], watch: Watch) -> Done:
    def report(what: str, metrics: EpochMetrics) -> None:
        watch(Told(what, metrics))

    laboratories: dict[int, Laboratory] = {}
    for index, cell in todo:
        if index not in laboratories:
            laboratories[index] = _laboratory(bench, index, report)
        yield index, cell, laboratories[index].outcome(cell)


def _together(bench: _Bench, todo: list[tuple[int, Cell]], workers: int, watch: Watch) -> Done:
    context = multiprocessing.get_context("spawn")
    left, deaths = list(todo), 0
    while left:
        told = context.SimpleQueue()
        listener = threading.Thread(target=_listen, args=(told, watch), daemon=True)
        listener.start()
        threads = max(1, torch.get_num_threads() // workers)
        pool = ProcessPoolExecutor(
            workers, context, initializer=_begin, initargs=(bench, told, threads)
        )
        under_way: dict[Future[Outcome], tuple[int, Cell]] = {}
        try:
            for index, cell in left:
                under_way[pool.submit(_work, index, cell)] = (index, cell)
            while under_way:
                ended, _ = wait(under_way, return_when=FIRST_COMPLETED)
                for future in ended:
                    outcome = future.result()
                    index, cell = under_way.pop(future)
                    left.remove((index, cell))
                    deaths = 0
                    yield index, cell, outcome
        except BrokenProcessPool as error:
            deaths += 1
            if deaths >= _DEATHS:
                raise StudyError(
                    f"a worker died {deaths} times without a training done between: {left[0][1]}"
                ) from error
        finally:
            _end(pool)
            told.put(None)
            listener.join()


def _end(pool: ProcessPoolExecutor) -> None:
    """End a pool's processes at once: each has written what it needs to go on from."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()


def _listen(told: Any, watch: Watch) -> None:
    while (message := told.get()) is not None:
        watch(message)


_bench: _Bench | None = None
_told: Any = None


def _begin(bench: _Bench, told: Any, threads: int) -> None:
    global _bench, _told
    torch.set_num_threads(threads)
    _bench, _told = bench, told


@cache
def _own(index: int) -> Laboratory:
    assert _bench is not None
    return _laboratory(_bench, index, lambda what, metrics: _told.put(Told(what, metrics)))


def _work(index: int, cell: Cell) -> Outcome:
    return _own(index).outcome(cell)
