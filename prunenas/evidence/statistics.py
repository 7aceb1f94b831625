"""Are two ways of training a network different, as good as each other, or can't it be told?

Accuracies of two ways are compared seed by seed: the same seed draws the data split, and so on, for
both, so that a lucky seed lifts both. What is tested is the mean of the differences, by Student's
t (Student 1908, "The Probable Error of a Mean"). Ranks (Wilcoxon's test) could not tell anything at
the usual n: with five pairs their smallest two-sided p is 1/16. Accuracies are counts of images,
though, and a few differences may all be equal by chance. Their deviation of 0 says nothing then,
and only their signs count: n of them agree by chance once in 2 to the n. Two questions are asked:

- *Is there a difference?* The two-sided test of a mean of 0.
- *Are they as good?* Two one-sided tests against a margin on either side (Schuirmann 1987, "A
  comparison of the two one-sided tests procedure and the power approach"): only where both reject
  do they differ by less than the margin. No difference seen is not the same as none.

Where a table asks several times, p values are corrected by Holm's procedure (Holm 1979, "A simple
sequentially rejective multiple test procedure"), each question for itself: the chance that any
row of the table wrongly claims a difference is at most ``ALPHA``, and so is the chance that any
wrongly claims to be as good. The price is power: with many rows and few seeds most of them come to
"no difference", which ``evidence.pooled`` asks of all rows at once.

Pure: values in, values out. Accuracies are shares in [0, 1].
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any, Literal

from scipy.stats import t as student

Outcome = Literal["better", "worse", "as good", "no difference"]

ALPHA = 0.05
"""How often a table with nothing in it may claim something."""

MARGIN = 0.005
"""Accuracies that lie closer than this are as good: half a point."""

ENOUGH = 2
"""Pairs that a standard deviation needs."""

_EXACT = 1e-12  # no data set has so many images


@dataclass(frozen=True)
class Paired:
    """What pairs of accuracies say: the second of each less the first.

    Attributes:
        n: Number of pairs.
        mean: Of the differences.
        deviation: Their standard deviation, n - 1 in the variance; None below two pairs.
    """

    n: int
    mean: float
    deviation: float | None

    @property
    def error(self) -> float | None:
        """Standard error of the mean; None below two pairs."""
        return None if self.deviation is None else self.deviation / self.n**0.5

    @property
    def effect(self) -> float | None:
        """Cohen's d of paired values: the mean in standard deviations; None where there are none.

        With few pairs it overstates what is there: by a quarter on average at n = 5, by 8 % at 10
        (Hedges 1981, "Distribution Theory for Glass's Estimator of Effect Size").

        Source: Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences", section 2.3.5.
        """
        return self.mean / self.deviation if self.deviation else None

    def interval(self, confidence: float = 0.95) -> tuple[float, float] | None:
        """Return what the true mean lies between with this confidence.

        None below two pairs, and where all differences are equal.
        """
        if not self.error:
            return None
        reach = float(student.ppf((1 + confidence) / 2, self.n - 1)) * self.error
        return self.mean - reach, self.mean + reach

    def p_different(self) -> float:
        """Return the two-sided p of a true mean of 0; 1 below two pairs."""
        return min(1.0, 2 * self._tail(abs(self.mean)))

    def p_as_good(self, margin: float) -> float:
        """Return the p of a true mean beyond the margin, on either side; 1 below two pairs."""
        return self._tail(margin - abs(self.mean))

    def p_not_worse(self, margin: float) -> float:
        """Return the p of a true mean of minus the margin or less; 1 below two pairs."""
        return self._tail(margin + self.mean)

    def _tail(self, distance: float) -> float:
        """How likely a mean lies so far from its true value, to one side, by chance."""
        if self.error is None:
            return 1.0
        if self.error == 0:  # all lie to one side, which their signs do by chance so often
            return 0.5**self.n if distance > 0 else 1.0
        return float(student.sf(distance / self.error, self.n - 1))


@dataclass(frozen=True)
class Verdict:
    """A row of a table: what its pairs say beside those of the other rows.

    Attributes:
        outcome: Of the second of each pair: ``better`` or ``worse`` than the first; ``as good``:
            they differ by less than the margin; ``no difference`` can be told.
        pairs: What it rests on.
        p_different: Of the first question, corrected for the number of rows.
        p_as_good: Of the second, likewise.
        margin: Of that.
    """

    outcome: Outcome
    pairs: Paired
    p_different: float
    p_as_good: float
    margin: float

    def sentence(self, first: str, second: str) -> str:
        """Say it plainly, with n."""
        said = {
            "better": f"{second} better",
            "worse": f"{first} better",
            "as good": f"{second} as good",
            "no difference": "no difference",
        }[self.outcome]
        return f"{said} at n = {self.pairs.n}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            **asdict(self),
            "effect": self.pairs.effect,
            "interval": self.pairs.interval(),
        }


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Paired:
    """Return what the seeds that both have say.

    Args:
        first: Accuracy by seed.
        second: Likewise.

    Raises:
        ValueError: They have no seed in common.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        raise ValueError("pairs need a seed that both have, but there is none")
    differences = [second[seed] - first[seed] for seed in seeds]
    if len(differences) < ENOUGH:
        return Paired(len(differences), fmean(differences), None)
    deviation = stdev(differences)
    # What is left of equal differences of floats is no deviation.
    return Paired(len(differences), fmean(differences), deviation if deviation > _EXACT else 0.0)


def holm(values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number, in the order given.

    The smallest times their number, the next times one less, and so on; none smaller than the one
    before it, none above 1.
    """
    order = sorted(range(len(values)), key=lambda index: values[index])
    corrected, least = [0.0] * len(values), 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = least
    return corrected


def verdicts(
    rows: Sequence[Paired], *, margin: float = MARGIN, alpha: float = ALPHA
) -> list[Verdict]:
    """Return a verdict for each row of one table.

    A difference that is smaller than the margin for sure is called one all the same: ``better``
    and ``worse`` come before ``as good``.

    Args:
        rows: All pairs that the table compares.
        margin: Above 0.
        alpha: In (0, 1).
    """
    different = holm([row.p_different() for row in rows])
    close = holm([row.p_as_good(margin) for row in rows])
    return [
        Verdict(_outcome(row, p, q, alpha), row, p, q, margin)
        for row, p, q in zip(rows, different, close, strict=True)
    ]


def _outcome(row: Paired, different: float, close: float, alpha: float) -> Outcome:
    if different < alpha:
        return "better" if row.mean > 0 else "worse"
    return "as good" if close < alpha else "no difference"
