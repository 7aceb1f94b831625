"""A network's channel groups as a table, and as values for JSON."""

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from prunenas.architecture import Architecture, ChannelGroup, Space
from prunenas.cli import units
from prunenas.cli.tables import bar, table
from prunenas.export import ExportConfig

SHOWN_LAYERS = 3  # of a group that couples many; --json has them all


def report(
    space: Space | None, architecture: Architecture, export: ExportConfig | None
) -> list[RenderableType]:
    """Return all that ``prunenas inspect`` shows, from top to bottom."""
    parts: list[RenderableType] = [*_header(space, architecture, export), Text()]
    if space is None:
        return [*parts, _widths(architecture)]
    parts.append(_free(space, architecture))
    if space.frozen:
        parts += [Text(), _frozen(space)]
    return parts


def as_dict(space: Space, architecture: Architecture) -> dict[str, Any]:
    """Return what ``--json`` says of an architecture in its dense network's space."""
    return {
        **bare(architecture),
        "dense_flops": space.dense.flops,
        "dense_params": space.dense.params,
        "groups": [
            {
                "name": group.name,
                "width": architecture.widths[group.name],
                "dense_width": group.width,
                "divisor": group.divisor,
                "stage": group.stage,
                "saves": saving(space, group),
                "layers": list(group.layers),
            }
            for group in space.groups
        ],
        "frozen": [
            {
                "name": group.name,
                "width": group.width,
                "reason": group.reason,
                "layers": list(group.layers),
            }
            for group in space.frozen
        ],
    }


def bare(architecture: Architecture) -> dict[str, Any]:
    """Return what an architecture says of itself, without running its source."""
    return {
        "source": architecture.source,
        "arguments": dict(architecture.arguments),
        "input_shape": list(architecture.input_shape),
        "digest": architecture.digest,
        "flops": architecture.flops,
        "params": architecture.params,
        "widths": dict(architecture.widths),
    }


def saving(space: Space, group: ChannelGroup) -> float:
    """Return the share of dense FLOPs that goes when ``group`` alone is cut to its least width."""
    widths = {**space.dense.widths, group.name: group.divisor}
    return 1 - space.flops(widths) / space.dense.flops


def _header(
    space: Space | None, architecture: Architecture, export: ExportConfig | None
) -> list[RenderableType]:
    arguments = ", ".join(f"{name}={value!r}" for name, value in architecture.arguments.items())
    shape = "×".join(map(str, architecture.input_shape))
    ratio = f" ({units.share(export.flops_ratio)} of dense)" if export else ""
    groups = "" if space is None else f" · {units.plural(len(space.groups), 'channel group')}"
    lines = [
        Text.assemble((architecture.source, "bold"), f"({arguments})", (f" on {shape}", "dim")),
        Text(
            f"{units.count(architecture.flops)} FLOPs{ratio} · "
            f"{units.count(architecture.params)} parameters{groups}"
        ),
    ]
    if export:
        weights = "with" if export.weights_sha256 else "without"
        origin = _origin(export.provenance)
        lines.append(Text(f"exported {weights} weights{origin}", "dim"))
    return list(lines)


def _origin(provenance: Mapping[str, Any]) -> str:
    words = [f"{name} {provenance[name]}" for name in ("study", "trial") if name in provenance]
    words += [str(provenance["method"])] if "method" in provenance else []
    accuracy = provenance.get("accuracy")
    if isinstance(accuracy, (int, float)):
        words.append(
            f"accuracy {units.accuracy(accuracy)} on {provenance.get('split', 'its data')}"
        )
    return f" · {', '.join(words)}" if words else ""


def _free(space: Space, architecture: Architecture) -> RenderableType:
    cut = architecture.widths != space.dense.widths
    by = any(group.divisor > 1 for group in space.groups)
    columns: list[str | tuple[str, str]] = ["channel group", ("width", "right")]
    columns += [""] if cut else []
    columns += [("multiple of", "right")] if by else []
    columns += [("stage", "right"), ("saves up to", "right"), "", "coupled layers"]
    result = table(*columns)
    stage = space.groups[0].stage if space.groups else 0
    for group in space.groups:
        if group.stage != stage:  # a new size of feature map
            result.add_section()
            stage = group.stage
        width = architecture.widths[group.name]
        row: list[RenderableType] = [Text(group.name, "bold")]
        row += (
            [f"{width} of {group.width}", bar(width / group.width, "green")]
            if cut
            else [str(width)]
        )
        row += [str(group.divisor) if group.divisor > 1 else ""] if by else []
        saves = saving(space, group)
        row += [str(group.stage), units.share(saves), bar(saves), _layers(group.layers)]
        result.add_row(*row)
    return result


def _frozen(space: Space) -> RenderableType:
    result = table("frozen", ("width", "right"), "why", "layers")
    for group in space.frozen:
        result.add_row(
            Text(group.name, "bold"), str(group.width), group.reason, _layers(group.layers)
        )
    return result


def _widths(architecture: Architecture) -> RenderableType:
    result = table("channel group", ("width", "right"))
    for name, width in architecture.widths.items():
        result.add_row(Text(name, "bold"), str(width))
    return result


def _layers(layers: tuple[str, ...]) -> Text:
    shown = Text(", ".join(layers[:SHOWN_LAYERS]))
    if hidden := len(layers) - SHOWN_LAYERS:
        shown.append(f" and {hidden} more", "dim") if hidden > 0 else None
    return shown
