"""A comparison as one page: the papers' table, a chart for each network, and the verdicts."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from prunenas.evidence.comparison import Compared
from prunenas.evidence.patterns import EVEN, UNEVEN
from prunenas.evidence.pooled import Pooled
from prunenas.evidence.statistics import ALPHA
from prunenas.evidence.table import Answer, Figure, Row, words
from prunenas.report import document as frame
from prunenas.report.arms import Line, accuracy_of, chart, lines, look
from prunenas.report.looks import Look
from prunenas.report.tables import number, percent, share, table
from prunenas.spec import Arm, Comparison
from prunenas.version import versions

_OWN: tuple[Arm, ...] = ("scratch_b", "scratch_e", "fine_tuned", "ticket")
"""Arms that have a method's own architecture, for the figures of its row."""


def comparison_page(comparison: Comparison, parts: Sequence[Compared], *, command: str = "") -> str:
    """Return a comparison as one HTML page that asks nothing of any server.

    Args:
        comparison: What was compared.
        parts: What came of it, as ``prunenas.evidence.comparison.compare`` returns it; cells that
            are not done yet are left out.
        command: The line that worked it out; where omitted, that of the comparison's file.
    """
    sections, points = dict[str, str](), dict[str, dict[str, Any]]()
    for index, part in enumerate(parts):
        rows = part.rows(comparison)
        shown = lines(part, rows, key=str(index))
        points |= _points(part, shown)
        sections[_name(part, parts)] = _network(comparison, part, rows, shown, index)
    sections["Reproduce"] = _reproduce(comparison, command)
    budgets = ", ".join(f"{100 * budget:g} %" for budget in comparison.budgets)
    lead = (
        f"What methods find against what nobody had to find, on {comparison.data.name}, at "
        f"{budgets} of the FLOPs: test accuracy, read once for each network, over "
        f"{comparison.seeds} seeds."
    )
    return frame.document(comparison.name, lead, _figures(comparison, parts), sections, points)


def _figures(comparison: Comparison, parts: Sequence[Compared]) -> list[frame.Figure]:
    done, total = sum(len(part.results) for part in parts), sum(part.total for part in parts)
    first, last = comparison.seed, comparison.seed + comparison.seeds - 1
    found = [frame.Figure("seeds", str(comparison.seeds), f"{first} to {last}")]
    for part in parts:
        dense = _dense(part.rows(comparison))
        known = "–" if dense is None or dense.mean is None else percent(dense.mean)
        more = f"{part.flops:,} FLOPs, {part.params:,} parameters"
        found.append(frame.Figure(f"dense {_name(part, parts)}", known, more))
    return [*found, frame.Figure("networks", f"{done:,} of {total:,}", "trained and judged")]


def _network(
    comparison: Comparison,
    part: Compared,
    rows: Sequence[Row],
    shown: Sequence[Line],
    index: int,
) -> str:
    dense = _dense(rows)
    drawn = chart(part, dense, shown)
    if not drawn:
        return f"<p>No network is done yet.</p>{_reasons(rows)}"
    arms = [arm for arm in comparison.arms if any(arm in line.figures for line in shown)]
    looks: dict[str, Look] = {words(arm): look(arm) for arm in arms}
    more = (
        [
            '<svg viewBox="0 0 14 14" aria-hidden="true"><rect width="14" height="14" '
            'class="band"/></svg>dense network'
        ]
        if dense is not None and dense.n
        else []
    )
    return (
        frame.beside(drawn, frame.legend(looks, *more), details=f"details-{index}")
        + '<p class="hint">Point at a mark, or reach the chart with Tab and move with the arrow '
        "keys: its seeds are shown beside.</p>"
        "<p>Marks are means over seeds, bars and the band one standard deviation to each side, "
        "dots single seeds.</p>"
        f"<h3>Accuracies</h3>{_table(comparison, part, rows)}"
        f"{_together(comparison, part)}"
        f"<h3>Verdicts</h3>{_verdicts(comparison, rows)}{_reasons(rows)}"
    )


def _table(comparison: Comparison, part: Compared, rows: Sequence[Row]) -> str:
    arms = [arm for arm in comparison.arms if any(arm in row.figures for row in rows)]
    cells = []
    for row in rows:
        own = next((row.figures[arm] for arm in _OWN if _known(row, arm)), None)
        cells.append(
            (
                row.contender.label,
                share(None if own is None or own.flops is None else own.flops / part.flops),
                number(None if own is None or own.flops is None else round(own.flops)),
                number(None if own is None or own.params is None else round(own.params)),
                *(_cell(row.figures.get(arm), comparison.seeds) for arm in arms),
                number(None if row.pattern is None else row.pattern.spread, 2),
            )
        )
    heads = ("method", "FLOPs, %", "FLOPs", "parameters", *map(words, arms), "spread")
    return (
        "<p>Test accuracy in %, mean ± standard deviation over "
        f"{comparison.seeds} seeds; (n) where it is of fewer. FLOPs and parameters are means of "
        "the method's own architectures; controls meet the same budget. Spread: how unevenly "
        f"stages are pruned, standard deviation over mean; below {EVEN:g} uniform widths should do "
        f"as well, above {UNEVEN:g} search may beat them.</p>"
        f"{table(heads, cells)}"
    )


def _known(row: Row, arm: Arm) -> bool:
    figure = row.figures.get(arm)
    return figure is not None and bool(figure.n)


def _cell(figure: Figure | None, seeds: int) -> str:
    if figure is None or figure.mean is None:
        return ""
    spread = "" if figure.deviation is None else f" ± {100 * figure.deviation:.2f}"
    fewer = "" if figure.n == seeds else f" ({figure.n})"
    return f"#{figure.mean}#{100 * figure.mean:.2f}{spread}{fewer}"


def _verdicts(comparison: Comparison, rows: Sequence[Row]) -> str:
    cells = [
        (row.contender.label, f"{100 * row.contender.flops_ratio:g} %", *_judged(each))
        for row in rows
        for each in row.answers
    ]
    if not cells:
        return "<p>No two ways of training have a seed in common yet.</p>"
    heads = ("method", "FLOPs", *_JUDGED)
    return (
        "<p>Differences in points of accuracy, seed by seed, with the interval that the true mean "
        "lies in with 95 % confidence and Cohen's d of the pairs as effect. Student's t tests: "
        "whether there is a difference, and whether it is smaller than "
        f"{100 * comparison.margin:g} points (as good: two one-sided tests). Verdicts at "
        f"{100 * ALPHA:g} %; p values are corrected for all {len(cells)} questions of the table "
        "(Holm), each kind for itself. No difference seen is not the same as none.</p>"
        f"{table(heads, cells)}"
    )


def _together(comparison: Comparison, part: Compared) -> str:
    """What all rows of a kind say, which is asked less often and so told apart sooner."""
    cells = [
        (each.kind, number(each.rows), *_judged(each), _p(each.p_not_worse))
        for each in part.pooled(comparison)
    ]
    if not cells:
        return ""
    return (
        "<h3>Methods together</h3><p>For each seed, differences averaged over the rows of a kind; "
        "tested over seeds, and corrected for these questions alone. Not worse: by "
        f"{100 * comparison.margin:g} points or more.</p>"
        + table(("methods", "rows", *_JUDGED, "p not worse"), cells)
    )


_JUDGED = ("question", "verdict", "difference", "95 %", "effect", "p different", "p as good")


def _judged(each: Answer | Pooled) -> tuple[str, ...]:
    return (
        f"{words(each.second)} against {words(each.first)}",
        each.sentence,
        f"#{each.verdict.pairs.mean}#{100 * each.verdict.pairs.mean:+.2f}",
        _interval(each),
        _effect(each.verdict.pairs.effect),
        _p(each.verdict.p_different),
        _p(each.verdict.p_as_good),
    )


def _interval(answer: Answer | Pooled) -> str:
    found = answer.verdict.pairs.interval()
    return "" if found is None else f"#{found[0]}#{100 * found[0]:+.2f} to {100 * found[1]:+.2f}"


def _effect(value: float | None) -> str:
    return "" if value is None else f"#{value}#{value:+.2f}"


def _p(value: float) -> str:
    return f"#{value}#" + ("< 0.001" if value < 0.001 else f"{value:.3f}")


def _reasons(rows: Sequence[Row]) -> str:
    found = {
        f"{row.contender.label}, {words(arm)}, {100 * row.contender.flops_ratio:g} %: {reason}"
        for row in rows
        for arm, figure in row.figures.items()
        for reason in figure.reasons
    }
    if not found:
        return ""
    items = "".join(f"<li>{escape(each)}</li>" for each in sorted(found))
    return f"<h3>Without a figure</h3><ul>{items}</ul>"


def _reproduce(comparison: Comparison, command: str) -> str:
    listed = ", ".join(f"{name} {number}" for name, number in versions().items())
    plain = comparison.model_dump(mode="json", by_alias=True, exclude_none=True)
    text = comparison.text or json.dumps(plain, indent=2, ensure_ascii=False)
    line = command or f"prunenas compare {comparison.name}.yaml"
    first, last = comparison.seed, comparison.seed + comparison.seeds - 1
    return (
        "<p>What is done is kept: where it was worked out, this line shows it again and trains "
        f"only what is missing. Elsewhere it trains everything, with the same seeds, {first} to "
        f"{last}.</p><pre>{escape(line)}</pre><p>The comparison:</p><pre>{escape(text)}</pre>"
        f"<p>Versions of this page's writer: {escape(listed)}.</p>"
    )


def _points(part: Compared, shown: Sequence[Line]) -> dict[str, dict[str, Any]]:
    return {
        f"{line.key}-{arm}": {
            "title": f"{line.label if line.row else 'control'} · {words(arm)}",
            "facts": _facts(part, line, arm, figure),
            "kept": [],
            "command": "",
        }
        for line in shown
        for arm, figure in line.figures.items()
    }


def _facts(part: Compared, line: Line, arm: Arm, figure: Figure) -> list[tuple[str, str]]:
    found = [
        ("budget", f"{100 * line.budget:g} % of the FLOPs"),
        ("test accuracy", accuracy_of(figure)),
    ]
    if figure.flops is not None:
        found.append(("FLOPs", f"{figure.flops:,.0f} ({percent(figure.flops / part.flops, 1)})"))
    if figure.params is not None:
        found.append(("parameters", f"{figure.params:,.0f}"))
    found.append(("architectures", f"{figure.architectures} different"))
    found += [(f"seed {seed}", percent(each)) for seed, each in figure.accuracies.items()]
    answers: Mapping[str, str] = {
        f"against {words(each.first)}": each.sentence
        for each in (line.row.answers if line.row else ())
        if each.second == arm
    }
    return [*found, *answers.items()]


def _dense(rows: Sequence[Row]) -> Figure | None:
    return rows[0].figures.get("dense") if rows else None


def _name(part: Compared, parts: Sequence[Compared]) -> str:
    same = [each for each in parts if each.model.name == part.model.name]
    if len(same) == 1:
        return part.model.name
    told = ", ".join(f"{name} {value}" for name, value in part.model.arguments.items())
    return f"{part.model.name} ({told or 'as it is'})"
