"""Tables of a page, and how numbers are written in them."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from prunenas.trial import Record


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    sortable: bool = False,
    classes: Sequence[str] | None = None,
) -> str:
    """Return a table, which scrolls where it is too wide.

    Args:
        heads: Of the columns.
        rows: Cells; those that begin with ``#`` are numbers: the value, then what is shown.
        sortable: Whether headings are buttons that sort it.
        classes: Of each row.
    """
    lines = list(rows)
    numeric = [
        bool(lines) and all(line[i].startswith("#") or not line[i] for line in lines)
        for i in range(len(heads))
    ]
    top = "".join(
        f'<th scope="col"{" class=number" if number else ""}>'
        + (f"<button>{escape(head)}</button>" if sortable else escape(head))
        + "</th>"
        for head, number in zip(heads, numeric, strict=True)
    )
    body = []
    for index, line in enumerate(lines):
        kind = f' class="{classes[index]}"' if classes and classes[index] else ""
        body.append(f"<tr{kind}>{''.join(map(_cell, line))}</tr>")
    kind = ' class="sortable"' if sortable else ""
    whole = f"<table{kind}><thead><tr>{top}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="scroll">{whole}</div>'


def _cell(told: str) -> str:
    if told.startswith("#"):
        value, _, shown = told[1:].partition("#")
        return f'<td class="number" data-value="{escape(value)}">{escape(shown)}</td>'
    return f"<td>{escape(told)}</td>"


def number(value: float | None, digits: int = 0) -> str:
    """Return a cell with a number; empty where there is none."""
    if value is None:
        return ""
    return f"#{value}#{value:,.{digits}f}" if digits else f"#{value}#{value:,}"


def share(value: float | None) -> str:
    """Return a cell with a share in [0, 1] as %; empty where there is none."""
    return "" if value is None else f"#{value}#{100 * value:.2f}"


def percent(value: float | None, digits: int = 2) -> str:
    """Return a share in [0, 1] as text."""
    return "not known" if value is None else f"{100 * value:.{digits}f} %"


def plain(value: Any) -> str:
    """Return a parameter's value as text."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def parameters(record: Record) -> dict[str, str]:
    """Return what was proposed for a trial, without what other columns say, as text."""
    own = f"{record.method}/"
    return {
        name.removeprefix(own): plain(value)
        for name, value in record.parameters.items()
        if name not in ("method", "flops_ratio")
    }
