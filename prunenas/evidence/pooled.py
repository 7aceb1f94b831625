"""What all methods of a kind say together: the paper's claim is of methods, not of one row.

A table of many rows must correct for each of them, and with few seeds hardly any survives that. One
question over all rows asks less often: for each seed the differences of the rows are averaged, and
the means are tested over seeds. The seed is the unit, since rows of one seed share its dense
network and data split: they are no independent draws. What is claimed is of these methods at these
budgets on average, not of each.

The paper's claim is "from scratch is at least as good". That is one-sided: where neither a
difference nor equality can be told, the second arm may still be shown not to be worse by more than
the margin (non-inferiority). All pooled answers of a network are corrected together by Holm's
procedure, apart from its rows'.

Pure: values in, values out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from prunenas.evidence.statistics import ALPHA, ENOUGH, MARGIN, Verdict, holm, paired, verdicts
from prunenas.evidence.table import Row, questions, words
from prunenas.methods import METHODS
from prunenas.spec.comparison import Arm
from prunenas.training.recipe import Scratch

KINDS = ("predefined", "automatic")


@dataclass(frozen=True)
class Pooled:
    """A verdict over the rows of a kind.

    Attributes:
        kind: Of the methods: ``predefined`` or ``automatic``.
        rows: How many rows are averaged.
        first: The arm that is compared with.
        second: The arm that is judged.
        verdict: Of the second; its pairs are of seeds.
        p_not_worse: Of the second being worse by the margin or more; corrected.
    """

    kind: str
    rows: int
    first: Arm
    second: Arm
    verdict: Verdict
    p_not_worse: float

    @property
    def sentence(self) -> str:
        """The verdict in words, with n."""
        if self.verdict.outcome == "no difference" and self.p_not_worse < ALPHA:
            n, margin = self.verdict.pairs.n, self.verdict.margin
            return f"{words(self.second)} not worse by {margin:g} at n = {n}"
        return self.verdict.sentence(words(self.first), words(self.second))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "kind": self.kind,
            "rows": self.rows,
            "first": self.first,
            "second": self.second,
            "sentence": self.sentence,
            "p_not_worse": self.p_not_worse,
            **self.verdict.to_dict(),
        }


def pooled(rows: Sequence[Row], *, protocol: Scratch, margin: float = MARGIN) -> list[Pooled]:
    """Return what the rows of each kind say together, where there are two or more.

    Args:
        rows: Of one network's table; a row counts where the table asks it the same.
        protocol: By which controls and tickets are trained.
        margin: Accuracies that lie closer are as good.
    """
    asked = []
    for kind in KINDS:
        own = [row for row in rows if METHODS[row.contender.method].kind == kind]
        for first, second in questions(protocol):
            said = [row for row in own if _asks(row, first, second)]
            seeds = _shared(said, first, second)
            if len(said) > 1 and len(seeds) >= ENOUGH:
                pairs = paired(_means(said, first, seeds), _means(said, second, seeds))
                asked.append((kind, len(said), first, second, pairs))
    judged = verdicts([each[-1] for each in asked], margin=margin)
    not_worse = holm([each[-1].p_not_worse(margin) for each in asked])
    return [
        Pooled(kind, n, first, second, verdict, p)
        for (kind, n, first, second, _), verdict, p in zip(asked, judged, not_worse, strict=True)
    ]


def _asks(row: Row, first: Arm, second: Arm) -> bool:
    return any((each.first, each.second) == (first, second) for each in row.answers)


def _shared(rows: Sequence[Row], first: Arm, second: Arm) -> list[int]:
    """Seeds that all rows have both arms of."""
    every = [row.figures[arm].accuracies.keys() for row in rows for arm in (first, second)]
    return sorted(set.intersection(*map(set, every))) if every else []


def _means(rows: Sequence[Row], arm: Arm, seeds: Sequence[int]) -> Mapping[int, float]:
    return {seed: fmean(row.figures[arm].accuracies[seed] for row in rows) for seed in seeds}
