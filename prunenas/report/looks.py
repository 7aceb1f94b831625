"""What each method's marks look like: a colour and a shape, the same as in pictures."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from prunenas.pictures.canvas import BASELINE, COLOURS
from prunenas.report.svg import SHAPES, element, mark
from prunenas.trial import Record


class Look(NamedTuple):
    """How a mark is drawn.

    Attributes:
        classes: Of ``page.css``: a colour, and ``hollow`` for what no search has found.
        shape: One of ``svg.mark``'s.
    """

    classes: str
    shape: str

    @property
    def colour(self) -> str:
        """The colour's class alone."""
        return self.classes.split()[-1]


DENSE = Look("dense", "star")

_HOLLOW = ("circle", "square", "triangle", "down", "hexagon", "pentagon", "left", "right")


def looks(records: Iterable[Record]) -> dict[str, Look]:
    """Return the look of each method, by the alphabet; uniform widths are a hollow diamond."""
    names = sorted({record.method for record in records})
    searched = [name for name in names if name != BASELINE]
    found = {
        name: Look(f"c{index % len(COLOURS)}", SHAPES[index % len(SHAPES)])
        for index, name in enumerate(searched)
    }
    if BASELINE in names:
        found[BASELINE] = Look("hollow soft", "thin")
    return found


def hollow(series: Sequence[str]) -> dict[str, Look]:
    """Return the look of each series of baselines, in the order given."""
    return {
        name: Look(f"hollow c{index % len(COLOURS)}", _HOLLOW[index % len(_HOLLOW)])
        for index, name in enumerate(series)
    }


def key(look: Look) -> str:
    """Return a small drawing of a mark, for a legend."""
    return element(
        "svg",
        mark(look.shape, 7, 7, 10, class_=look.classes),
        viewBox="0 0 14 14",
        aria_hidden="true",
    )
