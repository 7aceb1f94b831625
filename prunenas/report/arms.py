"""The drawing of a comparison: test accuracy of each way of training, method by method."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from prunenas.evidence.comparison import Compared
from prunenas.evidence.table import Figure, Row, words
from prunenas.report.looks import Look
from prunenas.report.svg import SHAPES, Scale, element, fitted, mark, text
from prunenas.spec import Arm

WIDTH = 760
_LANE, _GAP, _HEAD, _TOP, _BOTTOM, _RIGHT = 15, 10, 24, 22, 46, 18

_LOOKS: Mapping[str, Look] = {
    "fine_tuned": Look("c1", "square"),
    "scratch_e": Look("c0", "circle"),
    "scratch_b": Look("c2", "triangle"),
    "ticket": Look("c3", "diamond"),
    "guided": Look("c4", "hexagon"),
    "transferred": Look("c5", "down"),
    "uniform": Look("hollow soft", "thin"),
    "random": Look("hollow soft", "square"),
}


@dataclass(frozen=True)
class Line:
    """A line of the drawing.

    Attributes:
        key: What the ``data-point`` of its marks begins with.
        label: A method, or what its marks have in common.
        budget: The share of FLOPs, in (0, 1].
        row: The row of the table that it is of; None for the controls.
        figures: By arm, those that have any accuracy.
    """

    key: str
    label: str
    budget: float
    row: Row | None
    figures: Mapping[Arm, Figure]


def look(arm: Arm) -> Look:
    """Return how an arm is drawn."""
    known = _LOOKS.get(arm)
    return known or Look("soft", SHAPES[sum(map(ord, arm)) % len(SHAPES)])


def lines(part: Compared, rows: Sequence[Row], *, key: str) -> list[Line]:
    """Return the lines of a network: by budget, the controls, then each method.

    Args:
        part: The network's results.
        rows: Its table.
        key: Tells its marks from those of other networks.
    """
    beside = {cell.arm for cell in part.results if cell.contender is None}
    found = []
    for budget in dict.fromkeys(row.contender.flops_ratio for row in rows):
        own = [row for row in rows if row.contender.flops_ratio == budget]
        controls: dict[Arm, Figure] = {
            arm: figure
            for arm, figure in own[0].figures.items()
            if arm in beside and arm != "dense" and figure.n
        }
        if controls:
            label = "not from a method"
            found.append(Line(f"{key}-{budget:g}", label, budget, None, controls))
        for row in own:
            figures: dict[Arm, Figure] = {
                arm: figure for arm, figure in row.figures.items() if arm not in beside and figure.n
            }
            place = f"{key}-{rows.index(row)}"
            found.append(Line(place, row.contender.label, budget, row, figures))
    return found


def chart(part: Compared, dense: Figure | None, shown: Sequence[Line]) -> str:
    """Return the drawing: means as marks, standard deviations as bars, seeds as dots.

    Args:
        part: The network.
        dense: Its own accuracies, drawn as a band.
        shown: See `lines`.
    """
    every = [figure for line in shown for figure in line.figures.values()]
    ends = [end for figure in [*every, *([dense] if dense else [])] for end in _ends(figure)]
    if not ends:
        return ""
    left = min(190.0, 24 + 7.2 * max(len(line.label) for line in shown))
    x = fitted([100 * end for end in ends], left, WIDTH - _RIGHT, bounds=(0.0, 100.0))
    body, bottom = [], float(_TOP)
    budget = None
    for line in shown:
        if line.budget != budget:
            budget = line.budget
            told = f"{100 * budget:g} % of the FLOPs"
            body.append(text(told, 0, bottom + 16, class_="strong"))
            bottom += _HEAD
        body += _line(line, x, bottom, left)
        bottom += _GAP + _LANE * max(1, len(line.figures))
    title = f"Test accuracy of {part.model.name} by method and way of training"
    return element(
        "svg",
        element("title", escape(title)),
        *_axis(x, bottom),
        *(_band(dense, x, bottom) if dense and dense.n else ()),
        *body,
        viewBox=f"0 0 {WIDTH} {bottom + _BOTTOM:g}",
        xmlns="http://www.w3.org/2000/svg",
        role="group",
        aria_label=title,
        class_="big arms",
    )


def _line(line: Line, x: Scale, top: float, left: float) -> Iterator[str]:
    room = int((left - 16) / 6.8)
    name = line.label if len(line.label) <= room else f"{line.label[: room - 1]}…"
    yield element("line", x1=0, x2=WIDTH - _RIGHT, y1=top, y2=top, class_="grid")
    yield text(name, 0, top + 17, class_="tick")
    for index, (arm, figure) in enumerate(line.figures.items()):
        y = top + _GAP / 2 + _LANE * (index + 0.5)
        drawn, point = look(arm), f"{line.key}-{arm}"
        for seed, accuracy in figure.accuracies.items():
            told = element("title", f"seed {seed}: {100 * accuracy:.2f} %")
            at = x(100 * accuracy)
            yield element(
                "circle", told, cx=at, cy=y, r=2.6, class_="seed " + drawn.colour, data_show=point
            )
        if figure.deviation is not None:
            low, high = (x(100 * end) for end in _spread(figure))
            ends = f"M{low:.1f} {y:.1f}H{high:.1f}M{low:.1f} {y - 3:.1f}v6M{high:.1f} {y - 3:.1f}v6"
            yield element("path", d=ends, class_="whisker")
        yield mark(
            drawn.shape,
            x(100 * (figure.mean or 0.0)),
            y,
            11,
            class_=f"{drawn.classes} point",
            tabindex="-1",
            role="img",
            data_point=point,
            aria_label=f"{line.label}, {words(arm)}, {100 * line.budget:g} % of the FLOPs: "
            f"{accuracy_of(figure)}",
        )


def _axis(x: Scale, bottom: float) -> Iterator[str]:
    for value in x.ticks():
        at = x(value)
        yield element("line", x1=at, x2=at, y1=_TOP, y2=bottom, class_="grid")
        yield text(f"{value:g}", at, bottom + 18, class_="tick", text_anchor="middle")
    middle = (x.start + x.end) / 2
    yield text("test accuracy, %", middle, bottom + 38, class_="label", text_anchor="middle")


def _band(dense: Figure, x: Scale, bottom: float) -> Iterator[str]:
    low, high = (x(100 * end) for end in _spread(dense))
    middle = x(100 * (dense.mean or 0.0))
    yield element(
        "rect", x=low, y=_TOP, width=max(high - low, 1.0), height=bottom - _TOP, class_="band"
    )
    yield element("line", x1=middle, x2=middle, y1=_TOP, y2=bottom, class_="dense-line")
    yield text("dense", middle, _TOP - 7, class_="note", text_anchor="middle")


def accuracy_of(figure: Figure) -> str:
    """Return a mean, its standard deviation and n in words; empty without any accuracy."""
    if figure.mean is None:
        return ""
    spread = "" if figure.deviation is None else f" ± {100 * figure.deviation:.2f}"
    return f"{100 * figure.mean:.2f}{spread} %, n = {figure.n}"


def _spread(figure: Figure) -> tuple[float, float]:
    mean, deviation = figure.mean or 0.0, figure.deviation or 0.0
    return max(0.0, mean - deviation), min(1.0, mean + deviation)


def _ends(figure: Figure) -> list[float]:
    return [*_spread(figure), *figure.accuracies.values()] if figure.n else []
