"""Stoppers: which trainings end early because they come to nothing.

A stopper looks at a training only at its rungs, the ends of the first 1/8, 1/4 and 1/2 of its
epochs (rounded up, so that a short training has fewer), and compares validation accuracies there
with those of earlier trials of the study at the end of the same share of *their* epochs: under
``scratch_b`` trials have different numbers of them, but the same learning rate at the same share.
Trials that were stopped count as far as they came; those that failed don't.

========== =====================================================================================
``none``   No training is stopped.
``pareto`` Stopped where it is dominated: at the rung, and at the epoch before it, some trial that
           costs no more is better by more than the margin. With several objectives a trial is only
           ever compared with trials that cost no more (in each thing that is minimized), so that
           a cheap network is not stopped for being less accurate than a large one.
``median`` Stopped where its best accuracy so far is below the median of the others' accuracies at
           this rung, once 4 others have reached it (Google Vizier's rule).
``asha``   Stopped unless among the best half of all that have reached this rung, itself included
           and at least 2 (asynchronous successive halving, reduction factor 2).
========== =====================================================================================

``median`` and ``asha`` look at the accuracy alone where nothing else is minimized; with a front
they compare with trials that cost no more, as ``pareto`` does.

The margin keeps noise from deciding. It is 2 standard deviations of an accuracy, estimated from
repeated seeds where they are known (``spread``), and never below what the validation split alone
gives: sqrt(p (1 - p) / images). The epoch before the rung is the patience: one bad epoch stops
nothing. Where curves don't cross, a trial that would end on the front is never stopped by
``pareto``: whatever is better than it at a rung, for no more FLOPs, would end better too.

Everything here is a function of curves, so that a study that was interrupted stops the same trials.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from prunenas.spec import Study
from prunenas.trial import Record

SHARES = (1 / 8, 1 / 4, 1 / 2)
"""Shares of a training at whose end a stopper looks."""

_DEVIATIONS = 2.0
_MEDIAN_NEEDS = 4
_ASHA_NEEDS = 2


@dataclass(frozen=True)
class Curve:
    """A training, as far as it came.

    Attributes:
        costs: Of the architecture, what the study minimizes: nothing, FLOPs, latency or both.
        epochs: That it would last to the end.
        accuracies: On the validation split after each epoch so far, shares in [0, 1].
    """

    costs: tuple[float, ...]
    epochs: int
    accuracies: tuple[float, ...]

    def at(self, share: float) -> float | None:
        """The accuracy at the end of a share of the training; None if it never came so far."""
        epoch = epoch_at(share, self.epochs)
        return self.accuracies[epoch - 1] if epoch <= len(self.accuracies) else None


@dataclass(frozen=True)
class Noise:
    """How far an accuracy may lie from what another seed would give.

    Attributes:
        images: In the validation split.
        spread: Standard deviations over repeated seeds by share of the training; empty where no
            training was repeated.
    """

    images: int
    spread: Mapping[float, float]

    def margin(self, accuracy: float, share: float) -> float:
        """By how much another accuracy must exceed this one to be called better."""
        own = min(1.0, max(0.0, accuracy))
        binomial = math.sqrt(own * (1 - own) / self.images)
        return _DEVIATIONS * max(binomial, self.spread.get(share, 0.0))


def epoch_at(share: float, epochs: int) -> int:
    """The epoch, from 1, at the end of a share of a training.

    >>> [epoch_at(share, 10) for share in SHARES]
    [2, 3, 5]
    """
    return min(epochs, max(1, math.ceil(share * epochs - 1e-9)))


def rung(epoch: int, epochs: int) -> float | None:
    """The largest share whose end this epoch is; None for an epoch between rungs, and the last."""
    ends = [share for share in SHARES if epoch_at(share, epochs) == epoch]
    return ends[-1] if ends and epoch < epochs else None


def _pareto(own: Curve, cheaper: Sequence[Curve], share: float, noise: Noise) -> bool:
    epoch = len(own.accuracies)
    # The epoch before the rung as a share; a rung at the first epoch has none before it.
    moments = [share] if epoch == 1 else [(epoch - 1) / own.epochs, share]

    def dominated(moment: float, mine: float) -> bool:
        needed = mine + noise.margin(mine, share)
        return any((other.at(moment) or 0.0) > needed for other in cheaper)

    mine = own.accuracies[-len(moments) :]
    return all(dominated(*pair) for pair in zip(moments, mine, strict=True))


def _median(own: Curve, cheaper: Sequence[Curve], share: float, noise: Noise) -> bool:
    del noise
    others = [reached for other in cheaper if (reached := other.at(share)) is not None]
    return len(others) >= _MEDIAN_NEEDS and max(own.accuracies) < median(others)


def _asha(own: Curve, cheaper: Sequence[Curve], share: float, noise: Noise) -> bool:
    del noise
    others = [reached for other in cheaper if (reached := other.at(share)) is not None]
    better = sum(reached > own.accuracies[-1] for reached in others)
    reached_all = len(others) + 1
    return reached_all >= _ASHA_NEEDS and better >= math.ceil(reached_all / 2)


_RULES: Mapping[str, Callable[[Curve, Sequence[Curve], float, Noise], bool]] = {
    "pareto": _pareto,
    "median": _median,
    "asha": _asha,
}


@dataclass(frozen=True)
class Stopper:
    """A rule, and what it compares a training with.

    Attributes:
        name: ``none``, ``pareto``, ``median`` or ``asha``.
        others: Trainings of earlier trials, as far as they came.
        noise: What the margin is made of.
    """

    name: str
    others: tuple[Curve, ...]
    noise: Noise

    def stops(self, own: Curve) -> bool:
        """Whether a training ends here; its last epoch is the one that has just ended."""
        share = rung(len(own.accuracies), own.epochs)
        if self.name == "none" or share is None:
            return False
        rivals = [
            other
            for other in self.others
            if all(a <= b for a, b in zip(other.costs, own.costs, strict=True))
        ]
        return _RULES[self.name](own, rivals, share, self.noise)


def curves_of(
    records: Iterable[Record], study: Study, dense_flops: int, costs: Sequence[str]
) -> tuple[Curve, ...]:
    """Curves of the trials that were trained to the end or stopped.

    Args:
        records: Of one study.
        study: Says how many epochs a stopped trial would have had.
        dense_flops: FLOPs of the dense network.
        costs: What it minimizes.
    """
    return tuple(
        Curve(
            known,
            study.epochs_for(dense_flops=dense_flops, flops=record.flops),
            tuple(point["validation_accuracy"] for point in record.curve),
        )
        for record in records
        if record.state in ("complete", "stopped")
        and record.flops is not None
        and (known := record.costs(costs)) is not None
    )
