"""Latency against FLOPs, as a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

from prunenas.pictures.canvas import INK, Kind, canvas, drawn, styles


def latency_picture(
    records: Sequence[Mapping[str, Any]], *, title: str = "", kind: Kind = "png"
) -> bytes:
    """Draw medians with their quartiles against FLOPs.

    Args:
        records: Of each ``method``, ``flops_ratio`` and ``latency``: ``median``, ``low`` and
            ``high`` in ms.
        title: A line above the picture.
        kind: Of file.

    Returns:
        The picture.
    """
    figure, axes = canvas(7.6, 4.6)
    for name, style in styles(records).items():
        own = [record for record in records if record["method"] == name]
        across = [100 * record["flops_ratio"] for record in own]
        middles = [record["latency"]["median"] for record in own]
        axes.errorbar(
            across,
            middles,
            yerr=[
                [m - record["latency"]["low"] for m, record in zip(middles, own, strict=True)],
                [record["latency"]["high"] - m for m, record in zip(middles, own, strict=True)],
            ],
            linestyle="none",
            ecolor=INK,
            elinewidth=1.0,
            capsize=2.5,
        )
        axes.plot(
            across,
            middles,
            linestyle="none",
            markersize=7,
            markeredgewidth=1.1,
            label=name,
            clip_on=False,
            gid=f"trials-{name}",
            **style,
        )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("Share of the dense network's FLOPs (%)")
    axes.set_ylabel("Latency (ms): median and quartiles")
    number = f"{len(records)} architecture{'' if len(records) == 1 else 's'}"
    figure.suptitle(f"{title}: {number}" if title else number, fontsize=11)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return drawn(figure, kind)
