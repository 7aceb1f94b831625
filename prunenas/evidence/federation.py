"""Running a federated comparison: every strategy with every seed."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from prunenas.architecture import Architecture, Space, build, with_masks
from prunenas.cache import Cache
from prunenas.data import Data, client_splits, load, statistics
from prunenas.errors import TrainingError
from prunenas.evidence.federated import Federated, SeedResult
from prunenas.federated import (
    FederatedRun,
    Point,
    Setting,
    time_model,
)
from prunenas.federated.kept import kept_run, run_key
from prunenas.search.workshop import device_named, trace_model
from prunenas.spec.federated import FINDER, ComparedStrategy, FederatedComparison
from prunenas.training import evaluate

KIND = "federatedtest"  # of the cache's entries: accuracies on test images, each read once


@dataclass(frozen=True)
class Told:
    """What a federated comparison tells while it runs.

    Attributes:
        what: The training, in words.
        point: A validation; None once a training is done.
        done: Trainings done.
        total: Trainings in all.
    """

    what: str
    point: Point | None
    done: int
    total: int


def compare_strategies(
    comparison: FederatedComparison,
    *,
    device: str = "auto",
    folder: Path,
    watch: Callable[[Told], None] = lambda told: None,
    warn: Callable[[str], None] = lambda text: None,
) -> Federated:
    """Train with every strategy and seed what has not been trained before.

    Interrupted at any point, the same call goes on where it was.

    Args:
        comparison: What is compared.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"``: a GPU where there is one.
        folder: Of the cache.
        watch: Told of every validation and every training that is done.
        warn: Told of trouble that ends nothing, one line each.

    Raises:
        SourceError, TraceError, DataError, FederatedError: It can't start.
    """
    bench = Bench(comparison, device_named(device), Cache(folder, warn))
    # Whoever follows needs the density that another finds.
    entries = sorted(comparison.strategies, key=lambda entry: entry.follows)
    seeds = range(comparison.seed, comparison.seed + comparison.seeds)
    total = len(entries) * len(seeds)
    results: dict[tuple[str, int], SeedResult] = {}
    for seed in seeds:
        for entry in entries:
            what = f"{entry.title}, seed {seed}"

            def tell(point: Point, what: str = what) -> None:
                watch(Told(what, point, len(results), total))

            results[entry.title, seed] = bench.result(
                entry, seed, tell, bench.density(results, seed)
            )
            watch(Told(what, None, len(results), total))
    parts = client_splits(
        bench.data.train,
        comparison.federation.clients,
        comparison.federation.partition.partition(),
        seeds[0],
    )
    return Federated(
        comparison,
        results,
        weights=sum(mask.numel() for mask in _masks(results)),
        time=bench.time,
        statistics=statistics(
            tuple(part.indices for part in parts), bench.data.train.labels, bench.data.classes
        ),
    )


class Bench:
    """A comparison's data and network, ready for its trainings.

    Attributes:
        data: Loaded.
        space: Of the dense network.
        time: What a round takes.
    """

    def __init__(self, comparison: FederatedComparison, device: torch.device, cache: Cache) -> None:
        """Load the data and trace the network.

        Raises:
            SourceError, TraceError, DataError, FederatedError: They don't fit together.
        """
        self._comparison, self._device, self._cache = comparison, device, cache
        self.data: Data = load(**comparison.data.model_dump(), device=device)
        self.space: Space = trace_model(comparison.model, self.data)
        self.time = time_model(comparison.federation, self.space)

    def setting(self, entry: ComparedStrategy, seed: int, density: float | None) -> Setting:
        """Return one training."""
        federation = self._comparison.federation
        if entry.rounds is not None:
            federation = federation.model_copy(update={"rounds": entry.rounds})
        return Setting(
            architecture=self.space.dense,
            data=self.data,
            federation=federation,
            strategy=entry.strategy(density),
            time=self.time,
            seed=seed,
            device=self._device,
        )

    def density(self, results: Mapping[tuple[str, int], SeedResult], seed: int) -> float | None:
        """Return the density that the finder found with a seed; None where it found none."""
        for entry in self._comparison.strategies:
            found = results.get((entry.title, seed))
            if entry.name == FINDER and found is not None and found.points:
                return found.points[-1].density
        return None

    def result(
        self,
        entry: ComparedStrategy,
        seed: int,
        watch: Callable[[Point], None],
        density: float | None,
    ) -> SeedResult:
        """Train, or read what came of it before."""
        if entry.follows and density is None:
            return SeedResult(reason=f"{FINDER} found no density with seed {seed}")
        setting = self.setting(entry, seed, density)
        try:
            run = kept_run(setting, self._cache, watch=watch)
        except TrainingError as error:
            return SeedResult(reason=str(error))
        return self.judged(setting, run)

    def judged(self, setting: Setting, run: FederatedRun) -> SeedResult:
        """Return a training with its accuracy on the test images, which are read once."""
        return SeedResult(run, self._tested(setting, run))

    def masked(self, run: FederatedRun) -> Architecture:
        """Return the dense network's architecture with the masks that a training came to."""
        network = build(self.space.dense, trust=True)
        return with_masks(self.space, self.space.dense, network, run.masks)

    def state(self, run: FederatedRun) -> dict[str, Tensor]:
        """Return the whole state dict of a training's network, on the CPU."""
        network = build(self.space.dense, trust=True)
        network.load_state_dict(run.weights, strict=False)
        return dict(network.state_dict())

    def _tested(self, setting: Setting, run: FederatedRun) -> float:
        """The accuracy on the test images, read once."""
        key = Cache.key(run=run_key(setting))
        entry = self._cache.get(KIND, key)
        if entry is None:
            network = setting.network()
            network.load_state_dict(run.weights, strict=False)
            accuracy = evaluate(network, self.data.test, device=self._device).accuracy
            self._cache.keep(KIND, key, {}, {"about": "a test accuracy", "accuracy": accuracy})
            return accuracy
        return float(entry.meta["accuracy"])


def _masks(results: Mapping[tuple[str, int], SeedResult]) -> Iterable[torch.Tensor]:
    """The masks of any training."""
    run = next((result.run for result in results.values() if result.run is not None), None)
    return () if run is None else run.masks.values()
