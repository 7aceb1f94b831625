"""Ways of searching, for the replay: proposers (Optuna's samplers and our own) and stoppers."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import optuna
from numpy.typing import NDArray
from search_replay import Stopper, Trial
from search_table import Table

from prunenas.search.samplers import sampler
from prunenas.search.stoppers import SHARES, Curve, Noise, epoch_at
from prunenas.search.stoppers import Stopper as Rule
from prunenas.search.surrogate import front_rows, most_promising

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

SPREAD = (1.0, 0.18, 0.032, 0.006)
"""FLOPs shares of uniform starts, from the dense network to the narrowest one on the grid."""

_FACTORS = np.linspace(-6.0, 6.0, 97)  # of natural logarithms: e⁻⁶ is below the narrowest ratio


@dataclass(frozen=True)
class Grid:
    """The table's grid as a space of ratios: rounding to it, and projecting onto FLOPs targets."""

    table: Table

    @cached_property
    def logs(self) -> Floats:
        """Logarithms of each row's ratios, shape (rows, groups)."""
        widths = self.table.widths
        logs: Floats = np.log(widths / widths.max(axis=0))
        return logs

    @cached_property
    def lowest(self) -> float:
        """The logarithm of the smallest ratio."""
        return float(self.logs.min())

    def snap(self, logs: Floats) -> Rows:
        """Rows of the grid's points nearest to logarithms of ratios, shape (…, groups)."""
        index = []
        for group, levels in enumerate(self.table.levels):
            known = np.log(levels / levels[-1])
            index.append(np.searchsorted((known[1:] + known[:-1]) / 2, logs[..., group]))
        shape = tuple(len(levels) for levels in self.table.levels)
        rows: Rows = np.ravel_multi_index(tuple(index), shape)
        return rows

    def project(self, logs: Floats, shares: Floats) -> Rows:
        """Rows in these proportions whose FLOPs come nearest to shares from below.

        Args:
            logs: Logarithms of proportions, shape (points, groups).
            shares: FLOPs targets as shares of the dense network's, shape (points,).
        """
        scaled = np.clip(logs[:, None] + _FACTORS[:, None], self.lowest, 0.0)
        rows = self.snap(scaled)
        reached = self.table.shares[rows]
        # FLOPs grow with the factor; where even the narrowest costs more, it is the answer.
        below = np.maximum((reached <= shares[:, None] * (1 + 1e-9)).sum(axis=1) - 1, 0)
        found: Rows = rows[np.arange(len(rows)), below]
        return found

    def uniform(self, shares: Sequence[float]) -> list[int]:
        """Rows of one ratio for all groups, projected onto FLOPs targets."""
        flat = np.zeros((len(shares), len(self.table.levels)))
        rows: list[int] = self.project(flat, np.array(shares)).tolist()
        return rows


@dataclass
class OptunaRatios:
    """One of the engine's samplers over raw ratios, one for each group: plain Optuna.

    Attributes:
        grid: What is searched.
        name: The sampler's name.
        seed: Of the sampler.
        log: Whether ratios are proposed by their logarithm; else as in ``per_layer.yaml``.
        target: Whether the ratios are proportions, projected onto a FLOPs share that is searched.
        starts: FLOPs shares of the uniform networks that are tried first.
    """

    grid: Grid
    name: str
    seed: int
    log: bool = False
    target: bool = False
    starts: tuple[float, ...] = ()
    _study: optuna.Study = field(init=False)
    _trial: optuna.Trial = field(init=False)

    def __post_init__(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study = optuna.create_study(directions=["maximize", "minimize"])
        least = float(self.grid.table.shares.min())
        for share, row in zip(self.starts, self.grid.uniform(self.starts), strict=True):
            ratios = np.exp(self.grid.logs[row])
            params = {f"ratio/{g}": 1.0 if self.target else ratios[g] for g in range(self._groups)}
            if self.target:
                params["share"] = max(share, least)
            self._study.enqueue_trial(params)

    @property
    def _groups(self) -> int:
        return len(self.grid.table.levels)

    def propose(self, history: Sequence[Trial]) -> int:
        self._study.sampler = sampler(self.name, self.seed, len(history))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # enqueue_trial warns of rounding at a range's end
            self._trial = self._study.ask()
            low = float(np.exp(self.grid.lowest))
            ratios = np.array(
                [
                    self._trial.suggest_float(f"ratio/{group}", low, 1.0, log=self.log)
                    for group in range(self._groups)
                ]
            )
            if self.target:
                least = float(self.grid.table.shares.min())
                share = self._trial.suggest_float("share", least, 1.0, log=True)
                return int(self.grid.project(np.log(ratios)[None], np.array([share]))[0])
        if self.log:
            return int(self.grid.snap(np.log(ratios)))
        levels = self.grid.table.levels
        nearest = [
            int(known[np.abs(known / known[-1] - ratio).argmin()])
            for known, ratio in zip(levels, ratios, strict=True)
        ]
        return self.grid.table.row(nearest)

    def told(self, trial: Trial) -> None:
        if trial.complete:
            self._study.tell(self._trial, [trial.accuracy, trial.share])
        else:  # as the engine tells stopped trials
            self._study.tell(self._trial, state=optuna.trial.TrialState.PRUNED)


def complete(history: Sequence[Trial]) -> tuple[Rows, Floats, Floats]:
    """Rows, shares and accuracies of the trials that were trained to the end, each once."""
    done = {trial.row: trial for trial in history if trial.complete}
    return (
        np.array(list(done), dtype=int),
        np.array([trial.share for trial in done.values()]),
        np.array([trial.accuracy for trial in done.values()]),
    )


@dataclass
class Mutation:
    """Local search: a member of the front, its proportions changed a little, at a FLOPs target.

    The target is drawn evenly between the front's ends (by logarithm), the parent is the front's
    member nearest to it; proportions take normal steps, and are projected onto the target.
    """

    grid: Grid
    seed: int
    starts: tuple[float, ...] = SPREAD
    step: float = 0.5

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)
        self._starts = self.grid.uniform(self.starts)

    def propose(self, history: Sequence[Trial]) -> int:
        if len(history) < len(self._starts):
            return self._starts[len(history)]
        rows, shares, accuracies = complete(history)
        tried = {trial.row for trial in history}
        least = np.log(self.grid.table.shares.min())
        kept = front_rows(shares, accuracies)
        row = -1
        for _ in range(20):
            target = self._random.uniform(least, 0.0)
            parent = rows[kept[np.abs(np.log(shares[kept]) - target).argmin()]]
            logs = self.grid.logs[parent] + self._random.normal(0, self.step, len(self.grid.logs.T))
            row = int(self.grid.project(logs[None], np.exp([target]))[0])
            if row not in tried:
                break
        return row

    def told(self, trial: Trial) -> None:
        pass


@dataclass
class Model:
    """A Gaussian process of the accuracy; the FLOPs are known, so nothing else is to be learnt.

    Candidates are drawn as a space of any size allows: random proportions on random FLOPs
    targets, and mutations of the front. Tried is the one with the highest expected gain of
    hypervolume, in closed form.
    """

    grid: Grid
    seed: int
    starts: tuple[float, ...] = SPREAD
    drawn: int = 256
    step: float = 0.5
    partial: bool = False

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)
        self._starts = self.grid.uniform(self.starts)

    def propose(self, history: Sequence[Trial]) -> int:
        if len(history) < len(self._starts):
            return self._starts[len(history)]
        rows, shares, accuracies = complete(history)
        noise = np.zeros(len(rows))
        if self.partial:
            more, guessed, doubt = extrapolated(history)
            rows, accuracies = np.r_[rows, more], np.r_[accuracies, guessed]
            shares = self.grid.table.shares[rows]
            noise = np.r_[noise, doubt]
        kept = front_rows(shares, accuracies)
        candidates = self._candidates(rows[kept], {trial.row for trial in history})
        best = most_promising(
            self.grid.logs[rows],
            accuracies,
            shares,
            self.grid.logs[candidates],
            self.grid.table.shares[candidates],
            noise,
        )
        return int(candidates[best])

    def _candidates(self, parents: Rows, tried: set[int]) -> Rows:
        groups = len(self.grid.table.levels)
        least = np.log(self.grid.table.shares.min())
        targets = np.exp(self._random.uniform(least, 0.0, self.drawn))
        anew = self._random.uniform(self.grid.lowest, 0.0, (self.drawn, groups))
        near = self.grid.logs[self._random.choice(parents, self.drawn)]
        near = near + self._random.normal(0, self.step, near.shape)
        drawn = np.r_[
            self.grid.project(anew, targets), self.grid.snap(np.clip(near, self.grid.lowest, 0.0))
        ]
        fresh = np.array([row for row in np.unique(drawn) if row not in tried], dtype=int)
        return fresh if len(fresh) else drawn

    def told(self, trial: Trial) -> None:
        pass


def extrapolated(history: Sequence[Trial]) -> tuple[Rows, Floats, Floats]:
    """Stopped trials with the final accuracy that the complete ones suggest, and its variance."""
    done = [trial for trial in history if trial.complete and not trial.reused]
    rows, guesses, doubts = [], [], []
    for trial in {t.row: t for t in history if t.curve and not t.complete}.values():
        epoch = len(trial.curve) - 1
        then = np.array([other.curve[epoch] for other in done])
        last = np.array([other.accuracy for other in done])
        if len(done) < 5 or then.std() == 0:
            continue
        slope, base = np.polyfit(then, last, 1)
        rows.append(trial.row)
        guesses.append(float(np.clip(base + slope * trial.accuracy, 0.0, 1.0)))
        doubts.append(float(np.var(last - base - slope * then)))
    return np.array(rows, dtype=int), np.array(guesses), np.array(doubts)


def never(share: float, seen: Sequence[float], history: Sequence[Trial]) -> bool:
    """Train everything to the end."""
    return False


def rule(name: str, table: Table) -> Stopper:
    """One of the engine's stoppers, with the noise that a study measures before its first trial."""
    (row,) = Grid(table).uniform((0.5,))
    epochs = table.curves.shape[2]
    spread = {s: float(table.curves[row, :, epoch_at(s, epochs) - 1].std(ddof=1)) for s in SHARES}
    noise = Noise(int(table.conditions["validation_images"]), spread)
    dense = table.flops[table.dense]

    def stops(share: float, seen: Sequence[float], history: Sequence[Trial]) -> bool:
        others = tuple(
            Curve(round(trial.share * dense), epochs, trial.curve)
            for trial in history
            if trial.curve and not trial.reused
        )
        return Rule(name, others, noise).stops(Curve(round(share * dense), epochs, tuple(seen)))

    return stops


def forecast(rungs: Sequence[int], deviations: float = 2.0, warm: int = 8) -> Stopper:
    """Stop at a rung what won't reach the front, by a margin, as the complete trials' curves say.

    The last accuracy is regressed on the one at the rung; its residuals are the margin's measure.
    """

    def stops(share: float, seen: Sequence[float], history: Sequence[Trial]) -> bool:
        done = [trial for trial in history if trial.complete and not trial.reused]
        cheaper = [trial.accuracy for trial in done if trial.share <= share]
        if len(seen) not in rungs or len(done) < warm or not cheaper:
            return False
        then = np.array([trial.curve[len(seen) - 1] for trial in done])
        last = np.array([trial.accuracy for trial in done])
        if then.std() == 0:
            return False
        slope, base = np.polyfit(then, last, 1)
        left = np.sqrt(np.sum((last - base - slope * then) ** 2) / (len(done) - 2))
        return bool(base + slope * seen[-1] + deviations * left < max(cheaper))

    return stops
