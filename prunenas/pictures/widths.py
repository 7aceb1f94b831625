"""An architecture as a picture: the widths of its groups, or the densities of its layers."""

from collections.abc import Mapping

from prunenas.pictures.canvas import COLOURS, GREY, INK, canvas, png

_LONGEST_NAME = 34


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
    figure, axes = canvas(7.6, 1.3 + 0.24 * max(rows, 4))
    where = list(range(rows))
    axes.barh(where, full, height=0.74, color="#f1f1f1", edgecolor=GREY, linewidth=0.8)
    axes.barh(where, left, height=0.74, color=COLOURS[0])
    for row, (kept, all_) in enumerate(zip(left, full, strict=True)):
        axes.annotate(
            f"{kept} of {all_} ({kept / all_:.0%})".replace("%", " %"),
            (all_, row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=INK,
        )
    axes.set_yticks(where, [_short(name) for name in names], fontsize=8)
    axes.set_ylim(rows - 0.4, -0.6)  # the first group on top
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.22 * max(full, default=1))
    axes.set_xlabel("Channels")
    axes.grid(axis="y", visible=False)
    total = f"{sum(left):,} of {sum(full):,} channels left"
    figure.suptitle(f"{title}: {total}" if title else total, fontsize=11)
    return png(figure)


def densities_picture(kept: Mapping[str, tuple[int, int]], *, title: str = "") -> bytes:
    """Draw the share of each masked layer's weights that is left, as bars from 0 to 100 %.

    Layers stand from top to bottom in the order that they are given in.

    Args:
        kept: Weights left and all weights, by the name of the layer's weight.
        title: A line above the picture.

    Returns:
        The picture as PNG.
    """
    names = list(kept)
    rows = len(names)
    figure, axes = canvas(7.6, 1.3 + 0.24 * max(rows, 4))
    where = list(range(rows))
    axes.barh(where, [100] * rows, height=0.74, color="#f1f1f1", edgecolor=GREY, linewidth=0.8)
    shares = [100 * left / total for left, total in kept.values()]
    axes.barh(where, shares, height=0.74, color=COLOURS[0])
    for row, (left, total) in enumerate(kept.values()):
        axes.annotate(
            f"{left:,} of {total:,} ({left / total:.1%})".replace("%", " %"),
            (100, row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=INK,
        )
    axes.set_yticks(where, [_short(name.removesuffix(".weight")) for name in names], fontsize=8)
    axes.set_ylim(rows - 0.4, -0.6)  # the first layer on top
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 145)
    axes.set_xticks([0, 25, 50, 75, 100])
    axes.set_xlabel("Weights kept (%)")
    axes.grid(axis="y", visible=False)
    left, total = (sum(each) for each in zip(*kept.values(), strict=True))
    words = f"{left:,} of {total:,} weights left"
    figure.suptitle(f"{title}: {words}" if title else words, fontsize=11)
    return png(figure)


def _short(name: str) -> str:
    """A group's name cut in front, where deep networks' names are alike."""
    return name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :]
