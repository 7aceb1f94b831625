"""A network's channel groups as tables for people."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from prunenas.architecture import Architecture
from prunenas.cli import masks, units
from prunenas.cli.anatomy import Anatomy, Frozen, Part
from prunenas.cli.listing import Column, Listing
from prunenas.cli.names import shortened
from prunenas.cli.tables import bar


@dataclass(frozen=True)
class About:
    """What is known of an architecture beside its layers.

    Attributes:
        flops_ratio: Its FLOPs as a share of the dense network's; None for the dense one.
        origin: Where it comes from, each a line.
    """

    flops_ratio: float | None = None
    origin: tuple[str, ...] = ()


def report(parts: Anatomy | None, architecture: Architecture, about: About) -> list[RenderableType]:
    """Return all that ``prunenas inspect`` shows, from top to bottom.

    Args:
        parts: None where the network's source may not be run: only widths are known then.
        architecture: What is shown.
        about: Where it comes from.
    """
    shown = [*_header(parts, architecture, about), Text()]
    if architecture.masks:
        shown += [masks.listing(architecture), Text()]
    if parts is None:
        return [*shown, _widths(architecture)]
    shown.append(_cut(parts) if about.flops_ratio is not None else _dense(parts))
    if told := [*_rest(parts), *_branches(parts)]:
        shown += [Text(), *told]
    return shown


def origin(provenance: Mapping[str, Any]) -> str:
    """Word what an export says of its search; empty where that is nothing."""
    words = [
        f"{name} {provenance[name]}"
        for name in ("study", "comparison", "trial")
        if name in provenance
    ]
    words += [str(provenance[name]) for name in ("architecture", "method") if name in provenance]
    accuracy = provenance.get("accuracy")
    if isinstance(accuracy, (int, float)):
        words.append(
            f"accuracy {units.accuracy(accuracy)} on {provenance.get('split', 'its data')}"
        )
    return ", ".join(words)


def _header(
    parts: Anatomy | None, architecture: Architecture, about: About
) -> list[RenderableType]:
    arguments = ", ".join(f"{name}={value!r}" for name, value in architecture.arguments.items())
    shape = "×".join(map(str, architecture.input_shape))
    ratio = f" ({units.share(about.flops_ratio)} of dense)" if about.flops_ratio else ""
    lines = about.origin
    if architecture.masks:
        lines = masks.survivors(architecture), *lines
    groups = "" if parts is None else f" · {units.plural(len(parts.groups), 'channel group')}"
    return [
        Text.assemble((architecture.source, "bold"), f"({arguments})", (f" on {shape}", "dim")),
        Text(
            f"{units.count(architecture.flops)} FLOPs{ratio} · "
            f"{units.count(architecture.params)} parameters{groups}"
        ),
        *(Text(line, "dim") for line in lines),
    ]


def _dense(parts: Anatomy) -> Listing:
    """All widths full: what each group costs, and what it can save."""
    by = any(part.divisor > 1 for part in parts.groups)
    multiple = [Column("multiple of", right=True)] if by else []
    result = Listing(
        Column("channel group"),
        Column("width", right=True),
        *multiple,
        Column("FLOPs", right=True),
        Column("", gives_way=1),
        Column("saves", right=True),
        Column("coupled with", gives_way=2, shrinks=True),
    )

    def row(part: Part) -> list[RenderableType]:
        share = part.flops / parts.flops
        divisor = [str(part.divisor) if part.divisor > 1 else ""] if by else []
        return [
            str(part.width),
            *divisor,
            units.share(share),
            bar(share),
            units.share(part.saves),
        ]

    def total(flops: int, dense: int) -> list[RenderableType]:
        del dense
        share = flops / parts.flops
        figures: list[RenderableType] = [Text(units.share(share), "bold"), bar(share, "blue"), ""]
        return ["", *([""] if by else []), *figures]

    _fill(result, parts, row, total)
    return result


def _cut(parts: Anatomy) -> Listing:
    """An architecture beside its dense network."""
    result = Listing(
        Column("channel group"),
        Column("dense", right=True),
        Column("width", right=True),
        Column("kept", right=True),
        Column("", gives_way=1),
        Column("FLOPs", right=True),
        Column("of dense", right=True),
        Column("coupled with", gives_way=2, shrinks=True),
    )

    def row(part: Part) -> list[RenderableType]:
        kept = part.width / part.dense_width
        style = "bright_black" if part.width == part.dense_width else "green"
        return [
            Text(str(part.dense_width), "dim"),
            str(part.width) if part.width else Text("removed", "yellow"),
            units.share(kept),
            bar(kept, style),
            units.share(part.flops / parts.flops),
            units.share(part.flops / part.dense_flops) if part.dense_flops else "–",
        ]

    def total(flops: int, dense: int) -> list[RenderableType]:
        left = flops / dense if dense else None
        cells = [units.share(flops / parts.flops), units.share(left)]
        return ["", "", "", "", *(Text(cell, "bold") for cell in cells)]

    _fill(result, parts, row, total)
    return result


def _fill(
    result: Listing,
    parts: Anatomy,
    row: Callable[[Part], list[RenderableType]],
    total: Callable[[int, int], list[RenderableType]],
) -> None:
    """Add stages with their groups, then what is in no group that can vary, then the sum."""
    stages = parts.stages()
    for stage, (flops, dense) in stages.items():
        members = [part for part in parts.groups if part.stage == stage]
        several = len(stages) > 1
        if several:
            told = Text.assemble(
                (f"stage {stage}", "bold"), (f" · {units.plural(len(members), 'group')}", "dim")
            )
            result.add(told, *total(flops, dense), "", section=True)
        for part in members:
            others = _names(name for name in part.layers if name != part.name)
            result.add(Text(f"{'  ' if several else ''}{part.name}"), *row(part), others)
    rest = {
        "frozen": (sum(part.flops for part in parts.frozen), len(parts.frozen)),
        "in no group": (sum(parts.others.values()), len(parts.others)),
    }
    begun = False
    for name, (flops, number) in rest.items():
        if number:
            told = Text.assemble((name, "bold"), (f" · {number}", "dim"))
            dense = parts.dense_others if name == "in no group" else parts.dense_frozen
            result.add(told, *total(flops, dense), "", section=not begun)
            begun = True
    told = Text.assemble(("all", "bold"), (f" · {units.count(parts.flops)} FLOPs", "dim"))
    result.add(told, *total(parts.flops, parts.dense_flops), "", section=not begun)


def _rest(parts: Anatomy) -> list[RenderableType]:
    """What no width changes, and why: frozen groups by reason, and products of no group."""
    alike: dict[str, list[Frozen]] = {}
    for part in parts.frozen:
        alike.setdefault(_QUOTED.sub("''", part.reason), []).append(part)
    shown = [
        _line(
            f"{len(group)} frozen",
            sum(part.flops for part in group) / parts.flops,
            _reason([part.reason for part in group]),
            (part.name for part in group),
        )
        for group in alike.values()
    ]
    if parts.others:
        share = sum(parts.others.values()) / parts.flops
        told = "products that make no channels, as in attention"
        shown.append(_line(f"{len(parts.others)} in no group", share, told, parts.others))
    return list(shown)


_QUOTED = re.compile(r"'[^']*'")


def _reason(reasons: Sequence[str]) -> str:
    """Word reasons that differ in quoted names as one."""
    columns = zip(*(_QUOTED.findall(reason) for reason in reasons), strict=True)
    merged = [", ".join(shortened(name.strip("'") for name in names)) for names in columns]
    names = iter(merged)
    return _QUOTED.sub(lambda _: next(names), reasons[0])


def _branches(parts: Anatomy) -> list[RenderableType]:
    shown: list[RenderableType] = []
    for removed, told in ((True, "removed"), (False, "that can be removed")):
        found = [branch for branch in parts.branches if branch.removed == removed]
        if found:
            share = sum(branch.flops for branch in found) / parts.dense_flops
            number = "1 residual branch" if len(found) == 1 else f"{len(found)} residual branches"
            names = (branch.name for branch in found)
            shown.append(_line(f"{number} {told}", share, "", names, of="dense FLOPs"))
    return shown


def _line(number: str, share: float, told: str, names: Iterable[str], *, of: str = "FLOPs") -> Text:
    because = f": {told}" if told else ""
    return Text.assemble(
        (number, "bold"), f", {units.share(share)} of {of}{because} · ", _names(names)
    )


def _widths(architecture: Architecture) -> Listing:
    result = Listing(Column("channel group"), Column("width", right=True))
    for name, width in architecture.widths.items():
        result.add(Text(name, "bold"), str(width))
    return result


def _names(names: Iterable[str]) -> Text:
    return Text(", ".join(shortened(names)), "dim")
