"""``prunenas report``: a study as one page."""

from pathlib import Path
from typing import Annotated

import typer

from prunenas.cli.options import Storage, StudyName
from prunenas.places import STUDIES


def report(
    study: StudyName,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE.html",
            help="Where to; STUDY.html in the current folder without it.",
            show_default=False,
        ),
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="STUDY|EXPORT",
            help="A baseline on the same data set: another study's front, or a trained export. "
            "Repeatable.",
            show_default=False,
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite the file.")] = False,
    storage: Storage = STUDIES,
) -> None:
    """Write a study as one HTML page that needs nothing else.

    The front with every architecture's widths, learning curves, what mattered, methods side by
    side, progress over compute, and how to make each point again. It asks nothing of any server,
    prints, and can be used by keyboard.

    \b
    prunenas report quickstart
    prunenas report quickstart --out reports/quickstart.html --replace
    prunenas report quickstart --with earlier --with exports/guided
    """
    from prunenas.cli import console
    from prunenas.report import baselines, page
    from prunenas.search import open_study

    path = out or Path(f"{study}.html")
    if path.exists() and not replace:
        raise typer.BadParameter(f"{path} is there already; --replace overwrites it")
    view = open_study(storage, study)
    others = baselines(view, beside or (), storage=storage)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(view, others), encoding="utf-8")
    console.note(f"{path}: {len(view.records)} trials")
