"""Running a comparison: every cell once, in this process or in several."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from prunenas.errors import StudyError
from prunenas.evidence.bench import Bench, CellDone, CellTask, Epoch, Laboratories, Watch
from prunenas.evidence.cells import Cell, Contender, Outcome, cells
from prunenas.evidence.cost import Cost, cost
from prunenas.evidence.guidance import GuidedLaboratory
from prunenas.evidence.patterns import Pattern
from prunenas.evidence.pooled import Pooled, pooled
from prunenas.evidence.table import Row, table
from prunenas.methods import Dense
from prunenas.search.workshop import device_named
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
        patterns: Of what each contender finds with all seeds, once that is known.
    """

    model: ModelSection
    flops: int
    params: int
    contenders: tuple[Contender, ...]
    results: dict[Cell, Outcome]
    total: int
    patterns: Mapping[Contender, Pattern] = field(default_factory=dict)

    def rows(self, comparison: Comparison) -> list[Row]:
        """Return its table; see ``evidence.table``."""
        return table(
            self.contenders,
            self.results,
            protocol=comparison.train.scratch,
            margin=comparison.margin,
            patterns=self.patterns,
        )

    def pooled(self, comparison: Comparison) -> list[Pooled]:
        """Return what its rows say together; see ``evidence.pooled``."""
        return pooled(
            self.rows(comparison), protocol=comparison.train.scratch, margin=comparison.margin
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


def compare(
    comparison: Comparison,
    *,
    contenders: tuple[Contender, ...] | None = None,
    device: str = "auto",
    workers: int = 1,
    folder: Path,
    watch: Callable[[Told], None] = lambda told: None,
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
    threads = max(1, torch.get_num_threads() // workers)
    bench = Bench(comparison, str(device_named(device)), threads, folder)
    with _threads(threads):  # those of the workers, whose results are read here

        def tell(epoch: Epoch) -> None:
            watch(Told(epoch.what, epoch.metrics))

        own = bench.open(tell, warn)
        rows = contenders or every_method(comparison)
        parts = [
            _part(comparison, own.laboratory(index), model, rows)
            for index, model in enumerate(comparison.models)
        ]
        todo = [
            CellTask(index, cell)
            for index, part in enumerate(parts)
            for cell in _todo(own.laboratory(index), _cells(comparison, part), part.results)
        ]
        for done in (
            _alone(own, todo) if workers == 1 else _together([bench] * workers, todo, tell, warn)
        ):
            parts[done.task.model].results[done.task.cell] = done.outcome
            watch(Told(parts=tuple(parts)))
        return tuple(
            _whole(comparison, part, own.laboratory(index)) for index, part in enumerate(parts)
        )


def plan(
    comparison: Comparison,
    *,
    contenders: tuple[Contender, ...] | None = None,
    device: str = "auto",
    workers: int = 1,
    folder: Path,
    warn: Callable[[str], None] = lambda text: None,
) -> tuple[tuple[Compared, Cost], ...]:
    """Return for each network what is done, and what is left to train; nothing is trained.

    Args are those of `compare`, and so is what it raises.
    """
    threads = max(1, torch.get_num_threads() // workers)
    bench = Bench(comparison, str(device_named(device)), threads, folder)
    with _threads(threads):
        own = bench.open(lambda epoch: None, warn)
        planned = []
        for index, model in enumerate(comparison.models):
            laboratory = own.laboratory(index)
            part = _part(comparison, laboratory, model, contenders or every_method(comparison))
            left = [cell for cell in _cells(comparison, part) if cell not in part.results]
            images = len(laboratory.data.train)
            planned.append((part, cost(comparison, left, dense_flops=part.flops, images=images)))
    return tuple(planned)


def found_pattern(
    comparison: Comparison,
    contender: Contender,
    *,
    device: str = "auto",
    folder: Path,
    watch: Callable[[Told], None] = lambda told: None,
    counted: Callable[[int], None] = lambda done: None,
    warn: Callable[[str], None] = lambda text: None,
) -> tuple[Dense, Pattern]:
    """Return the pattern of what a method finds with all seeds of a comparison.

    On the network and data of its ``patterns``, or the first of its models. What was found before
    is read, the rest is worked out and kept.

    Args:
        comparison: Whose recipe and seeds.
        contender: The method at its budget.
        device: As for `compare`, as are ``folder``, ``watch`` and ``warn``.
        counted: Told of how many seeds are done, after each.

    Returns:
        The dense network of the first seed, and the pattern.

    Raises:
        StudyError: The method finds nothing that has a pattern; and what `compare` raises.
    """

    def tell(epoch: Epoch) -> None:
        watch(Told(epoch.what, epoch.metrics))

    bench = Bench(comparison, str(device_named(device)), torch.get_num_threads(), folder)
    laboratory = bench.open(tell, warn).origin()
    for done, seed in enumerate(laboratory.seeds, 1):
        laboratory.find(contender, seed)
        counted(done)
    found = laboratory.pattern(contender)
    if isinstance(found, str):
        raise StudyError(f"{contender.label} has no pattern in {comparison.name!r}: {found}")
    return laboratory.dense(comparison.seed), found


def every_method(comparison: Comparison) -> tuple[Contender, ...]:
    """Return a comparison's methods, each at each budget."""
    return tuple(
        Contender(method.title, method.name, budget, dict(method.hyperparameters))
        for budget in comparison.budgets
        for method in comparison.methods
    )


def _part(
    comparison: Comparison,
    laboratory: GuidedLaboratory,
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


def _todo(
    laboratory: GuidedLaboratory, every: list[Cell], results: Mapping[Cell, Outcome]
) -> Iterator[Cell]:
    """Cells to be worked out, and for each network that is to be found again one that asks."""
    asked: set[tuple[Contender, int]] = set()
    for cell in every:
        own = None if cell.contender is None else (cell.contender, cell.seed)
        if cell not in results:
            asked |= {own} if own else set()
            yield cell
        elif own and own not in asked and laboratory.finding(*own) is None:
            asked.add(own)
            yield cell


def _whole(comparison: Comparison, part: Compared, laboratory: GuidedLaboratory) -> Compared:
    patterns = {each: laboratory.known_pattern(each) for each in part.contenders}
    return replace(
        part,
        results={cell: part.results[cell] for cell in _cells(comparison, part)},
        patterns={each: found for each, found in patterns.items() if found is not None},
    )


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Compute with so many threads of the CPU for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
