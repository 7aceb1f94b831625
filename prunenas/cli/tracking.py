"""``prunenas ui`` and ``prunenas track``: MLflow's server, and what it has missed."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from prunenas.cli.options import Storage, StudyName, Tracking
from prunenas.places import REPORT, STUDIES, TRACKING_CONFIG


def ui(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help=f"Where tracking goes and how the server starts; {TRACKING_CONFIG} without it.",
            show_default=False,
        ),
    ] = None,
    tracking: Tracking = None,
) -> None:
    """Start MLflow's server over the embedded store.

    It runs until Ctrl-C. Host and port are those of mlflow.yml, 127.0.0.1:5000 without it. The
    server has no login: it is for this machine unless mlflow.yml says otherwise.

    \b
    prunenas ui
    prunenas ui --tracking sqlite:///elsewhere.db
    """
    from prunenas.cli import console
    from prunenas.tracking import read_config, server_command, server_environment

    settings = read_config(tracking, config)
    command = server_command(settings)
    console.note(
        f"MLflow on http://{settings.host}:{settings.port} over {settings.uri}, Ctrl-C ends it"
    )
    # A process group of its own: Ctrl-C reaches this process alone, which ends the server quietly.
    server = subprocess.Popen(
        command, env=server_environment(), stdin=subprocess.DEVNULL, process_group=0
    )
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        code = server.wait()
    except KeyboardInterrupt:
        return
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()
    if code:
        console.note(f"error: MLflow's server ended with exit code {code}")
        raise typer.Exit(code if code > 0 else 1)


def _leave(number: int, frame: object) -> None:
    del frame
    sys.exit(128 + number)


def track(study: StudyName, storage: Storage = STUDIES, tracking: Tracking = None) -> None:
    """Write to MLflow what it has missed of a study.

    Such as its report, and trials that ended while the server was down. Everything MLflow shows can
    be rebuilt from the study's storage; what is there already is left.

    \b
    prunenas track quickstart
    prunenas track quickstart --tracking http://127.0.0.1:5000
    """
    from prunenas.cli import console, units
    from prunenas.report import page
    from prunenas.search import open_study, track_study

    files = {REPORT: page(open_study(storage, study))}
    written = track_study(storage, study, tracking=tracking, files=files)
    console.note(f"{study}: {units.plural(written, 'trial')} written")
