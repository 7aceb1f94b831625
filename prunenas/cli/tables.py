"""Fronts, studies and lists as tables."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.bar import Bar
from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from prunenas.architecture import density_of
from prunenas.cli import units
from prunenas.search.view import StudyView
from prunenas.spec.objective import costs_of
from prunenas.trial import Record

BAR_WIDTH = 10  # columns

STATE_STYLES = {
    "complete": "green",
    "running": "cyan",
    "paused": "cyan",
    "stopped": "yellow",
    "infeasible": "yellow",
    "failed": "red",
}


def table(*columns: str | tuple[str, str], title: str | None = None) -> Table:
    """Return an empty table; a column is its name, or (name, ``right``) for figures."""
    empty = Table(
        box=SIMPLE_HEAD,
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="dim",
        pad_edge=False,
        show_edge=False,
    )
    for column in columns:
        name, justify = (column, "left") if isinstance(column, str) else column
        empty.add_column(
            name,
            justify="right" if justify == "right" else "left",
            no_wrap=justify == "right",
            overflow="fold",
        )
    return empty


def bar(ratio: float, style: str = "cyan") -> Bar:
    """Draw a share in [0, 1]."""
    return Bar(1.0, 0.0, min(1.0, max(0.0, ratio)), width=BAR_WIDTH, color=style)


def objective(terms: Mapping[str, Any]) -> str:
    """Word a study's objective as it stands in the YAML.

    >>> objective({"maximize": "accuracy", "minimize": "flops"})
    'accuracy ↑ FLOPs ↓'
    >>> objective({"maximize": "accuracy", "flops_ratio": 0.5})
    'accuracy ↑ at 50.0 % of dense FLOPs'
    >>> objective({"maximize": "accuracy", "minimize": "flops", "flops_ratio": [0.1, 0.5]})
    'accuracy ↑ FLOPs ↓ between 10.0 % and 50.0 % of dense FLOPs'
    >>> objective({"maximize": "accuracy", "minimize": ["flops", "latency_ms"]})
    'accuracy ↑ FLOPs ↓ latency ↓'
    >>> objective({"maximize": "accuracy", "minimize": "round_seconds"})
    'accuracy ↑ round time ↓'
    >>> objective({"maximize": "accuracy", "flops_ratio": 0.5, "latency_ms": 2.5})
    'accuracy ↑ at 50.0 % of dense FLOPs within 2.50 ms'
    """
    words = [f"{terms['maximize']} ↑"]
    words += [f"{COSTS[cost]} ↓" for cost in costs_of(terms.get("minimize"))]
    if isinstance(terms.get("flops_ratio"), list | tuple):
        low, high = map(units.share, terms["flops_ratio"])
        words.append(f"between {low} and {high} of dense FLOPs")
    elif terms.get("flops_ratio") is not None:
        words.append(f"at {units.share(terms['flops_ratio'])} of dense FLOPs")
    if terms.get("latency_ms") is not None:
        words.append(f"within {units.milliseconds(terms['latency_ms'])}")
    return " ".join(words)


COSTS = {"flops": "FLOPs", "latency_ms": "latency", "round_seconds": "round time"}
"""What is minimized, in words."""


def states(counts: Mapping[str, int]) -> Text:
    """Word the number of trials in each state, the good ones first."""
    known = [state for state in STATE_STYLES if counts.get(state)]
    others = sorted(state for state in counts if state not in STATE_STYLES and counts[state])
    parts: list[Text | tuple[str, str]] = []
    for state in known + others:
        parts += [(" · ", "dim")] if parts else []
        parts.append(Text(f"{counts[state]} {state}", STATE_STYLES.get(state, "dim")))
    return Text.assemble(*parts) if parts else Text("no trials yet", "dim")


def front(
    records: Sequence[Record], *, limit: int | None = None, title: str | None = None
) -> Table:
    """Return the front, most accurate first, in at most ``limit`` rows."""
    rows = sorted(records, key=lambda record: (-(record.accuracy or 0.0), record.flops or 0))
    shown = rows if limit is None else rows[:limit]
    more = measured(records)
    result = table(
        ("accuracy", "right"),
        ("FLOPs", "right"),
        ("of dense", "right"),
        "",
        ("params", "right"),
        *((column.name, "right") for column in more),
        "method",
        ("trial", "right"),
        title=title,
    )
    for place, record in enumerate(shown):
        result.add_row(
            Text(units.accuracy(record.accuracy), "bold" if place == 0 else ""),
            units.count(record.flops),
            units.share(record.flops_ratio),
            bar(record.flops_ratio or 0.0),
            units.count(record.params),
            *(column.of(record) for column in more),
            record.method,
            str(record.number),
        )
    if hidden := len(rows) - len(shown):
        result.caption = f"and {hidden} smaller"
        result.caption_justify = "left"
    return result


@dataclass(frozen=True)
class Column:
    """A column that a table of trials has where one of them has such a figure.

    Attributes:
        name: Its head.
        has: Whether a trial has the figure.
        of: Words a trial's; ``–`` where it has none.
        dense: Words the dense network's.
    """

    name: str
    has: Callable[[Record], bool]
    of: Callable[[Record], str]
    dense: Callable[[StudyView], str]


_COLUMNS = (
    Column(
        "density",
        lambda record: bool((record.architecture or {}).get("masks")),
        lambda record: units.share(density_of(record.architecture)),
        lambda view: units.share(1.0),
    ),
    Column(
        "latency",
        lambda record: record.latency is not None,
        lambda record: units.milliseconds(record.latency_ms),
        lambda view: units.milliseconds(view.dense_latency_ms),
    ),
    Column(
        "round",
        lambda record: record.round_seconds is not None,
        lambda record: units.seconds(record.round_seconds),
        lambda view: units.seconds(view.dense_round_seconds),
    ),
)


def measured(records: Iterable[Record]) -> list[Column]:
    """Return the columns that a table of these trials has beside those of all tables."""
    shown = list(records)
    return [column for column in _COLUMNS if any(map(column.has, shown))]


def dense_row(view: StudyView) -> tuple[RenderableType, ...]:
    """Return the dense network as a row of :func:`front`, to compare with."""
    cells = (
        units.accuracy(view.dense_accuracy),
        units.count(view.dense_flops),
        units.share(1.0),
    )
    return (
        *(Text(cell, "dim") for cell in cells),
        bar(1.0, "bright_black"),
        Text(units.count(view.dense_params), "dim"),
        *(Text(column.dense(view), "dim") for column in measured(view.front)),
        Text("dense network", "dim"),
        Text("–", "dim"),
    )


def studies(views: Iterable[StudyView]) -> Table:
    """Return one row for each study."""
    result = table("study", "objective", ("trials", "right"), "", ("best", "right"), "states")
    for view in views:
        finished = len(view.records)
        best = max((r.accuracy for r in view.front if r.accuracy is not None), default=None)
        result.add_row(
            Text(view.name, "bold"),
            objective(view.objective),
            f"{finished}/{view.trials_total}",
            bar(finished / view.trials_total if view.trials_total else 0.0),
            units.accuracy(best),
            states(view.counts),
        )
    return result
