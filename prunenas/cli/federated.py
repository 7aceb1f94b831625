"""Federated comparisons as tables, Markdown, JSON and pictures."""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from prunenas.cli import units
from prunenas.cli.tables import table
from prunenas.evidence.federated import Federated, FederatedRow, Spread
from prunenas.pictures import FederatedCurve, clients_picture, federated_picture

_COLUMNS = (
    ("density", "density"),
    ("test accuracy", "test"),
    ("a round", "round_seconds"),
    ("all rounds", "seconds"),
    ("to conventional's accuracy", "reached"),
    ("of its time", "ratio"),
    ("down", "sent"),
    ("up", "received"),
)

NOTE = (
    "mean ± standard deviation over {seeds} (n, where it is not all); times by the time model; "
    "down and up: payload of one client in one of the last rounds; conventional's accuracy: the "
    "mean of its last three validations, for each seed"
)


def federated_table(done: Federated) -> list[RenderableType]:
    """Return a federated comparison's table, and what stands below it."""
    shown = _columns(done)
    result = table(
        "strategy",
        *((head, "right") for head, _ in shown),
        title=f"{done.comparison.name} · {done.comparison.model.name} · "
        f"{units.plural(done.comparison.seeds, 'seed')}",
    )
    rows = done.rows()
    for row in rows:
        result.add_row(row.title, *_figures(done, row, shown))
    lines = [Text(_note(done), "dim"), Text(clients_line(done), "dim")]
    lines += [Text(f"{row.title}, {why}", "dim") for row in rows for why in row.reasons]
    return [result, *lines]


def federated_markdown(done: Federated) -> str:
    """Return the table as GitHub Markdown; equal values give equal text."""
    shown = _columns(done)
    heads = ["strategy", *(head for head, _ in shown)]
    lines = [
        f"### {done.comparison.name}",
        "",
        f"{clients_line(done)}. {_note(done)[:1].upper()}{_note(done)[1:]}.",
        "",
        f"| {' | '.join(heads)} |",
        f"| --- |{' --: |' * len(shown)}",
    ]
    rows = done.rows()
    lines += [f"| {' | '.join([row.title, *_figures(done, row, shown)])} |" for row in rows]
    reasons = [f"- {row.title}, {why}" for row in rows for why in row.reasons]
    return "\n".join([*lines, "", *reasons, *([""] if reasons else [])])


def federated_json(done: Federated) -> dict[str, Any]:
    """Return everything as JSON values."""
    return {
        "name": done.comparison.name,
        "model": done.comparison.model.name,
        "weights": done.weights,
        "seeds": list(done.seeds),
        "partition": {
            "images": done.statistics.images.tolist(),
            "classes": done.statistics.classes.tolist(),
            "distance": done.statistics.distance,
        },
        "rows": [row.to_dict() for row in done.rows()],
        "trainings": [
            {
                "strategy": title,
                "seed": seed,
                "target": done.target(seed),
                "test": result.test,
                "reason": result.reason,
                "mask_digest": None if result.run is None else result.run.mask_digest,
                "points": [vars(point) for point in result.points],
            }
            for (title, seed), result in done.results.items()
        ],
    }


def curves(done: Federated) -> bytes:
    """Return the picture of all trainings, PNG."""
    targets = [target for seed in done.seeds if (target := done.target(seed)) is not None]
    return federated_picture(
        {
            entry.title: [
                FederatedCurve(
                    [point.round for point in result.points],
                    [point.seconds for point in result.points],
                    [point.accuracy for point in result.points],
                    [point.density for point in result.points],
                )
                for result in done.of(entry.title).values()
            ]
            for entry in done.comparison.strategies
            if done.of(entry.title)
        },
        target=fmean(targets) if targets else None,
        title=f"{done.comparison.name}: {units.plural(done.comparison.seeds, 'seed')}",
    )


def clients(done: Federated) -> bytes:
    """Return the picture of who has which images, PNG."""
    return clients_picture(done.statistics.counts.tolist(), title=clients_line(done))


def clients_line(done: Federated) -> str:
    """Word who has which images."""
    images = done.statistics.images.tolist()
    classes = done.statistics.classes.tolist()
    how = done.comparison.federation.partition
    kind = {
        "dirichlet": f"Dirichlet({how.alpha or 0.5:g})",
        "shards": f"{how.per_client or 2} shards each",
        "iid": "IID",
        "users": "by user",
    }[how.kind]
    return (
        f"{units.plural(len(images), 'client')}, {kind}: {_range(images, 'image')} and "
        f"{_range(classes, 'class')} each, label distance {done.statistics.distance:.2f}"
    )


def _columns(done: Federated) -> list[tuple[str, str]]:
    """The columns that say something: without conventional training two don't."""
    needless = () if done.control is not None else ("reached", "ratio")
    return [(head, name) for head, name in _COLUMNS if name not in needless]


def _figures(done: Federated, row: FederatedRow, shown: Sequence[tuple[str, str]]) -> list[str]:
    words: dict[str, Callable[[float], str]] = {
        "density": units.share,
        "test": units.accuracy,
        "round_seconds": _seconds,
        "seconds": _seconds,
        "reached": _seconds,
        "ratio": lambda value: f"{value:.2f}",
        "sent": lambda value: units.size(round(value)),
        "received": lambda value: units.size(round(value)),
    }
    return [_spread(getattr(row, name), words[name], done.comparison.seeds) for _, name in shown]


def _spread(found: Spread | None, word: Callable[[float], str], seeds: int) -> str:
    if found is None:
        return "–"
    deviation = "" if not found.deviation else f" ± {word(found.deviation)}"
    return f"{word(found.mean)}{deviation}{'' if found.n == seeds else f' ({found.n})'}"


def _seconds(value: float) -> str:
    """Seconds with three significant digits or more."""
    return f"{value:,.0f} s" if value >= 100 else f"{value:.3g} s"


def _range(values: Sequence[int], noun: str) -> str:
    """Word the smallest and the largest of some numbers.

    >>> _range([3, 7], "image"), _range([2, 2], "class")
    ('3 to 7 images', '2 classes')
    """
    low, high = min(values), max(values)
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    number = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"{number} {noun if high == 1 else plural}"


def _note(done: Federated) -> str:
    return NOTE.format(seeds=units.plural(done.comparison.seeds, "seed"))
