"""Replaying searches on the table of trained architectures, and measuring what they found.

A strategy is a proposer (which architecture is tried next?) and a stopper (does this training go
on?). The replay answers from the table, counts epochs, and after every trial asks what the search
would hand its user: the front of what it has *seen*, trained with one seed. How good that is, is
measured with what it can't see: the mean accuracy over all seeds of the table.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from search_table import Table

from prunenas.search.surrogate import front_rows

CHANCE = 0.1
"""Accuracy of the hypervolume's reference point: ten classes guessed. Its FLOPs share is 1."""

BUDGETS = (0.1, 0.25, 0.5)
"""FLOPs shares at which the simple regret is read."""


@dataclass(frozen=True)
class Trial:
    """One architecture that was tried.

    Attributes:
        row: Its row in the table.
        share: Its FLOPs as a share of the dense network's.
        curve: Accuracy after each epoch that it was trained; empty if the training failed at once.
        complete: Whether it was trained to the end.
        reused: Whether it was trained before, so that it cost nothing.
    """

    row: int
    share: float
    curve: tuple[float, ...]
    complete: bool
    reused: bool = False

    @property
    def accuracy(self) -> float:
        """The last accuracy seen."""
        return self.curve[-1] if self.curve else CHANCE


class Proposer(Protocol):
    """Says which architecture is tried next."""

    def propose(self, history: Sequence[Trial]) -> int:
        """The row to try; called once for each trial."""

    def told(self, trial: Trial) -> None:
        """Hear what came of the proposal."""


Stopper = Callable[[float, Sequence[float], Sequence[Trial]], bool]
"""From a trial's FLOPs share, its accuracies so far and all earlier trials: does it end here?"""


@dataclass(frozen=True)
class Replay:
    """What one search found as it went.

    Attributes:
        trials: All trials in order.
        epochs: Epochs spent after each trial, shape (trials,).
        regret: Hypervolume regret after each trial, shape (trials,).
        simple: Simple regret, mean over ``BUDGETS``, after each trial, shape (trials,).
    """

    trials: tuple[Trial, ...]
    epochs: NDArray[np.int64]
    regret: NDArray[np.float64]
    simple: NDArray[np.float64]

    def at_epochs(self, epochs: int) -> tuple[float, float]:
        """Hypervolume regret and simple regret when so many epochs were spent."""
        # A trial that would end later isn't there yet: its epochs don't fit.
        index = int(np.searchsorted(self.epochs, epochs, side="right")) - 1
        if index < 0:
            raise ValueError(f"no trial ends within {epochs} epochs")
        return float(self.regret[index]), float(self.simple[index])


def hypervolume(
    shares: NDArray[np.float64], accuracies: NDArray[np.float64], *, low: float = CHANCE
) -> float:
    """Area that points dominate, up to the reference point (share 1, accuracy ``low``).

    1 − low for a network that costs nothing and is always right.
    """
    if not len(shares):
        return 0.0
    kept = front_rows(shares, accuracies)
    edges = np.minimum(np.r_[shares[kept], 1.0], 1.0)
    heights = np.maximum(accuracies[kept] - low, 0.0)
    return float((np.diff(edges) * heights).sum())


@dataclass(frozen=True)
class Measure:
    """Compares what a search hands its user with the best the table has."""

    table: Table

    @cached_property
    def volume(self) -> float:
        """The hypervolume of the table's own front."""
        return hypervolume(self.table.shares, self.table.accuracy)

    @cached_property
    def best(self) -> tuple[float, ...]:
        """The highest accuracy within each of ``BUDGETS``; chance where nothing fits."""
        shares, accuracy = self.table.shares, self.table.accuracy
        return tuple(float(accuracy[shares <= b].max(initial=CHANCE)) for b in BUDGETS)

    def regrets(self, trials: Sequence[Trial]) -> tuple[float, float]:
        """Hypervolume regret and simple regret of the front that these trials show."""
        done = [trial for trial in trials if trial.complete]
        rows = np.array([trial.row for trial in done], dtype=int)
        shares = np.array([trial.share for trial in done])
        seen = np.array([trial.accuracy for trial in done])
        true = self.table.accuracy[rows]
        shown = front_rows(shares, seen) if done else rows
        volume = hypervolume(shares[shown], true[shown])
        gaps = []
        for budget, best in zip(BUDGETS, self.best, strict=True):
            within = shown[shares[shown] <= budget]
            # The front ascends: its last member within the budget is the most accurate one seen.
            gaps.append(best - (true[within[-1]] if len(within) else CHANCE))
        return self.volume - volume, float(np.mean(gaps))


def replay(
    table: Table,
    measure: Measure,
    proposer: Proposer,
    stopper: Stopper,
    *,
    seed: int,
    epochs: int,
    most_trials: int = 200,
) -> Replay:
    """Search until the epochs are spent.

    Args:
        table: Answers.
        measure: Judges.
        proposer: Made for this replay; it remembers.
        stopper: Ends trainings.
        seed: Which of the table's seeds the search trains with: one for all, as studies do.
        epochs: Ends the search. A trial that would go beyond isn't counted.
        most_trials: Ends it too: proposals that were trained before cost nothing.
    """
    curves = table.curves[:, seed]
    history: list[Trial] = []
    known: dict[int, Trial] = {}
    spent = 0
    spendings, regrets, simples = [], [], []
    while spent < epochs and len(history) < most_trials:
        row = proposer.propose(history)
        if row in known:
            old = known[row]
            trial = Trial(row, old.share, old.curve, old.complete, reused=True)
        else:
            trial = known[row] = _train(
                row, float(table.shares[row]), curves[row], stopper, history
            )
            spent += max(len(trial.curve), 1)
        if spent > epochs:
            break
        history.append(trial)
        proposer.told(trial)
        regret, simple = measure.regrets(history)
        spendings.append(spent)
        regrets.append(regret)
        simples.append(simple)
    return Replay(tuple(history), np.array(spendings), np.array(regrets), np.array(simples))


def _train(
    row: int,
    share: float,
    curve: NDArray[np.float64],
    stopper: Stopper,
    history: Sequence[Trial],
) -> Trial:
    seen: list[float] = []
    for accuracy in curve.tolist():
        if np.isnan(accuracy):
            return Trial(row, share, tuple(seen), complete=False)
        seen.append(accuracy)
        if len(seen) < len(curve) and stopper(share, seen, history):
            return Trial(row, share, tuple(seen), complete=False)
    return Trial(row, share, tuple(seen), complete=True)
