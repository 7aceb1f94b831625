"""The front as a picture: accuracy against FLOPs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from prunenas.pictures.canvas import (
    BASELINE,
    GREY,
    INK,
    Kind,
    canvas,
    drawn,
    hollow,
    scale,
    styles,
)


def front_picture(
    records: Sequence[Mapping[str, Any]],
    dense: Mapping[str, Any],
    *,
    title: str = "",
    baselines: Sequence[Mapping[str, Any]] = (),
    kind: Kind = "png",
) -> bytes:
    """Draw validation accuracy against FLOPs: each trial, the front, the dense network.

    Args:
        records: Trials as ``prunenas.trial.Record.to_dict`` gives them; those without an accuracy
            are left out. Trials of the method ``uniform`` are drawn as a baseline.
        dense: The dense network's ``flops`` and ``accuracy`` (a share; ``None`` if not known).
        title: A line above the picture; the study's name where omitted.
        baselines: Networks from elsewhere: of each ``series``, ``accuracy`` and ``flops``.
        kind: Of file.

    Returns:
        The picture.
    """
    shown = [
        record
        for record in records
        if record["state"] in ("complete", "stopped")
        and record["accuracy"] is not None
        and math.isfinite(record["accuracy"])
    ]
    size, unit = scale(dense["flops"])
    figure, axes = canvas(7.6, 4.9)
    known = dense.get("accuracy")
    worth = [each["accuracy"] for each in [*staircase(shown), *baselines]]
    low, high = _accuracy_limits(worth, known, [*shown, *baselines])

    if known is not None:
        axes.axhline(100 * known, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.plot(
            dense["flops"] / size,
            100 * known,
            marker="*",
            markersize=15,
            color=INK,
            linestyle="none",
            label=f"dense network, {100 * known:.1f} %",
            zorder=5,
            clip_on=False,
        )
    stairs = staircase(shown)
    if stairs:
        x = [record["flops"] / size for record in stairs]
        y = [100 * record["accuracy"] for record in stairs]
        axes.step(
            [x[0], *x, dense["flops"] / size],
            [low, *y, y[-1]],
            where="post",
            color=INK,
            linewidth=1.4,
            label="front",
            zorder=2,
        )
    for name, style in styles(shown).items():
        of_method = [record for record in shown if record["method"] == name]
        axes.plot(
            [record["flops"] / size for record in of_method],
            [max(100 * record["accuracy"], low) for record in of_method],
            linestyle="none",
            markersize=7,
            markeredgewidth=1.1,
            label=f"{name} (baseline)" if name == BASELINE else name,
            zorder=4,
            clip_on=False,
            gid=f"trials-{name}",
            **style,
        )
    for name, style in hollow([each["series"] for each in baselines]).items():
        of_series = [each for each in baselines if each["series"] == name]
        axes.plot(
            [each["flops"] / size for each in of_series],
            [100 * each["accuracy"] for each in of_series],
            linestyle="none",
            label=name,
            zorder=4,
            clip_on=False,
            gid=f"baselines-{name.replace(' ', '-')}",
            **style,
        )
    below = sum(100 * record["accuracy"] < low for record in shown)
    if below:
        axes.annotate(
            f"{below} trial{'s' if below > 1 else ''} below {low:.4g} %, drawn on the axis",
            (0.995, 0.025),
            xycoords="axes fraction",
            ha="right",
            va="bottom",
            fontsize=8,
            color="#555555",
        )
    axes.set_xlim(
        0, 1.03 * max([dense["flops"], *(each["flops"] for each in [*shown, *baselines])]) / size
    )
    axes.set_ylim(low, high)
    axes.set_xlabel(f"FLOPs ({unit}, multiply-adds for one input)")
    axes.set_ylabel("Validation accuracy (%)")
    per_cent = dense["flops"] / size / 100

    def to_share(value: Any) -> Any:
        return value / per_cent

    def from_share(value: Any) -> Any:
        return value * per_cent

    share = axes.secondary_xaxis("top", functions=(to_share, from_share))
    share.set_xlabel("Share of the dense network's FLOPs (%)", fontsize=9, color="#555555")
    share.tick_params(labelsize=8, colors="#555555")
    share.spines["top"].set_visible(False)
    name = title or (str(records[0]["study"]) if records else "")
    if not shown:
        axes.text(
            0.5,
            0.5,
            "no trial has finished",
            transform=axes.transAxes,
            ha="center",
            color="#555555",
        )
    number = f"{len(shown)} architecture{'' if len(shown) == 1 else 's'}"
    figure.suptitle(f"{name}: {number}" if name else "", fontsize=11)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return drawn(figure, kind)


def staircase(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The records that none with fewer FLOPs is as accurate as, by ascending FLOPs."""
    front: list[Mapping[str, Any]] = []
    for record in sorted(records, key=lambda each: (each["flops"], -each["accuracy"])):
        if record["state"] == "complete" and (
            not front or record["accuracy"] > front[-1]["accuracy"]
        ):
            front.append(record)
    return front


def _accuracy_limits(
    front: Sequence[float], dense: float | None, records: Sequence[Mapping[str, Any]]
) -> tuple[float, float]:
    """Limits in percent that show the front well; what lies far below it is not worth the room."""
    all_ = [record["accuracy"] for record in records] + ([dense] if dense is not None else [])
    if not all_:
        return 0.0, 100.0
    top = 100 * max(all_)
    foot = 100 * min([*front, *([dense] if dense is not None else [])] or all_)
    span = max(top - foot, 1.0)
    low = max(foot - 0.5 * span, 100 * min(all_) - max(0.08 * span, 0.5), 0.0)
    return low, min(top + max(0.1 * span, 0.5), 100.5)
