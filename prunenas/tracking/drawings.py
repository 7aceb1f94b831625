"""Which pictures the run of a study has."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DrawStudy = Callable[[Sequence[Mapping[str, Any]], Mapping[str, Any]], bytes]
"""Draws a study (records, dense) as PNG."""


@dataclass(frozen=True)
class Drawing:
    """A picture of a study.

    Attributes:
        name: Of its file, without the ending.
        title: What it shows.
        draw: Makes it.
    """

    name: str
    title: str
    draw: DrawStudy

    @property
    def file(self) -> str:
        """Its name among the run's artifacts."""
        return f"{self.name}.png"


def drawings(
    records: Sequence[Mapping[str, Any]],
    *,
    front: DrawStudy | None,
    methods: DrawStudy | None,
    latency: DrawStudy | None,
) -> list[Drawing]:
    """Return those that have something to show, of the ones there is a way to draw.

    Args:
        records: Of all trials.
        front: Draws accuracy against FLOPs.
        methods: Draws methods side by side, where complete trials are of more than one.
        latency: Draws FLOPs against latency, where it was measured.
    """
    several = len({each["method"] for each in records if each["state"] == "complete"}) > 1
    timed = any(each.get("latency") for each in records)
    every = (
        ("front", "Accuracy against FLOPs", front, bool(records)),
        ("methods", "Accuracy by method", methods, several),
        ("latency", "FLOPs against latency", latency, timed),
    )
    return [Drawing(name, title, draw) for name, title, draw, worth in every if draw and worth]
