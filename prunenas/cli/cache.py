"""``prunenas cache``: results that studies share, how large they are, and getting rid of them."""

import re
import time
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunenas.cli.options import CacheFolder, Json
from prunenas.places import CACHE, HOME

if TYPE_CHECKING:
    from prunenas.cache import Item


class Kind(StrEnum):
    """What is kept."""

    DENSE = "dense"
    SCRATCH = "scratch"
    UNFINISHED = "unfinished"


def cache(
    cache: CacheFolder = CACHE,
    kind: Annotated[
        Kind | None,
        typer.Option(
            "--kind",
            metavar="KIND",
            help="Only dense, scratch or unfinished ones; all without it.",
            show_default=False,
        ),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than",
            metavar="AGE",
            help="Only what was not used for so long: 30d, 12h, 45min, 2w.",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="With --prune: whatever it is.")
    ] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Remove what would be listed.")] = False,
    json: Json = False,
) -> None:
    """List the trainings that studies share, or remove them.

    Dense networks and trainings from scratch are kept under everything they depend on, so that no
    trial, study or process does one twice. Removing one costs the time to do it again, never a
    result: studies keep their records, the weights of their fronts, and masks, elsewhere: masks are
    told here, and never removed. Unfinished ones are checkpoints of trainings that were interrupted
    or stopped early. What a process works on is left alone.

    \b
    prunenas cache
    prunenas cache --json
    prunenas cache --prune --older-than 30d
    prunenas cache --prune --kind scratch
    prunenas cache --prune --all
    """
    from prunenas.cache import Cache
    from prunenas.cli import console, units

    if prune and not (kind or older_than or everything):
        raise typer.BadParameter(
            "must come with --older-than, --kind or --all, which say what is removed",
            param_hint="'--prune'",
        )
    store, now = Cache(cache), time.time()
    oldest = now - _seconds(older_than) if older_than else now
    items = [
        item
        for item in store.items()
        if (kind is None or _kind(item) == kind) and (not older_than or item.used < oldest)
    ]
    removed = [item for item in items if store.drop(item)] if prune else []
    if prune:
        store.drop_litter()
    beside = HOME / "masks"
    masks = [item for folder in beside.glob("*") for item in Cache(folder).items()]
    size = sum(item.bytes for item in masks)
    if json:
        told = {"folder": str(beside), "architectures": len(masks), "bytes": size}
        console.show_json(
            {
                "folder": str(store.folder),
                "bytes": sum(item.bytes for item in items),
                "items": [_plain(item, now, item in removed) for item in items],
                **({"masks": told} if masks else {}),
            }
        )
    elif prune:
        console.note(
            f"removed {units.plural(len(removed), 'result')}, "
            f"{units.size(sum(item.bytes for item in removed))}"
        )
        if left := len(items) - len(removed):
            console.note(f"left {units.plural(left, 'result')} that a process is working on")
    elif items:
        _show(items, now)
    else:
        console.note(f"nothing {'of that ' if kind or older_than else ''}in {store.folder}")
    if masks and not json:
        console.note(
            f"{beside} holds masks of {units.plural(len(masks), 'architecture')}, "
            f"{units.size(size)}: studies can't be exported without them, so that they stay"
        )


def _show(items: Sequence["Item"], now: float) -> None:
    from rich.text import Text

    from prunenas.cli import console, units
    from prunenas.cli.tables import table

    result = table("kind", "what", ("size", "right"), ("last used", "right"), "key")
    for item in items:
        what = "damaged: will be computed again" if item.damaged else item.about or "–"
        result.add_row(
            _kind(item),
            Text(what, "red" if item.damaged else ""),
            units.size(item.bytes),
            f"{units.duration(max(0.0, now - item.used))} ago",
            Text(item.key[:12], "dim"),
        )
    result.add_section()
    total = units.size(sum(item.bytes for item in items))
    result.add_row("", units.plural(len(items), "result"), Text(total, "bold"), "", "")
    console.show(result)


def _kind(item: "Item") -> Kind | str:
    return Kind.UNFINISHED if item.unfinished else item.kind


def _plain(item: "Item", now: float, removed: bool) -> dict[str, Any]:
    return {
        "kind": str(_kind(item)),
        "of": item.kind,
        "about": item.about,
        "bytes": item.bytes,
        "unused_seconds": round(max(0.0, now - item.used), 3),
        "damaged": item.damaged,
        "key": item.key,
        "removed": removed,
    }


_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


def _seconds(age: str) -> float:
    """The seconds of an age such as 30d.

    >>> _seconds("30d"), _seconds("1.5h")
    (2592000.0, 5400.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|min|h|d|w)", age.strip())
    if found is None:
        raise typer.BadParameter(
            f"must be a number and a unit ({', '.join(_UNITS)}) such as 30d, but got {age!r}",
            param_hint="'--older-than'",
        )
    return float(found[1]) * _UNITS[found[2]]
