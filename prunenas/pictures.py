"""Pictures of a study as PNG: the front, and the widths of an architecture.

Colours are Okabe and Ito's (2008), told apart by colour-blind eyes too; every method also has a
marker of its own. matplotlib's object interface is used, so that no state is shared with a
program's own figures, and it is loaded when the first picture is drawn.
"""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "h", "<", ">")
_BASELINE = "uniform"
_GREY = "#8a8a8a"
_INK = "#222222"
_DPI = 120
_LONGEST_NAME = 34


def front_picture(
    records: Sequence[Mapping[str, Any]], dense: Mapping[str, Any], *, title: str = ""
) -> bytes:
    """Draw validation accuracy against FLOPs: each trial, the front, the dense network.

    Args:
        records: Trials as ``prunenas.trial.Record.to_dict`` gives them; those without an accuracy
            are left out. Trials of the method ``uniform`` are drawn as a baseline.
        dense: The dense network's ``flops`` and ``accuracy`` (a share; ``None`` if not known).
        title: A line above the picture; the study's name where omitted.

    Returns:
        The picture as PNG.
    """
    shown = [
        record
        for record in records
        if record["state"] in ("complete", "stopped")
        and record["accuracy"] is not None
        and math.isfinite(record["accuracy"])
    ]
    size, unit = _scale(dense["flops"])
    figure, axes = _canvas(7.6, 4.9)
    known = dense.get("accuracy")
    low, high = _accuracy_limits([each["accuracy"] for each in _front(shown)], known, shown)

    if known is not None:
        axes.axhline(100 * known, color=_GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.plot(
            dense["flops"] / size,
            100 * known,
            marker="*",
            markersize=15,
            color=_INK,
            linestyle="none",
            label=f"dense network, {100 * known:.1f} %",
            zorder=5,
            clip_on=False,
        )
    stairs = _front(shown)
    if stairs:
        x = [record["flops"] / size for record in stairs]
        y = [100 * record["accuracy"] for record in stairs]
        axes.step(
            [x[0], *x, dense["flops"] / size],
            [low, *y, y[-1]],
            where="post",
            color=_INK,
            linewidth=1.4,
            label="front",
            zorder=2,
        )
    for name, style in _styles(shown).items():
        of_method = [record for record in shown if record["method"] == name]
        axes.plot(
            [record["flops"] / size for record in of_method],
            [max(100 * record["accuracy"], low) for record in of_method],
            linestyle="none",
            markersize=7,
            markeredgewidth=1.1,
            label=f"{name} (baseline)" if name == _BASELINE else name,
            zorder=4,
            clip_on=False,
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
    axes.set_xlim(0, 1.03 * max([dense["flops"], *(each["flops"] for each in shown)]) / size)
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
    return _png(figure)


def widths_picture(
    widths: Mapping[str, int], dense_widths: Mapping[str, int], *, title: str = ""
) -> bytes:
    """Draw the channels each group has left, as bars within the dense network's outline.

    Groups stand in order of the forward pass, from top to bottom, however many there are.

    Args:
        widths: Channels left of each group.
        dense_widths: Channels of each group in the dense network; a group that ``widths`` lacks
            keeps all.
        title: A line above the picture.

    Returns:
        The picture as PNG.
    """
    names = list(dense_widths)
    full = [dense_widths[name] for name in names]
    left = [widths.get(name, dense_widths[name]) for name in names]
    rows = len(names)
    figure, axes = _canvas(7.6, 1.3 + 0.24 * max(rows, 4))
    where = list(range(rows))
    axes.barh(where, full, height=0.74, color="#f1f1f1", edgecolor=_GREY, linewidth=0.8)
    axes.barh(where, left, height=0.74, color=_COLOURS[0])
    for row, (kept, all_) in enumerate(zip(left, full, strict=True)):
        axes.annotate(
            f"{kept} of {all_} ({kept / all_:.0%})".replace("%", " %"),
            (all_, row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=_INK,
        )
    axes.set_yticks(where, [_short(name) for name in names], fontsize=8)
    axes.set_ylim(rows - 0.4, -0.6)  # the first group on top
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.22 * max(full, default=1))
    axes.set_xlabel("Channels")
    axes.grid(axis="y", visible=False)
    total = f"{sum(left):,} of {sum(full):,} channels left"
    figure.suptitle(f"{title}: {total}" if title else total, fontsize=11)
    return _png(figure)


def _canvas(width: float, height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def _png(figure: "Figure") -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    target = io.BytesIO()
    # No software version inside, so that the same study gives the same file.
    figure.savefig(target, format="png", dpi=_DPI, metadata={"Software": None})
    return target.getvalue()


def _front(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
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


def _styles(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """A marker and a colour for each method, by the alphabet: the same in every picture."""
    names = sorted({record["method"] for record in records} - {_BASELINE})
    styles: dict[str, dict[str, Any]] = {
        name: {
            "marker": _MARKERS[index % len(_MARKERS)],
            "color": _COLOURS[index % len(_COLOURS)],
            "markeredgecolor": "white",
        }
        for index, name in enumerate(names)
    }
    if any(record["method"] == _BASELINE for record in records):
        styles[_BASELINE] = {"marker": "d", "color": "white", "markeredgecolor": "#555555"}
    return styles


def _scale(flops: float) -> tuple[float, str]:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if flops >= size:
            return size, unit
    return 1.0, "single"


def _short(name: str) -> str:
    """A group's name cut in front, where deep networks' names are alike."""
    return name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :]
