"""Federated trainings over time: accuracy by what rounds take, and how dense networks are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunenas.pictures.canvas import COLOURS, GREY, Kind, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class FederatedCurve:
    """One training.

    Attributes:
        rounds: At its validations, ascending.
        seconds: What these rounds take together, by the time model.
        accuracies: In [0, 1].
        densities: In (0, 1].
    """

    rounds: Sequence[int]
    seconds: Sequence[float]
    accuracies: Sequence[float]
    densities: Sequence[float]


def federated_picture(
    curves: Mapping[str, Sequence[FederatedCurve]],
    *,
    target: float | None = None,
    title: str = "",
    kind: Kind = "png",
) -> bytes:
    """Draw validation accuracy over modelled time, and density over rounds.

    Each seed is a thin line, and the mean over seeds a thick one: at each validation the mean of
    its time and of its accuracy.

    Args:
        curves: For each strategy its trainings, one for each seed.
        target: An accuracy to be reached, in [0, 1]; a dashed line.
        title: A line above the picture.
        kind: Of file.

    Returns:
        The picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    over_time, over_rounds = figure.subplots(1, 2, width_ratios=(3, 2))
    for axes in (over_time, over_rounds):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e4e4e4", linewidth=0.7)
        axes.set_axisbelow(True)
    unit, name = _unit(curves)
    for index, (strategy, trainings) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        times = [[each / unit for each in curve.seconds] for curve in trainings]
        rights = [[100 * each for each in curve.accuracies] for curve in trainings]
        dense = [[100 * each for each in curve.densities] for curve in trainings]
        counts = [list(map(float, curve.rounds)) for curve in trainings]
        _lines(over_time, times, rights, colour, f"accuracy-{strategy}", strategy)
        _lines(over_rounds, counts, dense, colour, f"density-{strategy}", None)
    if target is not None:
        over_time.axhline(100 * target, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    over_time.set_xlim(left=0)
    over_time.set_xlabel(f"Modelled time of the rounds ({name})")
    over_time.set_ylabel("Validation accuracy (%)")
    over_rounds.set_xlim(left=0)
    over_rounds.set_ylim(0, 103)
    over_rounds.set_xlabel("Rounds")
    over_rounds.set_ylabel("Weights kept (%)")
    if title:
        figure.suptitle(title, fontsize=11)
    figure.legend(loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    return drawn(figure, kind)


def _lines(
    axes: "Axes",
    across: Sequence[Sequence[float]],
    up: Sequence[Sequence[float]],
    colour: str,
    gid: str,
    label: str | None,
) -> None:
    """Each training as a thin line, and their mean, as far as all go."""
    for xs, ys in zip(across, up, strict=True):
        axes.plot(xs, ys, color=colour, linewidth=0.8, alpha=0.35)
    xs, ys = _mean(across), _mean(up)
    axes.plot(xs, ys, color=colour, linewidth=2.0, label=label, gid=gid)


def _mean(rows: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) / len(column) for column in zip(*rows, strict=False)]


def _unit(curves: Mapping[str, Sequence[FederatedCurve]]) -> tuple[float, str]:
    """Seconds, or what the longest training reads better in."""
    most = max((c.seconds[-1] for each in curves.values() for c in each if c.seconds), default=0.0)
    for size, name in ((86_400.0, "days"), (3_600.0, "hours"), (60.0, "minutes")):
        if most >= 3 * size:
            return size, name
    return 1.0, "seconds"
