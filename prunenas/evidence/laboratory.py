"""Where a comparison's cells are worked out: one network, its data and a device, in one process."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunenas.architecture import Architecture, Space, build
from prunenas.cache import Cache
from prunenas.data import Data
from prunenas.errors import DataError, PrunenasError, TrainingError, refuse_to_hide_ctrl_c
from prunenas.evidence.cells import CONTROLS, Cell, Contender, Outcome
from prunenas.methods import METHODS, Dense, Derivation
from prunenas.spec.comparison import Arm
from prunenas.training import EpochMetrics, Recipe, evaluate, scratch_epochs
from prunenas.training.causes import causes
from prunenas.training.recipe import Protocol
from prunenas.training.shared import Job, Trainings
from prunenas.trial import job_of

KIND = "evidence"  # of the cache's entries

_APART = 1_000_003
"""Between a dense network's seed and that of its trainings from scratch: fresh weights must not be
those that the dense network began with, which is the ticket's arm."""

_PROTOCOLS: dict[Arm, Protocol] = {"scratch_e": "scratch_e", "scratch_b": "scratch_b"}


@dataclass(frozen=True)
class Laboratory:
    """Works cells out, each once: what came of it is kept under everything it depends on.

    Attributes:
        space: Of the dense network.
        data: On the device.
        recipe: Of the dense network and of trainings from scratch, whose protocol the controls
            and tickets follow.
        fine_tuning: Of fine-tuning: its epochs, and learning rates.
        cache: Where outcomes, dense networks and trainings are kept.
        device: Where trainings run.
        report: Told of each epoch: of which training, and its metrics.
    """

    space: Space
    data: Data
    recipe: Recipe
    fine_tuning: Recipe
    cache: Cache
    device: torch.device | str = "cpu"
    report: Callable[[str, EpochMetrics], None] | None = None

    def known(self, cell: Cell) -> Outcome | None:
        """Return what came of a cell before; None where it was not worked out."""
        entry = self.cache.get(KIND, self._key(cell))
        return None if entry is None else Outcome(**entry.meta["outcome"])

    def outcome(self, cell: Cell) -> Outcome:
        """Work a cell out, or read what came of it.

        What can't be done (a budget that no widths meet, a method that leaves no weights, a
        training that fails) is an outcome with its reason: a cell's own trouble ends no comparison.

        Raises:
            DataError: The data can't be read, which every other cell would meet too.
            OSError: Nor can the file system be written.
        """
        key = self._key(cell)
        with self.cache.lock(KIND, key):
            if (found := self.known(cell)) is not None:
                return found
            try:
                outcome = self._work(cell)
            except Exception as error:
                outcome = Outcome(reason=reason(error))
                if not isinstance(error, PrunenasError):
                    return outcome  # not kept: an exhausted memory may be another day's
            meta = {"about": f"{self.space.dense.source}: {cell}", "outcome": asdict(outcome)}
            self.cache.put(KIND, key, {}, meta)
        return outcome

    def _work(self, cell: Cell) -> Outcome:
        dense = self._dense(cell.seed)
        if cell.arm == "dense":
            trained = dense.train()
            accuracy = trained.validation.accuracy
            return self._tested(self.space.dense, trained.state, accuracy, self.recipe.epochs)
        derivation = self._derived(cell, dense)
        architecture = derivation.architecture
        if cell.arm == "fine_tuned":
            weights = derivation.weights()
            if weights is None:
                return Outcome(reason="the method leaves no weights")
            job = self._fine_tuned(cell, architecture, weights)
        else:
            narrow = architecture.widths != self.space.dense.widths
            if cell.arm == "ticket" and (narrow or not architecture.masks):
                return Outcome(reason="a ticket needs masks: narrow networks are new ones")
            job = self._scratch(cell, architecture, dense)
        shared = Trainings(self.cache).train(job, trial=0, report=self._telling(str(cell)))
        assert shared.weights is not None  # nothing stops it
        accuracy = shared.training.validation.accuracy
        return self._tested(architecture, shared.weights, accuracy, job.epochs)

    def _dense(self, seed: int) -> Dense:
        return Dense(
            self.space,
            self.data,
            self.recipe,
            self.cache,
            seed=seed,
            device=self.device,
            report=self.report,
        )

    def _derived(self, cell: Cell, dense: Dense) -> Derivation:
        assert cell.flops_ratio is not None  # only the dense network has none
        budget = int(cell.flops_ratio * self.space.dense_flops)
        contender = cell.contender or Contender(cell.arm, cell.arm, cell.flops_ratio)
        method = METHODS[contender.method](**contender.hyperparameters)
        return method.derive(dense, ratios=contender.ratios, flops=budget, seed=cell.seed)

    def _scratch(self, cell: Cell, architecture: Architecture, dense: Dense) -> Job:
        protocol = _PROTOCOLS.get(cell.arm, self.recipe.protocol)
        epochs = scratch_epochs(
            protocol,
            self.recipe.epochs,
            dense_flops=self.space.dense_flops,
            flops=architecture.flops,
            cap=self.recipe.scratch_b_cap,
        )
        initial = "original" if cell.arm == "ticket" else "fresh"
        recipe = self.recipe.model_copy(update={"initial": initial})
        seed = cell.seed + _APART
        return job_of(architecture, replace(dense, recipe=recipe), epochs=epochs, seed=seed)

    def _fine_tuned(
        self, cell: Cell, architecture: Architecture, weights: dict[str, Tensor]
    ) -> Job:
        def make() -> nn.Module:
            network = build(architecture, trust=True)
            network.load_state_dict(weights)
            return network

        return Job(
            architecture=architecture,
            make=make,
            data=self.data,
            recipe=self.fine_tuning,
            epochs=self.fine_tuning.epochs,
            seed=cell.seed + _APART,
            device=self.device,
            initial={"left by": self._key(cell)},
        )

    def _tested(
        self,
        architecture: Architecture,
        weights: dict[str, Tensor],
        validation: float,
        epochs: int,
    ) -> Outcome:
        network = build(architecture, trust=True)
        network.load_state_dict(weights)
        test = evaluate(
            network,
            self.data.test,
            device=self.device,
            precision=self.recipe.precision,
            memory_format=self.recipe.memory_format,
        )
        return Outcome(
            test=test.accuracy,
            validation=validation,
            flops=architecture.flops,
            params=architecture.params,
            epochs=epochs,
            digest=architecture.digest,
        )

    def _key(self, cell: Cell) -> str:
        contender = cell.contender and {**asdict(cell.contender), "label": None}
        own: dict[str, Any] = {**cell.to_dict(), "contender": contender}
        if cell.arm == "fine_tuned":
            own["fine tuning"] = self.fine_tuning.model_dump(mode="json")
        if cell.arm in (*CONTROLS, "ticket"):
            own["protocol"] = self.recipe.protocol
        return Cache.key(
            cell=own,
            work=_own_code(),
            cap=self.recipe.scratch_b_cap,
            **causes(
                self.space.dense,
                self.data,
                self.recipe,
                epochs=self.recipe.epochs,
                seed=cell.seed,
                device=self.device,
                rooms=("methods",),
            ),
        )

    def _telling(self, what: str) -> Callable[[EpochMetrics], None] | None:
        report = self.report
        return None if report is None else lambda metrics: report(what, metrics)


def reason(error: Exception) -> str:
    """Return why a cell has no figure, in one line.

    Raises:
        DataError, OSError: The error itself, where every other cell would meet it too; and an
            interrupt that it hides.
    """
    if isinstance(error, (DataError, OSError)):
        raise error
    if isinstance(error, TrainingError):
        return error.reason
    if isinstance(error, PrunenasError):
        return str(error)
    refuse_to_hide_ctrl_c(error)
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


@cache
def _own_code() -> str:
    """Digest of this file: how cells are worked out. Tables and verdicts are made anew anyway."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
