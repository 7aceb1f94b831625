"""Comparisons as tables, and their verdicts in lines."""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from prunenas.cli import units
from prunenas.cli.tables import table
from prunenas.evidence.comparison import Compared
from prunenas.evidence.patterns import EVEN, UNEVEN
from prunenas.evidence.pooled import Pooled
from prunenas.evidence.statistics import Verdict
from prunenas.evidence.table import Answer, Figure, Row, words
from prunenas.spec import Arm, Comparison

OWN: tuple[Arm, ...] = ("scratch_b", "scratch_e", "fine_tuned", "ticket")
"""Arms whose networks a row's cost is of, the first that it has."""


def tables(comparison: Comparison, part: Compared) -> list[RenderableType]:
    """Return a network's table, and its verdicts in lines."""
    rows = part.rows(comparison)
    arms = shown_arms(comparison, rows)
    uneven = any(row.pattern is not None for row in rows)
    result = table(
        "method",
        ("of dense", "right"),
        ("params", "right"),
        *((words(arm), "right") for arm in arms),
        *([("spread", "right")] if uneven else []),
        title=f"{comparison.name} · {part.model.name} · test accuracy, {comparison.seeds} seeds",
    )
    for row in rows:
        result.add_row(
            row.contender.label,
            *cost(row, part.flops),
            *(figure(row.figures.get(arm), comparison.seeds) for arm in arms),
            *([spread(row)] if uneven else []),
        )
    lines = [
        Text(
            "mean ± standard deviation (n, where it is not all); verdicts at 5 %, corrected for "
            f"all of them (Holm); as good: closer than {comparison.margin:g}",
            "dim",
        )
    ]
    if uneven:
        lines.append(
            Text(
                "spread: how unevenly stages are pruned, standard deviation over mean; below "
                f"{EVEN:g} uniform should do as well, above {UNEVEN:g} search may beat it",
                "dim",
            )
        )
    for row in rows:
        if row.answers:
            said = "; ".join(f"{against(each)}: {each.sentence}" for each in row.answers)
            lines.append(Text(f"{row.contender.label} at {row.contender.flops_ratio:.0%}: {said}"))
        lines += [
            Text(f"{row.contender.label}, {words(arm)}: {reason}", "dim")
            for arm, each in row.figures.items()
            for reason in each.reasons
        ]
    for each in part.pooled(comparison):
        low, high = interval(each.verdict)
        lines.append(
            Text(
                f"{each.rows} {each.kind} rows together, {against(each)}: {each.sentence} "
                f"({each.verdict.pairs.mean:+.4f}, {low} to {high})"
            )
        )
    return [result, *lines]


def shown_arms(comparison: Comparison, rows: Sequence[Row]) -> list[Arm]:
    """Return the arms that a table has columns for, in the comparison's order."""
    return [arm for arm in comparison.arms if any(arm in row.figures for row in rows)]


def figure(found: Figure | None, seeds: int) -> str:
    """Word a mean and a standard deviation over seeds, and of how many if not all.

    ``–`` where there are none.
    """
    if found is None or found.mean is None:
        return "–"
    deviation = "" if found.deviation is None else f" ± {found.deviation:.4f}"
    return f"{units.accuracy(found.mean)}{deviation}{'' if found.n == seeds else f' ({found.n})'}"


def cost(row: Row, dense_flops: int) -> tuple[str, str]:
    """Word a row's share of the dense network's FLOPs, and its parameters."""
    own = next((row.figures[arm] for arm in OWN if arm in row.figures), None)
    if own is None or own.flops is None or own.params is None:
        return "–", "–"
    return units.share(own.flops / dense_flops), units.count(round(own.params))


def spread(row: Row) -> str:
    """Word how unevenly a row's stages are pruned; ``–`` where that is not known."""
    return "–" if row.pattern is None else f"{row.pattern.spread:.2f}"


def interval(verdict: Verdict) -> tuple[str, str]:
    """Word what a true mean lies between with 95 % confidence; ``–`` below two pairs."""
    found = verdict.pairs.interval()
    return ("–", "–") if found is None else (f"{found[0]:+.4f}", f"{found[1]:+.4f}")


def against(answer: Answer | Pooled) -> str:
    """Word a question."""
    return f"{words(answer.second)} against {words(answer.first)}"
