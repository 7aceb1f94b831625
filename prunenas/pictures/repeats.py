"""What fresh seeds say, as a picture: each candidate's search score against its fresh mean."""

from collections.abc import Mapping, Sequence
from typing import Any

from prunenas.pictures.canvas import GREY, INK, canvas, png, styles


def repeats_picture(
    candidates: Sequence[Mapping[str, Any]],
    curse: Mapping[str, Any] | None = None,
    *,
    title: str = "",
) -> bytes:
    """Draw fresh-seed means, with standard errors, against search scores.

    A candidate on the diagonal keeps what its search score promised; below it, it promised too
    much.

    Args:
        candidates: Of each ``trial``, ``method``, ``search_accuracy``, ``mean`` and
            ``standard_error``; those without a mean are left out.
        curse: The winner's curse's ``mean``, ``standard_error`` and ``n``; a line parallel to the
            diagonal shows it.
        title: A line above the picture.

    Returns:
        The picture as PNG.
    """
    shown = [each for each in candidates if each["mean"] is not None]
    figure, axes = canvas(6.2, 5.8)
    ends = [100 * each["search_accuracy"] for each in shown]
    for each in shown:
        error = each["standard_error"] or 0.0
        ends += [100 * (each["mean"] - error), 100 * (each["mean"] + error)]
    low, high = min(ends, default=0.0), max(ends, default=100.0)
    margin = max(0.09 * (high - low), 0.2)
    low, high = low - margin, high + margin
    axes.plot(
        [low, high], [low, high], color=GREY, linewidth=1.0, label="as good as its search score"
    )
    if curse is not None:
        error = curse["standard_error"]
        told = f"{100 * curse['mean']:.2f}" + (f" ± {100 * error:.2f}" if error is not None else "")
        axes.plot(
            [low, high],
            [low - 100 * curse["mean"], high - 100 * curse["mean"]],
            color=INK,
            linewidth=1.0,
            linestyle=(0, (4, 3)),
            label=f"winner's curse, {told} points",
        )
    for name, style in styles(shown).items():
        of_method = [each for each in shown if each["method"] == name]
        axes.errorbar(
            [100 * each["search_accuracy"] for each in of_method],
            [100 * each["mean"] for each in of_method],
            yerr=[100 * (each["standard_error"] or 0.0) for each in of_method],
            linestyle="none",
            markersize=7,
            markeredgewidth=1.1,
            ecolor=INK,
            elinewidth=1.1,
            capsize=3,
            label=name,
            zorder=4,
            **style,
        )
    for each in shown:
        axes.annotate(
            str(each["trial"]),
            (100 * each["search_accuracy"], 100 * each["mean"]),
            xytext=(7, -11),
            textcoords="offset points",
            fontsize=8,
            color=INK,
            zorder=5,
        )
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal")
    axes.set_xlabel("Validation accuracy in the search (%)")
    axes.set_ylabel("Validation accuracy, fresh seeds: mean ± standard error (%)")
    number = f"{len(shown)} candidate{'' if len(shown) == 1 else 's'} trained again"
    figure.suptitle(f"{title}: {number}" if title else number, fontsize=11)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return png(figure)
