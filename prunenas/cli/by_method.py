"""A study's methods side by side, as a table and in lines."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from prunenas.cli import tables, units
from prunenas.cli.repeats import figure
from prunenas.search.by_method import MethodFigures
from prunenas.search.view import StudyView


def comparison(view: StudyView, methods: Sequence[MethodFigures]) -> Table:
    """Return one row for each method, best first, and one for the dense network."""
    areas = len(view.directions) > 1
    fresh = any(each.fresh for each in methods)
    result = tables.table(
        "method",
        *(_FRONTS if areas else [("accuracy", "right")]),
        *([("fresh seeds", "right")] if fresh else []),
        ("best", "right"),
        *([("of dense", "right")] if areas else []),  # under a budget all cost the same
        ("trial", "right"),
        "trials",
        title=f"{view.name} · by method",
    )
    for place, each in enumerate(methods):
        best = each.best
        result.add_row(
            Text(each.method, "bold" if place == 0 and each.n else ""),
            *(_front(each) if areas else [mean(each)]),
            *([figure(each.fresh[0]) if each.fresh else "–"] if fresh else []),
            units.accuracy(best.accuracy if best else None),
            *([units.share(best.flops_ratio if best else None)] if areas else []),
            str(best.number) if best else "–",
            _trials(each),
        )
    result.add_section()
    blank = (3 if areas else 1) + fresh
    known, full = units.accuracy(view.dense_accuracy), [units.share(1.0)] if areas else []
    dense = ("dense network", *blank * ["–"], known, *full, "–", "–")
    result.add_row(*(Text(cell, "dim") for cell in dense))
    return result


def lines(view: StudyView, methods: Sequence[MethodFigures]) -> list[Text]:
    """How to read the comparison, and what it can't say."""
    if view.costs:
        shape = ("square", "cube", "hypercube")[len(view.costs) - 1]
        space = f"the {shape} of"
        costs = " and ".join(tables.COSTS[cost] for cost in view.costs)
        told = [
            f"hypervolume: share of {space} {costs} (none to dense) and accuracy (0 to 1) that "
            "a method's different architectures cover; more of them cover more"
        ]
    else:
        told = [
            "accuracy: mean ± standard deviation (number) of a method's different architectures"
        ]
    told[0] += "; all were trained with one seed, whose luck these figures can't tell"
    if any(each.fresh for each in methods):
        told.append(
            "fresh seeds: of a method's best repeated candidate, mean ± standard error (seeds); "
            "only candidates were repeated, so that a dash is no verdict"
        )
    return [Text(line, "dim") for line in told]


def mean(figures: MethodFigures) -> str:
    """Word a mean with its deviation and number: ``0.9491 ± 0.0012 (6)``."""
    if figures.mean is None:
        return "– (0)"
    tail = "" if figures.deviation is None else f" ± {figures.deviation:.4f}"
    return f"{units.accuracy(figures.mean)}{tail} ({figures.n})"


def _trials(figures: MethodFigures) -> Text:
    """How many there were; what became of them where they are not all complete."""
    states = figures.states
    if set(states) <= {"complete"}:
        return Text(str(sum(states.values())))
    return tables.states(states)


def _front(figures: MethodFigures) -> list[str]:
    area = "–" if figures.hypervolume is None or not figures.n else f"{figures.hypervolume:.4f}"
    return [area, f"{figures.on_front}/{figures.front_size}", str(figures.n)]


_FRONTS = [("hypervolume", "right"), ("on front", "right"), ("architectures", "right")]
