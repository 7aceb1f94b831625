"""Options that several commands share, so that each is worded once."""

from pathlib import Path
from typing import Annotated

import typer

Storage = Annotated[
    str,
    typer.Option(
        "--storage",
        metavar="URL",
        envvar="PRUNENAS_STORAGE",
        help="Where studies are kept: sqlite:///FILE or postgresql://USER@HOST/DATABASE.",
    ),
]
Tracking = Annotated[
    str | None,
    typer.Option(
        "--tracking",
        metavar="URI",
        help="MLflow's tracking URI; otherwise what mlflow.yml says, or sqlite:///mlflow.db.",
        show_default=False,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="A torch device such as cpu or cuda:0; auto takes a GPU where there is one.",
    ),
]
CacheFolder = Annotated[
    Path,
    typer.Option(
        "--cache",
        metavar="FOLDER",
        envvar="PRUNENAS_CACHE",
        help="Where studies share trainings.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Let an export import the Python module its network comes from."),
]
StudyName = Annotated[
    str, typer.Argument(metavar="STUDY", help="The study's name.", show_default=False)
]
