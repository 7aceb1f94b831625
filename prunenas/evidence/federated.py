"""What a federated comparison came to: its table, over all seeds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from prunenas.data import Statistics
from prunenas.federated import FederatedRun, Point, RoundReport, TimeModel
from prunenas.spec.federated import CONTROL, ComparedStrategy, FederatedComparison


@dataclass(frozen=True)
class SeedResult:
    """One strategy with one seed.

    Attributes:
        run: The training; None where it could not go on.
        test: Accuracy on the test images at its end, in [0, 1].
        reason: Why there is none.
    """

    run: FederatedRun | None = None
    test: float | None = None
    reason: str | None = None

    @property
    def points(self) -> list[Point]:
        """Its validations."""
        return [] if self.run is None else self.run.history.points


@dataclass(frozen=True)
class Federated:
    """A federated comparison that is done.

    Attributes:
        comparison: What was compared.
        results: By the strategy's title and the seed.
        weights: Number of prunable weights.
        time: What a round takes.
        statistics: Who had which images, with the first seed.
    """

    comparison: FederatedComparison
    results: Mapping[tuple[str, int], SeedResult]
    weights: int
    time: TimeModel
    statistics: Statistics

    @property
    def seeds(self) -> range:
        """All seeds."""
        return range(self.comparison.seed, self.comparison.seed + self.comparison.seeds)

    def of(self, title: str) -> dict[int, SeedResult]:
        """Return a strategy's results by seed, those that are whole."""
        found = {seed: self.results[title, seed] for seed in self.seeds}
        return {seed: result for seed, result in found.items() if result.run is not None}

    def target(self, seed: int) -> float | None:
        """Return the validation accuracy that others have to reach with a seed.

        The mean of the last three validations of conventional training: one alone is noisy where
        clients differ. None where that is not among the strategies.
        """
        title = self.control
        points = [] if title is None else self.results[title, seed].points
        return fmean(point.accuracy for point in points[-3:]) if points else None

    @property
    def control(self) -> str | None:
        """The title of the conventional strategy; None where there is none."""
        names = {entry.name: entry.title for entry in reversed(self.comparison.strategies)}
        return names.get(CONTROL)

    def reached(self, title: str, seed: int) -> Point | None:
        """Return the first validation of a strategy that has the accuracy to be reached."""
        target = self.target(seed)
        if target is None:
            return None
        points = self.results[title, seed].points
        return next((point for point in points if point.accuracy >= target), None)

    def rows(self) -> list["FederatedRow"]:
        """Return the table, a row for each strategy."""
        return [_row(self, entry) for entry in self.comparison.strategies]


@dataclass(frozen=True)
class Spread:
    """A figure over seeds.

    Attributes:
        mean: Over those that have it.
        deviation: Standard deviation, n - 1 in the variance; None below two.
        n: How many have it.
    """

    mean: float
    deviation: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread | None":
        """Return it; None of no values."""
        found = list(values)
        if not found:
            return None
        return cls(fmean(found), stdev(found) if len(found) > 1 else None, len(found))


@dataclass(frozen=True)
class FederatedRow:
    """One strategy over all seeds; None where no seed has a figure.

    Attributes:
        title: Of the strategy.
        density: Share of the prunable weights kept at the end.
        test: Accuracy on the test images at the end.
        round_seconds: What the last round takes by the time model.
        seconds: What all rounds take together.
        sent: Payload bytes of one client and round, from the server, at the end; of a round after
            which nothing is reconfigured.
        received: Likewise to the server.
        reached: What rounds take until the accuracy of conventional training is reached.
        ratio: That, as a share of what conventional training takes with the same seed.
        reasons: Why seeds are missing.
    """

    title: str
    density: Spread | None
    test: Spread | None
    round_seconds: Spread | None
    seconds: Spread | None
    sent: Spread | None
    received: Spread | None
    reached: Spread | None
    ratio: Spread | None
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        spreads = {
            name: None
            if value is None
            else {"mean": value.mean, "sd": value.deviation, "n": value.n}
            for name, value in vars(self).items()
            if isinstance(value, Spread) or value is None
        }
        return {"title": self.title, **spreads, "reasons": list(self.reasons)}


def _row(done: Federated, entry: ComparedStrategy) -> FederatedRow:
    whole = {seed: result.run for seed, result in done.of(entry.title).items() if result.run}
    last = [_plain(run) for run in whole.values()]
    reached = {seed: done.reached(entry.title, seed) for seed in whole}
    seconds = {seed: point.seconds for seed, point in reached.items() if point is not None}
    control = {
        seed: point.seconds
        for seed in seconds
        if done.control is not None and (point := done.reached(done.control, seed)) is not None
    }
    return FederatedRow(
        title=entry.title,
        density=Spread.of(run.history.points[-1].density for run in whole.values()),
        test=Spread.of(r.test for r in done.of(entry.title).values() if r.test is not None),
        round_seconds=Spread.of(
            done.time.round_seconds({name: int(m.sum()) for name, m in run.masks.items()})
            for run in whole.values()
        ),
        seconds=Spread.of(run.history.seconds for run in whole.values()),
        sent=Spread.of(report.sent / len(report.replied) for report in last),
        received=Spread.of(report.received / len(report.replied) for report in last),
        reached=Spread.of(seconds.values()),
        ratio=Spread.of(seconds[seed] / control[seed] for seed in control),
        reasons=tuple(
            dict.fromkeys(
                f"seed {seed}: {reason}"
                for seed in done.seeds
                if (reason := done.results[entry.title, seed].reason)
            )
        ),
    )


def _plain(run: FederatedRun) -> RoundReport:
    """The last round whose updates brought nothing for a reconfiguration."""
    reports = run.history.reports
    return next((each for each in reversed(reports) if not each.reconfigured), reports[-1])
