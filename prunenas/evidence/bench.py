"""Where cells are worked out, in this process or a worker: a comparison's networks and data."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from prunenas.cache import Cache
from prunenas.data import Data, load
from prunenas.evidence.cells import Cell, Outcome
from prunenas.evidence.guidance import GuidedLaboratory
from prunenas.evidence.laboratory import reason
from prunenas.search.workshop import trace_model
from prunenas.spec import Comparison
from prunenas.spec.study import ModelSection
from prunenas.training import EpochMetrics


@dataclass(frozen=True)
class Epoch:
    """An epoch has ended.

    Attributes:
        what: The training, in words.
        metrics: Of the epoch.
    """

    what: str
    metrics: EpochMetrics


Watch = Callable[[Epoch], None]


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

    def progress(self, event: Epoch) -> tuple[str, int]:
        """See ``workers.Task``."""
        return event.what, event.metrics.epoch

    def heard(self, event: Epoch) -> "CellTask":
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
        self._open: dict[int, GuidedLaboratory] = {}
        self._origin: GuidedLaboratory | None = None

    def laboratory(self, index: int) -> GuidedLaboratory:
        """Return a network's."""
        if index not in self._open:
            comparison = self._bench.comparison
            found = self._made(comparison.models[index], self._data)
            if "transferred" in comparison.arms and (index or comparison.patterns is not None):
                origin = self.origin()
                found = replace(found, origin=None if found.is_of(origin) else origin)
            self._open[index] = found
        return self._open[index]

    def origin(self) -> GuidedLaboratory:
        """Return that of the network on which patterns are found, to be transferred."""
        patterns = self._bench.comparison.patterns
        if patterns is None:
            return self.laboratory(0)
        if self._origin is None:
            data = self._data
            if patterns.data is not None:
                device = torch.device(self._bench.device)
                data = load(**patterns.data.model_dump(), device=device)
            self._origin = self._made(patterns.model, data)
        return self._origin

    def do(self, task: CellTask) -> CellDone:
        """Work a cell out; see ``workers.Doer``."""
        laboratory = self.laboratory(task.model)
        outcome = laboratory.outcome(task.cell)
        if task.cell.contender is not None:  # its pattern is told of, whatever the arms
            try:
                laboratory.find(task.cell.contender, task.cell.seed)
            except Exception as error:
                reason(error)  # its cells say why; what ends all is raised
        return CellDone(task, outcome)

    def _made(self, model: ModelSection, data: Data) -> GuidedLaboratory:
        comparison = self._bench.comparison
        return GuidedLaboratory(
            space=trace_model(model, data),
            data=data,
            recipe=comparison.train,
            fine_tuning=comparison.fine_tuning(),
            cache=Cache(self._bench.folder, self._warn),
            device=self._bench.device,
            report=lambda what, metrics: self._watch(Epoch(what, metrics)),
            seeds=range(comparison.seed, comparison.seed + comparison.seeds),
        )
