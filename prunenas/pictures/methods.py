"""Methods side by side, as a picture: accuracies at one budget, or each method's own front."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median, stdev
from typing import Any

from prunenas.pictures.canvas import GREY, INK, Kind, canvas, drawn, styles
from prunenas.pictures.front import staircase

_NOTE = "#555555"
_LANES = (0.0, 0.16, -0.16, 0.32, -0.32, 0.08, -0.24, 0.24, -0.08)
"""Heights within a row that its marks take in turn, so that close ones don't hide each other."""


def methods_picture(
    records: Sequence[Mapping[str, Any]],
    dense: Mapping[str, Any],
    *,
    title: str = "",
    kind: Kind = "png",
) -> bytes:
    """Draw each method's accuracies in a row of its own, with their mean: for one budget.

    A mark is an architecture; one that was proposed twice is drawn once. The line is the mean, the
    bar one standard deviation to each side. The best mean is on top.

    Args:
        records: Trials as ``prunenas.trial.Record.to_dict`` gives them; only complete ones count.
        dense: The dense network's ``accuracy`` (a share; ``None`` if not known).
        title: A line above the picture; the study's name where omitted.
        kind: Of file.

    Returns:
        The picture.
    """
    shown = different(records)
    rows = {
        name: [100 * record["accuracy"] for record in shown if record["method"] == name]
        for name in styles(shown)
    }
    names = sorted(rows, key=lambda name: (-fmean(rows[name]), name))
    figure, axes = canvas(7.6, 1.7 + 0.42 * max(len(names), 3))
    known = dense.get("accuracy")
    every = [value for values in rows.values() for value in values]
    low, high = _limits([median(values) for values in rows.values()], every, known)
    if known is not None:
        axes.axvline(
            100 * known,
            color=GREY,
            linewidth=1.0,
            linestyle=(0, (4, 3)),
            label=f"dense network, {100 * known:.2f} %",
            zorder=1,
        )
    looks = styles(shown)
    for place, name in enumerate(names):
        values = sorted(rows[name])
        axes.plot(
            [max(value, low) for value in values],
            [place + _LANES[turn % len(_LANES)] for turn in range(len(values))],
            linestyle="none",
            markersize=7,
            markeredgewidth=1.1,
            zorder=4,
            clip_on=False,
            gid=f"trials-{name}",
            **looks[name],
        )
        mean = fmean(values)
        if len(values) > 1:
            spread = stdev(values)
            axes.plot(
                [max(mean - spread, low), min(max(mean + spread, low), high)],
                [place, place],
                color=INK,
                linewidth=1.2,
                zorder=2,
            )
        axes.plot([max(mean, low)] * 2, [place - 0.36, place + 0.36], color=INK, lw=2.2, zorder=3)
    axes.plot([], [], color=INK, lw=2.2, label="mean")
    axes.plot([], [], color=INK, lw=1.2, label="± standard deviation")
    axes.set_yticks(range(len(names)), [f"{name}  ({len(rows[name])})" for name in names])
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)  # the first on top
    axes.set_xlim(low, high)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Validation accuracy (%), one training seed")
    if below := sum(value < low for value in every):
        axes.set_title(
            f"{below} architecture{'s' if below > 1 else ''} below {low:.4g} %, drawn on the edge",
            fontsize=8,
            color=_NOTE,
            loc="right",
        )
    _finish(figure, shown, records, title, "trained from scratch, by method")
    return drawn(figure, kind)


def method_fronts_picture(
    records: Sequence[Mapping[str, Any]],
    dense: Mapping[str, Any],
    *,
    title: str = "",
    kind: Kind = "png",
) -> bytes:
    """Draw accuracy against FLOPs with a front for each method: for studies of both.

    Args:
        records: As for `methods_picture`.
        dense: The dense network's ``flops`` and ``accuracy`` (a share; ``None`` if not known).
        title: A line above the picture; the study's name where omitted.
        kind: Of file.

    Returns:
        The picture.
    """
    shown = different(records)
    figure, axes = canvas(7.6, 4.9)
    known = dense.get("accuracy")
    looks = styles(shown)
    fronts = {
        name: staircase([record for record in shown if record["method"] == name]) for name in looks
    }
    best = [100 * record["accuracy"] for front in fronts.values() for record in front]
    every = [100 * record["accuracy"] for record in shown]
    low, high = _limits(best, every, known)
    if known is not None:
        label = f"dense network, {100 * known:.1f} %"
        axes.plot(100, 100 * known, "*", ms=15, color=INK, label=label, zorder=5, clip_on=False)
    right = max([100.0, *(100 * record["flops_ratio"] for record in shown)])
    for turn, (name, style) in enumerate(looks.items()):
        # Colours return after six methods: then lines are dashed, as markers are others too.
        line = style["color"] if style["color"] != "white" else style["markeredgecolor"]
        front = fronts[name]
        axes.step(
            [100 * record["flops_ratio"] for record in front] + [right],
            [max(100 * record["accuracy"], low) for record in [*front, front[-1]]],
            where="post",
            color=line,
            linewidth=1.3,
            linestyle="-" if turn < 6 else (0, (4, 2)),
            zorder=2,
        )
        own = [record for record in shown if record["method"] == name]
        axes.plot(
            [100 * record["flops_ratio"] for record in own],
            [max(100 * record["accuracy"], low) for record in own],
            linestyle="none",
            markersize=7,
            markeredgewidth=1.1,
            zorder=4,
            clip_on=False,
            label=f"{name} ({len(own)})",
            gid=f"trials-{name}",
            **style,
        )
    if below := sum(value < low for value in every):
        axes.set_title(
            f"{below} architecture{'s' if below > 1 else ''} below {low:.4g} %, drawn on the axis",
            fontsize=8,
            color=_NOTE,
            loc="right",
        )
    axes.set_xlim(0, 1.03 * right)
    axes.set_ylim(low, high)
    axes.set_xlabel("Share of the dense network's FLOPs (%)")
    axes.set_ylabel("Validation accuracy (%), one training seed")
    _finish(figure, shown, records, title, "and each method's own front")
    return drawn(figure, kind)


def different(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The complete trials; of a method's equal architectures the first."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for record in records:
        accuracy = record["accuracy"]
        if record["state"] == "complete" and accuracy is not None and math.isfinite(accuracy):
            found.setdefault((record["method"], record["digest"]), record)
    return list(found.values())


def _limits(
    middles: Sequence[float], every: Sequence[float], dense: float | None
) -> tuple[float, float]:
    """Limits in percent that show all ``middles``; what lies far below is not worth the room."""
    if not every:
        return 0.0, 100.0
    top = max([*every, *([100 * dense] if dense is not None else [])])
    span = max(top - min(middles), 0.5)
    low = max(min(every), min(middles) - 0.5 * span)
    margin = 0.05 * (top - low) + 0.05
    return max(low - margin, 0.0), min(top + margin, 100.5)


def _finish(
    figure: Any,
    shown: Sequence[Mapping[str, Any]],
    records: Sequence[Mapping[str, Any]],
    title: str,
    what: str,
) -> None:
    name = title or (str(records[0]["study"]) if records else "")
    number = f"{len(shown)} architecture{'' if len(shown) == 1 else 's'} {what}"
    figure.suptitle(f"{name}: {number}" if name else number, fontsize=11)
    if not shown:
        figure.axes[0].text(
            0.5,
            0.5,
            "no trial is complete",
            transform=figure.axes[0].transAxes,
            ha="center",
            color=_NOTE,
        )
    if figure.axes[0].get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
