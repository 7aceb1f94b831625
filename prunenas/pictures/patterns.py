"""Which places of a kernel survive, as a picture: a map for each stage."""

from collections.abc import Mapping, Sequence

from prunenas.pictures.canvas import INK, png

_DARK = 0.55  # share of the largest value above which figures are white


def patterns_picture(maps: Mapping[int, Sequence[Sequence[float]]], *, title: str = "") -> bytes:
    """Draw survival maps side by side, dark where most kernels keep a place, in one scale.

    Args:
        maps: By stage, rows of shares in [0, 1]; one at least.
        title: A line above the picture.

    Returns:
        The picture as PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.5 + 1.7 * max(len(maps), 2), 2.6), layout="constrained")
    every = figure.subplots(1, len(maps), squeeze=False)[0]
    top = max(share for places in maps.values() for row in places for share in row)
    for axes, stage in zip(every, sorted(maps), strict=True):
        places = maps[stage]
        axes.imshow(places, cmap="Blues", vmin=0.0, vmax=top or 1.0)
        for y, row in enumerate(places):
            for x, share in enumerate(row):
                colour = "white" if share > _DARK * top else INK
                axes.text(
                    x, y, f"{100 * share:.1f}", ha="center", va="center", color=colour, fontsize=8
                )
        axes.set_xticks([])
        axes.set_yticks([])
        cells = [share for row in places for share in row]
        axes.set_title(f"stage {stage}", fontsize=9, color=INK)
        axes.set_xlabel(f"mean {100 * sum(cells) / len(cells):.1f} %", fontsize=8)
    what = "Kernels that keep each place, in %"
    figure.suptitle(f"{title}: {what}" if title else what, fontsize=10)
    return png(figure)
