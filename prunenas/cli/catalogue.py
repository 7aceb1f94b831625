"""``prunenas list``: what there is to choose from."""

import inspect
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunenas.cli.options import Json

if TYPE_CHECKING:
    from prunenas.methods import Method


class Kind(StrEnum):
    """What can be listed."""

    METHODS = "methods"
    MODELS = "models"
    ARCHITECTURES = "architectures"
    DATA = "data"
    SPACES = "spaces"


def catalogue(
    kind: Annotated[
        Kind | None,
        typer.Argument(
            metavar="KIND",
            help="methods, models, architectures, data or spaces; all of them without it.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List methods, models, architectures, data sets, search spaces.

    Each with a line that describes it and where it comes from. Architectures are those of papers,
    ready to be trained. Search spaces are the files of the folder search_spaces in the current
    folder.

    \b
    prunenas list
    prunenas list methods
    prunenas list models --json
    """
    from rich.text import Text

    from prunenas.cli import console
    from prunenas.cli.tables import table

    kinds = [kind] if kind else list(Kind)
    found = {each: ENTRIES[each]() for each in kinds}
    if json:
        console.show_json(found[kind] if kind else found)
        return
    for each, entries in found.items():
        if not entries:
            console.note(f"no {each}: there is no folder search_spaces with files here")
            continue
        extra = _EXTRA.get(each, ())
        result = table(_SINGULAR[each], "what it is", *extra, "source")
        torchvision = [entry for entry in entries if entry["name"].startswith("torchvision/")]
        for entry in entries:
            if entry not in torchvision:
                result.add_row(
                    Text(entry["name"], "bold"),
                    entry["description"],
                    *(_plain(entry[field]) for field in extra),
                    Text(entry["source"], "dim"),
                )
        console.show(result, "")
        if torchvision:
            names = ", ".join(entry["name"].removeprefix("torchvision/") for entry in torchvision)
            console.show(Text.assemble(("torchvision/", "bold"), names), "")


def _methods() -> list[dict[str, Any]]:
    from prunenas.methods import METHODS

    return [
        {
            "name": name,
            "description": _first_line(method),
            "source": method.source,
            "kind": method.kind,
            "granularity": method.granularity,
            "searches": _searched(method),
            "hyperparameters": _hyperparameters(method),
        }
        for name, method in METHODS.items()
    ]


def _hyperparameters(method: "type[Method]") -> dict[str, dict[str, Any]]:
    defaults = method.model_validate({}).model_dump(mode="json")
    return {
        field: {
            "default": defaults[field],
            "description": info.description,
            **(info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}),
        }
        for field, info in method.model_fields.items()
    }


def _models() -> list[dict[str, Any]]:
    from prunenas import models
    from prunenas.architecture import own_models, torchvision_models

    own = [
        {
            "name": name,
            "description": _first_line(getattr(models, name)),
            "source": _source(getattr(models, name)),
        }
        for name in own_models()
    ]
    return own + [
        {"name": f"torchvision/{name}", "description": "", "source": "torchvision"}
        for name in torchvision_models()
    ]


def _architectures() -> list[dict[str, Any]]:
    from prunenas import architectures

    return [
        {
            "name": name,
            "description": about.description,
            "source": about.source,
            "model": about.model,
            "arguments": dict(about.arguments),
            "input_shape": list(about.input_shape),
            "classes": about.classes,
            "epochs": about.epochs,
            "widths": dict(about.widths),
            "removed": list(about.removed),
        }
        for name, about in ((name, architectures.describe(name)) for name in architectures.names())
    ]


def _data() -> list[dict[str, Any]]:
    from prunenas.data import DATASETS

    return [
        {"name": name, "description": entry.description, "source": entry.source}
        for name, entry in DATASETS.items()
    ]


def _spaces() -> list[dict[str, Any]]:
    from prunenas.spec import known_spaces

    return [
        {"name": name, "description": _first_comment(path), "source": str(path)}
        for name, path in known_spaces().items()
    ]


_SINGULAR = {
    Kind.METHODS: "method",
    Kind.MODELS: "model",
    Kind.ARCHITECTURES: "architecture",
    Kind.DATA: "data set",
    Kind.SPACES: "search space",
}

_EXTRA = {Kind.METHODS: ("kind", "granularity", "searches")}
"""Fields of a kind's entries that are columns of their own."""

ENTRIES: dict[Kind, Callable[[], list[dict[str, Any]]]] = {
    Kind.METHODS: _methods,
    Kind.MODELS: _models,
    Kind.ARCHITECTURES: _architectures,
    Kind.DATA: _data,
    Kind.SPACES: _spaces,
}


def _searched(method: "type[Method]") -> list[str]:
    """Return what a study can search: ``widths`` or ``densities`` where they are followed, and
    hyperparameters.
    """
    fields = [
        field
        for field, info in method.model_fields.items()
        if isinstance(info.json_schema_extra, dict) and "search" in info.json_schema_extra
    ]
    if method.takes_densities:
        return ["densities", *fields]
    return ["widths", *fields] if method.takes_ratios else fields


def _plain(value: str | list[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value)


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def _source(thing: Any) -> str:
    """Return the docstring's paragraph that begins with ``Source:``, in one line."""
    paragraphs = (inspect.getdoc(thing) or "").split("\n\n")
    found = (" ".join(text.split()) for text in paragraphs if text.startswith("Source:"))
    return next(found, "").removeprefix("Source:").strip()


def _first_comment(path: Path) -> str:
    """Return what a file says of itself in its first line; empty where that is no comment."""
    line = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    return line.removeprefix("#").strip() if line.startswith("#") else ""
