"""``prunenas report``: a study as one page."""

from pathlib import Path
from typing import Annotated

import typer

from prunenas.cli.options import Storage, StudyName, Tracking
from prunenas.places import REPORT, STUDIES


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
    pictures: Annotated[
        Path | None,
        typer.Option(
            "--pictures",
            metavar="FOLDER",
            help="Its charts too, each as PNG and SVG, into this folder.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--track", help="Keep them in the study's run in MLflow too.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite files that are there.")
    ] = False,
    storage: Storage = STUDIES,
    tracking: Tracking = None,
) -> None:
    """Write a study as one HTML page that needs nothing else.

    The front with every architecture's widths, learning curves, what mattered, methods side by
    side, latency where it was measured, progress over compute, and how to make each point again.
    It asks nothing of any server, prints, and can be used by keyboard. `prunenas run` keeps it in
    the study's run in MLflow, as report.html.

    A baseline's accuracy is of the validation split, or of the test split where only that is known.
    Another network than the study's is drawn at its FLOPs as a share of the study's dense network.

    \b
    prunenas report quickstart
    prunenas report quickstart --out reports/quickstart.html --replace
    prunenas report quickstart --with earlier --with exports/guided
    prunenas report quickstart --pictures reports/pictures --track
    """
    from prunenas import report as reports
    from prunenas.cli import console, units
    from prunenas.search import open_study, track_study

    path = out or Path(f"{study}.html")
    view = open_study(storage, study)
    others = reports.baselines(view, beside or (), storage=storage)
    drawn = reports.pictures(view, others) if pictures else {}
    files: dict[Path, bytes] = {path: reports.page(view, others).encode()}
    if pictures:
        files |= {pictures / name: content for name, content in drawn.items()}
    for each in files:
        if each.exists() and not replace:
            raise typer.BadParameter(f"{each} is there already; --replace overwrites it")
    for each, content in files.items():
        each.parent.mkdir(parents=True, exist_ok=True)
        each.write_bytes(content)
    console.note(f"{path}: {units.plural(len(view.records), 'trial')}")
    if pictures:
        console.note(f"{pictures}: {units.plural(len(drawn), 'picture')}")
    if keep:
        kept = {REPORT: files[path]} | {f"pictures/{name}": each for name, each in drawn.items()}
        track_study(storage, study, tracking=tracking, files=kept)
        console.note(f"{study}: {units.plural(len(kept), 'file')} kept in MLflow")
