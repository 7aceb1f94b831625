"""A federated comparison as one page: the strategies' table, their curves, who had which images."""

import base64
from collections.abc import Sequence
from html import escape

from prunenas.evidence.federated import Federated, FederatedRow, Spread
from prunenas.pictures import clients_picture
from prunenas.report import document as frame
from prunenas.report.tables import table
from prunenas.version import versions

_COLUMNS = (
    ("density, %", "density", 100, 1),
    ("test accuracy, %", "test", 100, 2),
    ("a round, s", "round_seconds", 1, 3),
    ("all rounds, s", "seconds", 1, 0),
    ("to conventional's accuracy, s", "reached", 1, 0),
    ("of its time", "ratio", 1, 2),
    ("down, kB", "sent", 1e-3, 1),
    ("up, kB", "received", 1e-3, 1),
)


def federated_page(done: Federated, *, picture: bytes, command: str = "") -> str:
    """Return a federated comparison as one HTML page that asks nothing of any server.

    Args:
        done: What was compared.
        picture: Its curves, PNG.
        command: The line that worked it out.
    """
    comparison, rows = done.comparison, done.rows()
    clients = clients_picture(done.statistics.counts.tolist())
    sections = {
        "Strategies": _strategies(done, rows),
        "Curves": _image(picture, "Validation accuracy over modelled time; density over rounds"),
        "Clients": _image(clients, "Images of each class that each client has"),
        "Reproduce": f"<pre>{escape(comparison.text)}</pre><pre>{escape(command)}</pre>"
        f"<p>Versions: {escape(', '.join(f'{k} {v}' for k, v in versions().items()))}.</p>",
    }
    lead = (
        f"{comparison.model.name} on {comparison.data.name}, {comparison.federation.clients} "
        f"clients, {comparison.federation.rounds} rounds: which strategy reaches the accuracy of "
        "conventional training in less of the rounds' modelled time?"
    )
    return frame.document(comparison.name, lead, _figures(done), sections, {})


def _figures(done: Federated) -> list[frame.Figure]:
    first, last = done.seeds[0], done.seeds[-1]
    images = done.statistics.images
    return [
        frame.Figure("seeds", str(len(done.seeds)), f"{first} to {last}"),
        frame.Figure("prunable weights", f"{done.weights:,}", done.comparison.model.name),
        frame.Figure(
            "label distance",
            f"{done.statistics.distance:.2f}",
            f"{int(images.min()):,} to {int(images.max()):,} images a client",
        ),
    ]


def _strategies(done: Federated, rows: Sequence[FederatedRow]) -> str:
    cells = [
        [
            row.title,
            *(_cell(getattr(row, name), scale, digits) for _, name, scale, digits in _COLUMNS),
        ]
        for row in rows
    ]
    reasons = "".join(
        f"<li>{escape(row.title)}, {escape(why)}</li>" for row in rows for why in row.reasons
    )
    return (
        table(["strategy", *(head for head, *_ in _COLUMNS)], cells)
        + f"<p>Mean ± standard deviation over {len(done.seeds)} seeds (their number, where it is "
        "not all). Times by the time model; down and up: payload of one client in one of the last "
        "rounds. Conventional's accuracy is the mean of its last three validations, for each "
        f"seed.</p>{f'<ul>{reasons}</ul>' if reasons else ''}"
    )


def _cell(found: Spread | None, scale: float, digits: int) -> str:
    if found is None:
        return ""
    deviation = "" if not found.deviation else f" ± {scale * found.deviation:,.{digits}f}"
    return f"#{found.mean}#{scale * found.mean:,.{digits}f}{deviation} ({found.n})"


def _image(picture: bytes, alternative: str) -> str:
    data = base64.b64encode(picture).decode()
    return (
        f'<img src="data:image/png;base64,{data}" alt="{escape(alternative)}" '
        'style="max-width:100%;height:auto">'
    )
