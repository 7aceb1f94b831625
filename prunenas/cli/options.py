"""Options that several commands share, so that each is worded once."""

import json
from pathlib import Path
from typing import Annotated, Any

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


def trial_option(told: str) -> Any:
    """Return ``--trial NUMBER``, repeatable; ``told`` is its help."""
    return typer.Option("--trial", metavar="NUMBER", min=0, help=told, show_default=False)


def input_option(told: str) -> Any:
    """Return ``--input C,H,W``; ``told`` is its help."""
    return typer.Option("--input", metavar="C,H,W", help=told, show_default=False)


def set_option(told: str) -> Any:
    """Return ``--set NAME=VALUE``, repeatable; ``told`` is its help."""
    return typer.Option("--set", metavar="NAME=VALUE", help=told, show_default=False)


def setting(text: str, example: str) -> tuple[str, Any]:
    """Read what ``--set`` was given: a name, and a value that is JSON or a word.

    >>> setting("lr=0.1", "lr=0.1"), setting("schedule=cosine", "lr=0.1")
    (('lr', 0.1), ('schedule', 'cosine'))
    """
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise typer.BadParameter(
            f"must be NAME=VALUE such as {example}, but got {text!r}", param_hint="'--set'"
        )
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
