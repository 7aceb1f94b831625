"""All commands by name, in the order that help shows them."""

import sys
from collections.abc import Callable
from inspect import cleandoc
from typing import Annotated

import typer
import typer.core

from prunenas.cli.cache import cache
from prunenas.cli.catalogue import catalogue
from prunenas.cli.check import check
from prunenas.cli.compare import compare
from prunenas.cli.export import export
from prunenas.cli.federate import federate
from prunenas.cli.guide import guide
from prunenas.cli.inspect import inspect
from prunenas.cli.latency import latency
from prunenas.cli.patterns import patterns
from prunenas.cli.profile import profile
from prunenas.cli.report import report
from prunenas.cli.run import run
from prunenas.cli.studies import best, status
from prunenas.cli.tracking import track, ui
from prunenas.cli.train import train
from prunenas.version import __version__

# Panels and colours for people; plain text, which also comes sooner, for pipes and documents.
RICH = sys.stdout.isatty()

# Older versions of typer escape brackets for rich wherever it is installed, also in plain text.
typer.core.HAS_RICH = RICH

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if RICH else None,
)


def _help(text: str | None) -> str:
    """Return a docstring as help: prose flows, the examples after ``\\b`` keep their lines."""
    paragraphs = []
    for paragraph in cleandoc(text or "").split("\n\n"):
        if not paragraph.startswith("\b"):
            paragraphs.append(" ".join(paragraph.split()))
        elif RICH:
            lines = paragraph.splitlines()[1:]
            paragraphs.append("\n".join(f"[not dim cyan]{line}[/]" for line in lines))
        else:
            paragraphs.append(paragraph)
    return "\n\n".join(paragraphs)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"prunenas {__version__}")
        raise typer.Exit


def prunenas(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Find smaller networks: pruning as architecture search.

    A study proposes widths, lets a pruning method derive an architecture, counts its FLOPs, trains
    it from scratch and keeps the front of accuracy against cost.

    \b
    prunenas run studies/quickstart.yaml
    prunenas best quickstart
    prunenas export quickstart exports --flops-ratio 0.3
    """
    del version  # its callback has answered
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Studies": {"run": run, "check": check, "status": status, "best": best, "cache": cache},
    "Evidence": {"compare": compare, "latency": latency, "report": report, "guide": guide},
    "Architectures": {
        "export": export,
        "train": train,
        "inspect": inspect,
        "patterns": patterns,
        "list": catalogue,
    },
    "Federated learning": {"federate": federate, "profile": profile},
    "Tracking": {"ui": ui, "track": track},
}
"""Every command by its panel and name, in the order of help."""

app.callback(invoke_without_command=True, help=_help(prunenas.__doc__))(prunenas)
for panel, commands in COMMANDS.items():
    for name, command in commands.items():
        app.command(name, help=_help(command.__doc__), rich_help_panel=panel)(command)
