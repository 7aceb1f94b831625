"""What all pictures share: paper, colours, and how they become files.

Colours are Okabe and Ito's (2008), told apart by colour-blind eyes too, the lighter ones darkened
until they stand out from white paper; every method also has a marker of its own. matplotlib's
object interface is used, so that no state is shared with a program's own figures, and it is loaded
when the first picture is drawn.
"""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["png", "svg"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#B8608F", "#A87400", "#3A8FC4")
GREY = "#8a8a8a"
INK = "#222222"
BASELINE = "uniform"
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "h", "<", ">")
_HOLLOW = ("o", "s", "^", "v", "h", "p", "<", ">")
_DPI = 120


def canvas(width: float, height: float) -> "tuple[Figure, Axes]":
    """An empty figure; width and height in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def png(figure: "Figure") -> bytes:
    """The figure as PNG."""
    return drawn(figure, "png")


def drawn(figure: "Figure", kind: Kind) -> bytes:
    """The figure as a file of a kind; the same figure gives the same bytes."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    target = io.BytesIO()
    # No software version and no date inside; names within an SVG are drawn from what it shows.
    left_out = {"png": ("Software",), "svg": ("Date", "Creator")}[kind]
    with rc_context({"svg.hashsalt": "prunenas", "svg.fonttype": "none"}):
        figure.savefig(target, format=kind, dpi=_DPI, metadata=dict.fromkeys(left_out))
    return target.getvalue()


def scale(number: float) -> tuple[float, str]:
    """The unit that a number reads best in, and its letter.

    >>> scale(313_201_664)
    (1000000.0, 'M')
    """
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return size, unit
    return 1.0, "single"


def styles(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """A marker and a colour for each method, by the alphabet: the same in every picture."""
    names = sorted({record["method"] for record in records} - {BASELINE})
    styles: dict[str, dict[str, Any]] = {
        name: {
            "marker": _MARKERS[index % len(_MARKERS)],
            "color": COLOURS[index % len(COLOURS)],
            "markeredgecolor": "white",
        }
        for index, name in enumerate(names)
    }
    if any(record["method"] == BASELINE for record in records):
        styles[BASELINE] = {"marker": "d", "color": "white", "markeredgecolor": "#555555"}
    return styles


def hollow(series: Sequence[str]) -> dict[str, dict[str, Any]]:
    """An empty marker for each series of what no search has found, in the order given."""
    return {
        name: {
            "marker": _HOLLOW[index % len(_HOLLOW)],
            "color": "white",
            "markeredgecolor": COLOURS[index % len(COLOURS)],
            "markeredgewidth": 1.8,
            "markersize": 8,
        }
        for index, name in enumerate(dict.fromkeys(series))
    }
