"""FLOPs against latency as a picture: what the count promises, and what the clock says."""

from collections.abc import Mapping, Sequence
from typing import Any

from prunenas.pictures.canvas import GREY, INK, Kind, canvas, drawn, scale, styles


def latency_picture(
    records: Sequence[Mapping[str, Any]],
    dense: Mapping[str, Any],
    *,
    title: str = "",
    kind: Kind = "png",
) -> bytes:
    """Draw latency, with its spread, against FLOPs: each architecture, and the dense network.

    On the line through the dense network latency shrinks as FLOPs do; above it an architecture is
    slower than its FLOPs promise.

    Args:
        records: Of each ``method``, ``flops``, ``digest`` and ``latency``, as
            ``prunenas.trial.Record.to_dict`` gives them; those without a latency are left out, and
            of equal architectures of a method all but the first.
        dense: The dense network's ``flops``, and its ``latency_ms`` where it is known.
        title: A line above the picture; the study's name where omitted.
        kind: Of file.

    Returns:
        The picture.
    """
    different: dict[tuple[str, str], Mapping[str, Any]] = {}
    for record in records:
        if record.get("latency") is not None:
            different.setdefault((record["method"], record["digest"]), record)
    shown = list(different.values())
    known = dense.get("latency_ms")
    most = max([dense["flops"], *(record["flops"] for record in shown)])
    size, unit = scale(most)
    figure, axes = canvas(7.6, 4.9)
    if known is not None:
        axes.plot(
            [0, most / size],
            [0, known * most / dense["flops"]],
            color=GREY,
            linewidth=1.0,
            linestyle=(0, (4, 3)),
            label="as fast as FLOPs promise",
            zorder=1,
        )
        axes.plot(
            dense["flops"] / size,
            known,
            "*",
            ms=15,
            color=INK,
            label=f"dense network, {known:.3g} ms",
            zorder=5,
            clip_on=False,
        )
    tops = [known or 0.0]
    for name, style in styles(shown).items():
        own = [record for record in shown if record["method"] == name]
        latencies = [record["latency"] for record in own]
        tops += [each["high"] for each in latencies]
        drawing = axes.errorbar(
            [record["flops"] / size for record in own],
            [each["median"] for each in latencies],
            yerr=[
                [each["median"] - each["low"] for each in latencies],
                [each["high"] - each["median"] for each in latencies],
            ],
            linestyle="none",
            markersize=7,
            markeredgewidth=1.1,
            ecolor=INK,
            elinewidth=0.9,
            capsize=2,
            label=name,
            zorder=4,
            **style,
        )
        drawing.lines[0].set_gid(f"trials-{name}")
    axes.set_xlim(0, 1.04 * most / size)
    axes.set_ylim(0, 1.06 * max(tops) or 1.0)
    axes.set_xlabel(f"FLOPs ({unit}, multiply-adds for one input)")
    axes.set_ylabel("Latency (ms, median and quartiles)")
    name = title or (str(records[0]["study"]) if records else "")
    number = f"latency of {len(shown)} architecture{'' if len(shown) == 1 else 's'}"
    figure.suptitle(f"{name}: {number}" if name else number, fontsize=11)
    if shown:
        protocol = shown[0]["latency"]["protocol"]
        axes.set_title(_worded(protocol), fontsize=8, color="#555555", loc="right")
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return drawn(figure, kind)


def _worded(protocol: Mapping[str, Any]) -> str:
    return (
        f"{protocol['runtime']} on {protocol['device']}, threads {protocol['threads']}, "
        f"batch {protocol['batch']}, {protocol['rounds']} passes"
    )
