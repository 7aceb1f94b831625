"""A study over time: learning curves, and the hypervolume that it reached."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from prunenas.pictures.canvas import INK, Kind, canvas, drawn, styles


def curves_picture(
    records: Sequence[Mapping[str, Any]],
    best: Collection[int],
    *,
    title: str = "",
    kind: Kind = "png",
) -> bytes:
    """Draw validation accuracy over epochs: the front bold, what was stopped early dashed.

    Args:
        records: Trials as ``prunenas.trial.Record.to_dict`` gives them; those of fewer than two
            epochs are left out.
        best: Numbers of the trials on the front.
        title: A line above the picture; the study's name where omitted.
        kind: Of file.

    Returns:
        The picture.
    """
    from matplotlib.ticker import MaxNLocator

    shown = [record for record in records if len(record["curve"]) > 1]
    figure, axes = canvas(7.6, 4.6)
    looks, labelled = styles(shown), set[str]()
    for record in sorted(shown, key=lambda each: each["number"] in best):
        look = looks[record["method"]]
        stopped, own = record["state"] != "complete", record["number"] in best
        label = record["method"] if record["method"] not in labelled else None
        labelled.add(record["method"])
        axes.plot(
            [point["epoch"] for point in record["curve"]],
            [100 * point["validation_accuracy"] for point in record["curve"]],
            color=look["color"] if look["color"] != "white" else look["markeredgecolor"],
            linewidth=2.0 if own else 0.9,
            alpha=1.0 if own else 0.4,
            linestyle=(0, (4, 3)) if stopped else "-",
            label=label,
            gid=f"curve-{record['number']}",
        )
        if record["state"] == "stopped":
            last = record["curve"][-1]
            height = 100 * last["validation_accuracy"]
            axes.plot(last["epoch"], height, "x", color=INK, markersize=5)
    axes.set_xlabel("Epochs")
    axes.set_ylabel("Validation accuracy (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(
        f"{title}: {len(shown)} trainings, the front bold" if title else "", fontsize=11
    )
    legend = figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    for line in legend.get_lines():
        line.set(alpha=1.0, linewidth=2.0, linestyle="-")
    return drawn(figure, kind)


def progress_picture(
    trials: Sequence[float],
    compute: Sequence[float],
    hypervolume: Sequence[float],
    *,
    title: str = "",
    kind: Kind = "png",
) -> bytes:
    """Draw the hypervolume that a study had reached, over trials and over compute.

    Args:
        trials: How many had ended.
        compute: Dense trainings spent by then.
        hypervolume: By then, in [0, 1]; as many as of the others.
        title: A line above the picture.
        kind: Of file.

    Returns:
        The picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 3.4), layout="constrained")
    for axes, across, label, what in zip(
        figure.subplots(1, 2, sharey=True),
        (trials, compute),
        ("Trials", "Compute (dense trainings)"),
        ("trials", "compute"),
        strict=True,
    ):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e4e4e4", linewidth=0.7)
        axes.step(
            across, hypervolume, where="post", color=INK, linewidth=1.4, gid=f"progress-{what}"
        )
        axes.set_xlim(left=0)
        axes.set_xlabel(label)
    figure.axes[0].set_ylabel("Hypervolume")
    figure.suptitle(f"{title}: hypervolume" if title else "Hypervolume", fontsize=11)
    return drawn(figure, kind)
