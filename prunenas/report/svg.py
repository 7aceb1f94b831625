"""Drawing with text: SVG elements, and axes that fit their numbers.

Colours are CSS variables of the page (``page.css``), so that one drawing is right in the light, in
the dark and in print. Lengths are in CSS pixels of the drawing's own ``viewBox``.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

SHAPES = (
    "circle", "square", "triangle", "diamond", "down", "plus", "cross", "pentagon", "hexagon",
    "left", "right",
)  # fmt: skip
"""Marks that differ without colour, in the order of ``pictures``' markers."""


def element(name: str, *inside: str, **attributes: Any) -> str:
    """Return an element; a trailing ``_`` of an attribute is dropped, others become ``-``.

    What stands inside is markup; values of attributes are escaped, None leaves one out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{given}>{''.join(inside)}</{name}>" if inside else f"<{name}{given}/>"


def text(said: str, x: float, y: float, **attributes: Any) -> str:
    """Return a text at a place."""
    return element("text", escape(said), x=x, y=y, **attributes)


def mark(shape: str, x: float, y: float, size: float, **attributes: Any) -> str:
    """Return a mark of about ``size`` in height, centred."""
    half = size / 2
    if shape == "circle":
        return element("circle", cx=x, cy=y, r=half, **attributes)
    if shape == "square":
        side = size * 0.9
        return element(
            "rect", x=x - side / 2, y=y - side / 2, width=side, height=side, **attributes
        )
    shapes: dict[str, list[tuple[float, float]]] = {
        "triangle": [(0, -1.1), (1, 0.8), (-1, 0.8)],
        "down": [(0, 1.1), (1, -0.8), (-1, -0.8)],
        "diamond": [(0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)],
        "thin": [(0, -1.25), (0.75, 0), (0, 1.25), (-0.75, 0)],
        "left": [(-1.1, 0), (0.8, -1), (0.8, 1)],
        "right": [(1.1, 0), (-0.8, -1), (-0.8, 1)],
        "cross": _turned(_plus(), 45),
        "plus": _plus(),
        "pentagon": _around([1.1] * 5),
        "hexagon": _around([1.1] * 6),
        "star": _around([1.3, 0.55] * 5),
    }
    corners = shapes[shape]
    points = " ".join(f"{x + half * a:.1f},{y + half * b:.1f}" for a, b in corners)
    return element("polygon", points=points, **attributes)


@dataclass(frozen=True)
class Scale:
    """From values to places along an axis.

    Attributes:
        low: The smallest value shown.
        high: The largest, above ``low``.
        start: The place of the smallest.
        end: The place of the largest; may lie before ``start``.
        log: Whether equal factors are equal lengths; values are above 0 then.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of a value; one beyond the ends lies at the end."""
        inside = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(inside / self.low) / math.log(self.high / self.low)
        else:
            share = (inside - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 6) -> list[float]:
        """Return round values within the axis, about so many."""
        if self.log:
            return _log_ticks(self.low, self.high)
        step = _round_step((self.high - self.low) / max(1, count - 1))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(step * index, 12) for index in range(first, last + 1)]


def fitted(
    values: Iterable[float],
    start: float,
    end: float,
    *,
    log: bool = False,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Scale:
    """Return a scale with a little room beyond the values, within the bounds of what can be."""
    known = [value for value in values if math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if log:
        low, high = max(low, 1e-12), max(high, 1e-12)
        room = max((high / low) ** 0.05, 1.05)
        return Scale(low / room, high * room, start, end, log=True)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return Scale(max(low - room, bounds[0]), min(high + room, bounds[1]), start, end)


@dataclass(frozen=True)
class Frame:
    """A drawing with two axes.

    Attributes:
        width: Of the drawing.
        height: Of the drawing.
        x: Scale from left to right.
        y: Scale from bottom to top.
        x_label: What the horizontal axis shows.
        y_label: What the vertical one shows.
        x_text: How a value on the horizontal axis is written.
        y_text: Likewise.
    """

    width: float
    height: float
    x: Scale
    y: Scale
    x_label: str
    y_label: str
    x_text: Any = "{:g}".format
    y_text: Any = "{:g}".format

    def drawn(self, *inside: str, title: str, **attributes: Any) -> str:
        """Return the drawing: a grid, the axes, and what stands inside."""
        parts = [element("title", escape(title))]
        for value in self.x.ticks():
            at = self.x(value)
            parts.append(
                element("line", x1=at, x2=at, y1=self.y.start, y2=self.y.end, class_="grid")
            )
            parts.append(
                text(self.x_text(value), at, self.y.start + 18, class_="tick", text_anchor="middle")
            )
        for value in self.y.ticks():
            at = self.y(value)
            parts.append(
                element("line", x1=self.x.start, x2=self.x.end, y1=at, y2=at, class_="grid")
            )
            parts.append(
                text(self.y_text(value), self.x.start - 8, at + 4, class_="tick", text_anchor="end")
            )
        middle = (self.x.start + self.x.end) / 2
        parts.append(
            text(self.x_label, middle, self.height - 6, class_="label", text_anchor="middle")
        )
        centre = (self.y.start + self.y.end) / 2
        parts.append(
            text(
                self.y_label,
                14,
                centre,
                class_="label",
                text_anchor="middle",
                transform=f"rotate(-90 14 {centre:.1f})",
            )
        )
        return element(
            "svg",
            *parts,
            *inside,
            viewBox=f"0 0 {self.width:g} {self.height:g}",
            xmlns="http://www.w3.org/2000/svg",
            role="group",
            aria_label=title,
            **attributes,
        )


def path(points: Sequence[tuple[float, float]], **attributes: Any) -> str:
    """Return a line through places; nothing for fewer than two."""
    if len(points) < 2:
        return ""
    steps = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return element("path", d=f"M{steps}", fill="none", **attributes)


def stairs(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the corners of a staircase through places, each level kept until the next place."""
    found: list[tuple[float, float]] = []
    for x, y in points:
        if found:
            found.append((x, found[-1][1]))
        found.append((x, y))
    return found


def _short(value: Any) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _plus() -> list[tuple[float, float]]:
    a, b = 0.38, 1.15
    return [
        (-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a),
        (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a),
    ]  # fmt: skip


def _around(radii: list[float]) -> list[tuple[float, float]]:
    """Corners at these distances, clockwise from the top."""
    step = 2 * math.pi / len(radii)
    return [(r * math.sin(step * i), -r * math.cos(step * i)) for i, r in enumerate(radii)]


def _turned(corners: list[tuple[float, float]], degrees: float) -> list[tuple[float, float]]:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [(a * c - b * s, a * s + b * c) for a, b in corners]


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * step for step in (1, 2, 2.5, 5, 10) if power * step >= least * (1 - 1e-9))


def _log_ticks(low: float, high: float) -> list[float]:
    digits: tuple[float, ...] = (1, 2, 5) if high / low < 300 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [digit * 10.0**power for power in powers for digit in digits]
    return [value for value in found if low <= value <= high]
