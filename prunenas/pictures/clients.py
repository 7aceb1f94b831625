"""Which client holds how many images of which class, as a picture."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prunenas.pictures.canvas import INK, Kind, canvas, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW = 0.24  # inches of a client's line, as long as there is room for all of them
_MOST = 50  # clients that get such a line each; more share the room of these
_TICKS = 20  # numbers of clients or classes written out, at most


def clients_picture(
    counts: Sequence[Sequence[int]], *, title: str = "", kind: Kind = "png"
) -> bytes:
    """Draw a bar for each client, as long as it has images, in a colour for each class.

    Clients stand from 0 at the top; classes follow each other from left to right within a bar.

    Args:
        counts: Images of each class that each client has, ``(clients, classes)``; one of each at
            least.
        title: A line above the picture.
        kind: Of file.

    Returns:
        The picture.
    """
    from matplotlib import colormaps
    from matplotlib.collections import PolyCollection

    rows, classes = len(counts), len(counts[0])
    images = [sum(row) for row in counts]
    roomy = rows <= _MOST
    high = 1.3 + _ROW * min(max(rows, 4), _MOST)
    figure, axes = canvas(7.6, high)
    # Neighbouring classes are apart in lightness too, for eyes that can't tell colours.
    palette = colormaps["viridis"].resampled(classes)
    labels, boxes = _boxes(counts, half=0.37 if roomy else 0.5)
    bars = PolyCollection(boxes, facecolors=[palette(label) for label in labels])
    bars.set_edgecolor("white")
    bars.set_linewidth(0.4 if roomy and classes <= _TICKS else 0)
    bars.set_gid("clients")
    axes.add_collection(bars)
    if roomy:
        for client, row in enumerate(counts):
            axes.annotate(
                f"{images[client]:,} of {_counted(sum(map(bool, row)), 'class', 'classes')}",
                (images[client], client),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=INK,
            )
    axes.set_xlim(0, (1.22 if roomy else 1.03) * max(*images, 1))
    axes.set_ylim(rows - 0.4, -0.6)
    axes.set_yticks(_spread(rows, _MOST if roomy else _TICKS))
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("Images")
    axes.set_ylabel("Client")
    _legend(figure, axes, classes, high)
    total = f"{sum(images):,} images at {_counted(rows, 'client', 'clients')}"
    figure.suptitle(f"{title}: {total}" if title else total, fontsize=11)
    return drawn(figure, kind)


def _boxes(
    counts: Sequence[Sequence[int]], half: float
) -> tuple[list[int], list[list[tuple[float, float]]]]:
    """The class and the corners of each piece of each bar; bars are twice ``half`` thick."""
    labels: list[int] = []
    boxes: list[list[tuple[float, float]]] = []
    for client, row in enumerate(counts):
        left = 0.0
        for label, count in enumerate(row):
            if count:
                low, top, right = client - half, client + half, left + count
                labels.append(label)
                boxes.append([(left, low), (right, low), (right, top), (left, top)])
                left = right
    return labels, boxes


def _legend(figure: "Figure", axes: "Axes", classes: int, high: float) -> None:
    """The colours of the classes, beside the bars; the picture is so many inches high."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm

    edges = [label - 0.5 for label in range(classes + 1)]
    norm = BoundaryNorm(edges, classes)
    shown = ScalarMappable(norm, colormaps["viridis"].resampled(classes))
    ticks = _spread(classes, _TICKS)
    bar = figure.colorbar(shown, ax=axes, label="Class", ticks=ticks, aspect=high / 0.2)
    bar.minorticks_off()
    bar.ax.tick_params(length=0, labelsize=8)
    bar.ax.invert_yaxis()
    bar.outline.set_visible(False)


def _spread(count: int, most: int) -> list[int]:
    """Whole numbers from 0 to below ``count``, all or as many round ones as are allowed.

    >>> _spread(62, 20)
    [0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60]
    """
    step, sizes = 1, (2, 2.5, 2)  # 1, 2, 5, 10, 20, ...
    turn = 0
    while (count - 1) // step + 1 > most:
        step = int(step * sizes[turn % 3])
        turn += 1
    return list(range(0, count, step))


def _counted(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"
