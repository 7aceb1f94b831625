"""Comparisons that were never run: accuracies as they are wanted, for tables and verdicts."""

from collections.abc import Mapping, Sequence
from functools import cache

from prunenas.architecture import trace
from prunenas.evidence.cells import CONTROLS, Cell, Contender, Outcome
from prunenas.evidence.comparison import Compared
from prunenas.evidence.patterns import Pattern, pattern
from prunenas.spec import Arm, Comparison
from prunenas.spec.study import ModelSection

BUDGET = 0.5
FLOPS = 1_000_000


@cache
def uneven() -> Pattern:
    """Of a network whose stages keep 1, 0.5 and 0.25 of their channels."""
    space = trace("vgg_mini", input_shape=(1, 28, 28))
    widths = {group.name: 16 for group in space.groups}
    return pattern(space, [space.architecture(widths=widths)])


def outcome(accuracy: float | None, name: str, reason: str | None = None) -> Outcome:
    if accuracy is None:
        return Outcome(reason=reason)
    return Outcome(
        test=accuracy, validation=accuracy, flops=400_000, params=1_234, epochs=3, digest=name
    )


def comparison(
    methods: Sequence[str], arms: Sequence[Arm], seeds: int, margin: float = 0.005
) -> Comparison:
    return Comparison.model_validate(
        {
            "name": "made",
            "models": [{"name": "vgg_mini"}],
            "data": {"name": "digits"},
            "methods": [{"name": name} for name in methods],
            "budgets": [BUDGET],
            "train": {"epochs": 3},
            "arms": list(arms),
            "seeds": seeds,
            "margin": margin,
        }
    )


def compared(
    rows: Mapping[str, Mapping[Arm, Sequence[float | None]]],
    *,
    beside: Mapping[Arm, Sequence[float]] | None = None,
    reason: str = "no such network",
    patterns: bool = False,
) -> Compared:
    """Accuracies by method, arm and seed from 0 on, and those of the dense network and controls."""
    results: dict[Cell, Outcome] = {}
    for arm, values in (beside or {}).items():
        for seed, value in enumerate(values):
            budget = BUDGET if arm in CONTROLS else None
            results[Cell(arm, seed, budget)] = outcome(value, arm)
    contenders = tuple(Contender(name, name, BUDGET) for name in rows)
    for contender in contenders:
        for arm, found in rows[contender.label].items():
            for seed, value in enumerate(found):
                cell = Cell(arm, seed, BUDGET, contender)
                results[cell] = outcome(value, contender.label, reason)
    return Compared(
        model=ModelSection(name="vgg_mini"),
        flops=FLOPS,
        params=50_000,
        contenders=contenders,
        results=results,
        total=len(results),
        patterns=dict.fromkeys(contenders, uneven()) if patterns else {},
    )
