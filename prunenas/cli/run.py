"""``prunenas run``: a study, watched while it runs."""

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunenas.cli.options import Device, Storage, Tracking
from prunenas.places import CACHE, REPORT, STUDIES, address

if TYPE_CHECKING:
    from prunenas.cli.lines import Lines
    from prunenas.cli.live import Screen
    from prunenas.search import StudyView
    from prunenas.spec import Study


class Interrupted(Exception):
    """Ctrl-C ended a command that can go on later; ``str(error)`` says how."""


def run(
    study: Annotated[
        Path, typer.Argument(metavar="STUDY.yaml", help="The study's file.", show_default=False)
    ],
    storage: Storage = STUDIES,
    tracking: Tracking = None,
    device: Device = "auto",
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            min=1,
            metavar="N",
            help="How many processes train at a time; they share the CPU, or the GPUs.",
        ),
    ] = 1,
    per_gpu: Annotated[
        int,
        typer.Option("--per-gpu", min=1, metavar="N", help="How many workers may share a GPU."),
    ] = 1,
    deterministic: Annotated[
        bool | None,
        typer.Option(
            "--deterministic/--no-deterministic",
            help="Whether any number of workers gives the same trials; a study stays as it began.",
            show_default=False,
        ),
    ] = None,
    cache: Annotated[
        str,
        typer.Option(
            "--cache",
            metavar="FOLDER",
            envvar="PRUNENAS_CACHE",
            help="Where studies share trainings; off does every training anew.",
        ),
    ] = str(CACHE),
) -> None:
    """Run a study, or go on with it where it was left.

    A study that asks for repeats trains its best architectures again with fresh seeds, once all
    trials are done, and ranks them by the mean.

    A study that was interrupted, by Ctrl-C or by anything else, keeps its finished trials: the same
    line goes on with it. A study that is finished is shown, not run again. In a terminal the front
    is drawn while it grows; in a pipe, or where CI is set, each event is a line.

    What was trained once, by this study or by any other, is read from the cache: `prunenas cache`
    shows it.

    \b
    prunenas run studies/quickstart.yaml
    prunenas run studies/quickstart.yaml --storage sqlite:///elsewhere.db --device cpu
    prunenas run studies/quickstart.yaml --workers 2 --deterministic
    """
    from prunenas.cli import console, repeats, tables
    from prunenas.spec import load_study

    spec = load_study(study)
    watcher = _watcher(spec, storage)
    warned: list[str] = []

    def warn(text: str) -> None:
        warned.append(text)
        watcher.warn(text)

    try:
        with watcher:
            # Within the live view, because these imports take seconds.
            from prunenas.search import Labour, run_study

            view = run_study(
                spec,
                storage=storage,
                tracking=tracking,
                device=device,
                labour=Labour(workers, per_gpu, deterministic),
                cache=cache,
                warn=warn,
                watch=watcher.watch,
            )
    except KeyboardInterrupt:
        again = ["prunenas", "run", str(study)]
        again += ["--storage", address(storage)] if storage != STUDIES else []
        again += ["--cache", cache] if cache != str(CACHE) else []
        again += ["--workers", str(workers)] if workers > 1 else []
        again += ["--per-gpu", str(per_gpu)] if per_gpu > 1 else []
        raise Interrupted(f"finished trials are kept, go on with `{shlex.join(again)}`") from None
    if not any(text.startswith("tracking:") for text in warned):  # else MLflow is out of reach
        _keep_report(view, tracking, watcher.warn)
    if view.ranking:
        console.show(repeats.ranking(view), *repeats.lines(view))
    elif not _interactive():
        console.show(tables.front(view.front))
    if view.front:
        where = f" --storage {shlex.quote(address(storage))}" if storage != STUDIES else ""
        console.note(f"export one: prunenas export {shlex.quote(view.name)} exports{where}")


def _keep_report(view: "StudyView", tracking: str | None, warn: Callable[[str], None]) -> None:
    """Give the study's run in MLflow its report; trouble is told in a line, and ends nothing."""
    from prunenas.errors import TrackingError
    from prunenas.report import page
    from prunenas.search import track_study

    try:
        track_study(view.storage, view.name, tracking=tracking, files={REPORT: page(view)})
    except TrackingError as error:
        warn(f"tracking: {error}; `prunenas track {view.name}` writes the report later")


def _watcher(spec: "Study", storage: str) -> "Screen | Lines":
    from prunenas.cli import tables
    from prunenas.cli.lines import Lines
    from prunenas.cli.live import Screen
    from prunenas.cli.progress import Progress

    progress = Progress(spec.name)
    if not _interactive():
        return Lines(progress)
    terms = spec.objective.model_dump(mode="json", exclude_none=True)
    return Screen(progress, tables.objective(terms), address(storage))


def _interactive() -> bool:
    return sys.stdout.isatty() and not os.environ.get("CI")
