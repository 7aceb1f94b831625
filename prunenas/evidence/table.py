"""The papers' table of a comparison: a row for each method and budget, with a verdict on each.

Test accuracies, mean ± standard deviation over seeds. Questions are asked of each row, where its
arms were trained: is the architecture from scratch as good as what the method leaves, trained on?
Does it beat the same share everywhere, and random shares, at the same FLOPs? Does the dense
network's original initialisation matter to a mask? Is a network by the pattern, the row's own or
that of another network, as good as what the method itself finds, and does it beat the same share
everywhere? All answers of a table are corrected together. Where two arms are one training read
twice (a method that is a control), there is nothing to ask.

Pure: values in, values out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from prunenas.evidence.cells import CONTROLS, GUIDED, Cell, Contender, Outcome
from prunenas.evidence.patterns import Pattern
from prunenas.evidence.statistics import ENOUGH, MARGIN, Paired, Verdict, paired, verdicts
from prunenas.spec.comparison import Arm
from prunenas.training.recipe import Scratch

Results = Mapping[Cell, Outcome]


@dataclass(frozen=True)
class Figure:
    """Accuracies of one arm of a row.

    Attributes:
        accuracies: On the test split by seed.
        reasons: Why seeds have none, each once.
        flops: Mean fused multiply-adds of one input; None without any accuracy.
        params: Mean number of parameters, likewise.
        digests: Of the architectures, by seed.
    """

    accuracies: Mapping[int, float]
    reasons: tuple[str, ...]
    flops: float | None
    params: float | None
    digests: Mapping[int, str | None]

    @property
    def architectures(self) -> int:
        """How many different ones there are."""
        return len(set(self.digests.values()))

    @property
    def n(self) -> int:
        """How many seeds the mean is of."""
        return len(self.accuracies)

    @property
    def mean(self) -> float | None:
        """Mean accuracy; None without any."""
        return fmean(self.accuracies.values()) if self.accuracies else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation, n - 1 in the variance; None below two seeds."""
        return stdev(self.accuracies.values()) if self.n >= ENOUGH else None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "mean": self.mean,
            "standard_deviation": self.deviation,
            "n": self.n,
            "by_seed": {str(seed): value for seed, value in self.accuracies.items()},
            "flops": self.flops,
            "params": self.params,
            "architectures": self.architectures,
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True)
class Answer:
    """A verdict of a row.

    Attributes:
        first: The arm that is compared with.
        second: The arm that is judged.
        verdict: Of the second.
    """

    first: Arm
    second: Arm
    verdict: Verdict

    @property
    def sentence(self) -> str:
        """The verdict in words, with n."""
        return self.verdict.sentence(words(self.first), words(self.second))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "first": self.first,
            "second": self.second,
            "sentence": self.sentence,
            **self.verdict.to_dict(),
        }


@dataclass(frozen=True)
class Row:
    """A method at a budget.

    Attributes:
        contender: Which.
        figures: By arm, those that were trained; the dense network's and the controls' too.
        answers: In the order of `questions`.
        pattern: Of what the method finds with all seeds; None where that is not known, or nothing.
    """

    contender: Contender
    figures: Mapping[Arm, Figure]
    answers: tuple[Answer, ...]
    pattern: Pattern | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "method": self.contender.label,
            "flops_ratio": self.contender.flops_ratio,
            "figures": {arm: figure.to_dict() for arm, figure in self.figures.items()},
            "answers": [answer.to_dict() for answer in self.answers],
            "pattern": None if self.pattern is None else self.pattern.to_dict(),
        }


def words(arm: Arm) -> str:
    """Return what people call an arm."""
    return {
        "fine_tuned": "fine-tuned",
        "scratch_e": "Scratch-E",
        "scratch_b": "Scratch-B",
        "ticket": "original initialisation",
    }.get(arm, arm)


def questions(protocol: Scratch) -> tuple[tuple[Arm, Arm], ...]:
    """Return what is compared with what, the judged one second.

    Args:
        protocol: By which controls and tickets are trained.
    """
    return (
        ("fine_tuned", "scratch_e"),
        ("fine_tuned", "scratch_b"),
        *((control, protocol) for control in CONTROLS),
        (protocol, "ticket"),
        *((other, arm) for arm in GUIDED for other in (protocol, "uniform")),
    )


def table(
    contenders: Iterable[Contender],
    results: Results,
    *,
    protocol: Scratch,
    margin: float = MARGIN,
    patterns: Mapping[Contender, Pattern] | None = None,
) -> list[Row]:
    """Return the rows, with verdicts that are corrected for all that the table asks.

    Args:
        contenders: In the order of the rows.
        results: What came of cells so far; missing ones are left out.
        protocol: By which controls and tickets are trained.
        margin: Accuracies that lie closer are as good.
        patterns: Of what contenders find, where that is known.
    """
    rows = [(each, _figures(each, results)) for each in contenders]
    asked: list[tuple[int, Arm, Arm]] = []
    pairs: list[Paired] = []
    for index, (_, figures) in enumerate(rows):
        for first, second in questions(protocol):
            one, other = figures.get(first), figures.get(second)
            if one and other and _can_differ(one, other, (first, second)):
                asked.append((index, first, second))
                pairs.append(paired(one.accuracies, other.accuracies))
    judged = list(zip(asked, verdicts(pairs, margin=margin), strict=True))
    return [
        Row(
            contender,
            figures,
            tuple(
                Answer(first, second, verdict)
                for (row, first, second), verdict in judged
                if row == index
            ),
            (patterns or {}).get(contender),
        )
        for index, (contender, figures) in enumerate(rows)
    ]


def figure(found: Mapping[int, Outcome]) -> Figure:
    """Return what outcomes by seed say together."""
    done = {seed: each for seed, each in found.items() if each.test is not None}
    return Figure(
        accuracies={seed: each.test for seed, each in done.items() if each.test is not None},
        reasons=tuple(dict.fromkeys(each.reason for each in found.values() if each.reason)),
        flops=fmean(each.flops or 0 for each in done.values()) if done else None,
        params=fmean(each.params or 0 for each in done.values()) if done else None,
        digests={seed: each.digest for seed, each in done.items()},
    )


def _can_differ(one: Figure, other: Figure, arms: tuple[Arm, Arm]) -> bool:
    """Whether two arms have a seed in common, and are not one training read twice."""
    seeds = one.accuracies.keys() & other.accuracies.keys()
    if not seeds or not {"fine_tuned", "ticket"}.isdisjoint(arms):
        return bool(seeds)
    return any(
        (one.digests[seed], one.accuracies[seed]) != (other.digests[seed], other.accuracies[seed])
        for seed in seeds
    )


def _figures(contender: Contender, results: Results) -> dict[Arm, Figure]:
    """A row's arms: its own, the controls at its budget, and the dense network."""
    by_arm: dict[Arm, dict[int, Outcome]] = {}
    for cell, outcome in results.items():
        own = cell.contender == contender
        beside = cell.contender is None and cell.flops_ratio in (None, contender.flops_ratio)
        if own or beside:
            by_arm.setdefault(cell.arm, {})[cell.seed] = outcome
    return {arm: figure(found) for arm, found in by_arm.items()}
