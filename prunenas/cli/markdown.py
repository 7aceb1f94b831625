"""Comparisons as GitHub Markdown, for documents that show results."""

from collections.abc import Iterable, Sequence

from prunenas.cli.verdicts import against, cost, figure, interval, shown_arms, spread
from prunenas.evidence.comparison import Compared
from prunenas.evidence.pooled import Pooled
from prunenas.evidence.table import Answer, words
from prunenas.spec import Comparison

_VERDICTS = (
    "row",
    "question",
    "difference (95 % interval)",
    "p different",
    "p as good",
    "effect",
    "verdict",
)


def markdown(comparison: Comparison, parts: Iterable[Compared]) -> str:
    """Return tables and verdicts of all networks; equal values give equal text.

    Args:
        comparison: What was compared.
        parts: What came of it.
    """
    return "\n".join(line for part in parts for line in _network(comparison, part))


def _network(comparison: Comparison, part: Compared) -> list[str]:
    rows = part.rows(comparison)
    arms = shown_arms(comparison, rows)
    uneven = any(row.pattern is not None for row in rows)
    accuracies = [
        [
            row.contender.label,
            *cost(row, part.flops),
            *(figure(row.figures.get(arm), comparison.seeds) for arm in arms),
            *([spread(row)] if uneven else []),
        ]
        for row in rows
    ]
    judged = [
        _verdict(f"{row.contender.label}, {row.contender.flops_ratio:.0%}", answer)
        for row in rows
        for answer in row.answers
    ]
    judged += [
        _verdict(f"{each.rows} {each.kind} together", each) for each in part.pooled(comparison)
    ]
    reasons: dict[str, list[str]] = {}
    for row in rows:
        for arm, each in row.figures.items():
            for reason in each.reasons:
                reasons.setdefault(f"{words(arm)}: {reason}", []).append(row.contender.label)
    heads = ["method", "of dense", "params", *(words(arm) for arm in arms)]
    heads += ["spread"] if uneven else []
    lines = [
        f"### {part.model.name}",
        "",
        f"Test accuracy, mean ± standard deviation over {comparison.seeds} seeds (their number, "
        "where it is not all)"
        + ("; spread: standard deviation of stages' shares over their mean." if uneven else "."),
        "",
        *_table(heads, accuracies, right=len(heads) - 1),
        "",
    ]
    if judged:
        lines += [
            "p values corrected by Holm's procedure, over all rows, and over those of rows "
            f"together; as good: closer than {comparison.margin:g}; effect: mean difference in "
            "standard deviations.",
            "",
            *_table(_VERDICTS, judged, right=0),
            "",
        ]
    lines += [f"- {', '.join(dict.fromkeys(of))}, {why}" for why, of in reasons.items()]
    return [*lines, ""] if reasons else lines


def _verdict(row: str, answer: Answer | Pooled) -> list[str]:
    verdict = answer.verdict
    low, high = interval(verdict)
    effect = verdict.pairs.effect
    return [
        row,
        against(answer),
        f"{verdict.pairs.mean:+.4f} ({low} to {high})",
        f"{verdict.p_different:.3f}",
        f"{verdict.p_as_good:.3f}",
        "–" if effect is None else f"{effect:+.2f}",
        answer.sentence,
    ]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: int) -> list[str]:
    """Lines of a table whose last ``right`` columns are figures."""
    rule = ["---"] * (len(heads) - right) + ["--:"] * right
    return [_line(heads), _line(rule), *map(_line, rows)]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
