"""Shares as pictures: what the front keeps of each group, and what mattered."""

from collections.abc import Mapping

from prunenas.pictures.canvas import COLOURS, INK, Kind, canvas, drawn

_DARK = 0.55  # a share above which a cell's text is white


def profile_picture(
    rows: Mapping[str, Mapping[str, float]],
    importance: Mapping[str, float],
    *,
    title: str = "",
    kind: Kind = "png",
) -> bytes:
    """Draw the share of each channel group that architectures keep, as a heat map.

    Args:
        rows: By name of an architecture, top to bottom, the share in [0, 1] of each group; all
            have the same groups, one at least.
        importance: How much of the accuracies' spread each group's width explains, a line above;
            empty where that is not known.
        title: A line above the picture.
        kind: Of file.

    Returns:
        The picture.
    """
    from matplotlib.figure import Figure

    groups = list(next(iter(rows.values())))
    wide, high = 1.8 + 0.34 * max(len(groups), 8), 1.8 + 0.24 * (len(rows) + 1)
    figure = Figure(figsize=(wide, high), layout="constrained")
    heights = [1, len(rows)] if importance else [len(rows)]
    every = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    body = every[-1]
    shares = [[row[group] for group in groups] for row in rows.values()]
    image = body.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    image.set_gid("kept")
    if len(groups) <= 24:
        for y, row in enumerate(shares):
            for x, share in enumerate(row):
                colour = "white" if share > _DARK else INK
                told = f"{100 * share:.0f}"
                body.text(x, y, told, ha="center", va="center", color=colour, fontsize=7)
    body.set_yticks(range(len(rows)), list(rows), fontsize=8)
    body.set_xticks(range(len(groups)), groups, rotation=60, ha="right", fontsize=7)
    if importance:
        line = [[importance.get(group, 0.0) for group in groups]]
        every[0].imshow(line, cmap="Oranges", vmin=0.0, vmax=max(line[0]) or 1.0, aspect="auto")
        every[0].set_yticks([0], ["matters"], fontsize=8)
        every[0].set_xticks([])
    for axes in every:
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    what = "share kept of each group (%)"
    figure.suptitle(f"{title}: {what}" if title else what, fontsize=11)
    return drawn(figure, kind)


def importance_picture(
    shares: Mapping[str, Mapping[str, float]],
    *,
    title: str = "",
    limit: int = 20,
    kind: Kind = "png",
) -> bytes:
    """Draw how much of the accuracies' spread each parameter explains, as bars.

    Args:
        shares: By heading, the share in [0, 1] of each parameter, the largest first.
        title: A line above the picture.
        limit: How many bars under a heading, at most.
        kind: Of file.

    Returns:
        The picture.
    """
    rows: list[tuple[str, float | None]] = []
    for heading, found in shares.items():
        rows.append((heading, None))
        rows += list(found.items())[:limit]
    figure, axes = canvas(7.6, 1.2 + 0.25 * max(len(rows), 4))
    for place, (_, share) in enumerate(rows):
        if share is not None:
            axes.barh(place, 100 * share, height=0.7, color=COLOURS[0], gid=f"bar-{place}")
            axes.annotate(
                f"{100 * share:.0f} %",
                (100 * share, place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=INK,
            )
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    for label, (_, share) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if share is None else "normal")
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 112)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("Share of the spread of accuracies (%)")
    figure.suptitle(f"{title}: what mattered" if title else "What mattered", fontsize=11)
    return drawn(figure, kind)
