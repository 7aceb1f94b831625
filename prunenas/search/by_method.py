"""A study seen method by method: whose architectures retrain best.

All trials of a study are trained with one seed, so that an architecture that was proposed twice has
one accuracy: it counts once. Means and deviations are therefore over different architectures, and
say how a method's proposals differ among themselves; how far the seed's luck carries, only fresh
seeds can tell, where the study has repeats. Nothing is tested for significance here.

Pure: values in, values out. Accuracies are shares in [0, 1] on the validation split.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from prunenas.search.repeats import ENOUGH, Repeats
from prunenas.search.view import StudyView
from prunenas.tracking.front import FLOPS, hypervolume, reach
from prunenas.trial import Record


@dataclass(frozen=True)
class MethodFigures:
    """What a study knows of one of its methods.

    Attributes:
        method: Its name.
        states: Number of its trials by state.
        architectures: Its complete trials, of equal architectures the first, in order.
        on_front: How many architectures of the study's front are its own; with one objective the
            front is the one best architecture.
        front_size: How many the front has in all.
        hypervolume: Share of the unit square, or cube, of costs relative to the dense network's by
            accuracy, that its architectures cover; None with one objective.
        fresh: Its candidates with a mean of fresh seeds, best first; empty unless the study has
            ranked its candidates.
        costs: What the study minimizes.
    """

    method: str
    states: Mapping[str, int]
    architectures: tuple[Record, ...]
    on_front: int
    front_size: int
    hypervolume: float | None
    fresh: tuple[Repeats, ...]
    costs: tuple[str, ...] = FLOPS

    @property
    def reference(self) -> dict[str, float]:
        """The corner that hypervolumes are measured from: the dense network's costs, nothing
        right."""
        names = {
            "flops": "flops_ratio",
            "latency_ms": "latency_ratio",
            "round_seconds": "round_seconds_ratio",
        }
        return {**{names[cost]: 1.0 for cost in self.costs}, "accuracy": 0.0}

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Of its different architectures."""
        return tuple(each.accuracy for each in self.architectures if each.accuracy is not None)

    @property
    def n(self) -> int:
        """How many different architectures its mean is of."""
        return len(self.accuracies)

    @property
    def mean(self) -> float | None:
        """Mean accuracy of its different architectures; None without any."""
        return fmean(self.accuracies) if self.accuracies else None

    @property
    def deviation(self) -> float | None:
        """Their standard deviation, n - 1 in the variance; None below two."""
        return stdev(self.accuracies) if self.n > 1 else None

    @property
    def flops_ratio(self) -> float | None:
        """Mean share of the dense network's FLOPs."""
        ratios = [each.flops_ratio for each in self.architectures if each.flops_ratio is not None]
        return fmean(ratios) if ratios else None

    @property
    def best(self) -> Record | None:
        """The most accurate in the search; of equals the one with the fewest FLOPs."""
        order = sorted(self.architectures, key=lambda r: (-(r.accuracy or 0.0), r.flops or 0))
        return order[0] if order else None

    @property
    def fresh_mean(self) -> float | None:
        """Mean over its repeated candidates of their fresh-seed means; None without any."""
        means = [each.mean for each in self.fresh if each.mean is not None]
        return fmean(means) if means else None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        best, fresh = self.best, self.fresh
        return {
            "method": self.method,
            "trials": dict(self.states),
            "architectures": self.n,
            "accuracy": {"mean": self.mean, "standard_deviation": self.deviation, "n": self.n},
            "flops_ratio": self.flops_ratio,
            "best": best
            and {
                "trial": best.number,
                "accuracy": best.accuracy,
                "flops": best.flops,
                "flops_ratio": best.flops_ratio,
            },
            "on_front": self.on_front,
            "front_share": self.on_front / self.front_size if self.front_size else None,
            "hypervolume": None
            if self.hypervolume is None
            else {"value": self.hypervolume, "reference": self.reference},
            "fresh_seeds": {
                "candidates": len(fresh),
                "mean": self.fresh_mean,
                "best": {
                    "trial": fresh[0].record.number,
                    "mean": fresh[0].mean,
                    "standard_error": fresh[0].standard_error,
                    "n": fresh[0].n,
                }
                if fresh
                else None,
            },
        }


def by_method(view: StudyView) -> tuple[MethodFigures, ...]:
    """Return a study's methods, best first.

    Under one objective that is the order of mean accuracies, which all cost the same; with two the
    order of hypervolumes, because an accuracy says nothing without its cost. Methods without a
    complete trial come last; of equals the one the study names first comes first.
    """
    names = [entry["name"] for entry in view.settings.get("methods", ())]
    names += [record.method for record in view.records]
    front = view.final_front
    found = [
        _figures(view, name, sum(record.method == name for record in front), len(front))
        for name in dict.fromkeys(names)
    ]

    def rank(figures: MethodFigures) -> tuple[bool, float]:
        figure = figures.mean if figures.hypervolume is None else figures.hypervolume
        return figures.n == 0, -(figure or 0.0)

    return tuple(sorted(found, key=rank))


def _figures(view: StudyView, name: str, on_front: int, front_size: int) -> MethodFigures:
    own = [record for record in view.records if record.method == name]
    different: dict[str | None, Record] = {}
    for record in own:
        if record.state == "complete" and record.accuracy is not None:
            different.setdefault(record.digest, record)
    architectures = tuple(different.values())
    told = [each.to_dict() for each in architectures]
    reached = [reach(each, view.costs, view.dense_costs) for each in told]
    return MethodFigures(
        method=name,
        states=dict(Counter(record.state for record in own)),
        architectures=architectures,
        on_front=on_front,
        front_size=front_size,
        hypervolume=hypervolume(reached) if view.costs else None,
        fresh=tuple(
            each for each in view.ranking if each.n >= ENOUGH and each.record.method == name
        ),
        costs=view.costs,
    )
