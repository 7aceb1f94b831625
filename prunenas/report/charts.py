"""The drawings of a report: the front, learning curves, progress."""

from collections.abc import Mapping, Sequence
from html import escape

from prunenas.report.baselines import Baseline
from prunenas.report.figures import Progress, uniform
from prunenas.report.looks import hollow, looks
from prunenas.report.points import spoken
from prunenas.report.svg import (
    Frame,
    element,
    fitted,
    mark,
    path,
    stairs,
    text,
)
from prunenas.search.view import StudyView

WIDTH, HEIGHT = 760, 430
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 16, 48


def front_chart(view: StudyView, baselines: Sequence[Baseline] = ()) -> str:
    """Return accuracy against FLOPs: trained architectures, the front, dense, controls, baselines.

    Each mark can be focused, and carries what the page's script tells of it by.
    """
    shown = [each for each in view.records if each.accuracy is not None and each.flops_ratio]
    ratios = [100 * (each.flops_ratio or 0.0) for each in shown]
    ratios += [100 * each.flops / view.dense_flops for each in baselines]
    heights = [100 * (each.accuracy or 0.0) for each in shown if each.state == "complete"]
    heights += [100 * each.accuracy for each in baselines]
    if view.dense_accuracy is not None:
        ratios.append(100.0)
        heights.append(100 * view.dense_accuracy)
    log = bool(ratios) and max(ratios) > 12 * min(ratios)
    frame = Frame(
        WIDTH,
        HEIGHT,
        fitted(ratios, _LEFT, WIDTH - _RIGHT, log=log, bounds=(0.0, 1e9)),
        fitted(heights, HEIGHT - _BOTTOM, _TOP, bounds=(0.0, 100.0)),
        "FLOPs, % of the dense network's",
        "validation accuracy, %",
    )
    parts = []
    if len(view.directions) > 1:
        steps = [
            (frame.x(100 * (each.flops_ratio or 0)), frame.y(100 * (each.accuracy or 0)))
            for each in sorted(view.final_front, key=lambda each: each.flops or 0)
        ]
        parts.append(path(stairs(steps), class_="front"))
    controls = {each.number for each in uniform(view.records)}
    best = {each.number for each in view.final_front}
    style = looks(view.records)
    for each in sorted(shown, key=lambda each: (each.number in best, each.flops_ratio or 0)):
        classes = [style[each.method].classes, "point"]
        classes += ["best"] if each.number in best else []
        classes += ["stopped"] if each.state != "complete" else []
        classes += ["control"] if each.number in controls else []
        parts.append(
            mark(
                style[each.method].shape,
                frame.x(100 * (each.flops_ratio or 0)),
                frame.y(100 * (each.accuracy or 0)),
                13 if each.number in best else 10,
                class_=" ".join(classes),
                tabindex="-1",
                role="img",
                data_point=each.number,
                aria_label=spoken(each),
            )
        )
    parts += _baselines(view, baselines, frame)
    if view.dense_accuracy is not None:
        x, y = frame.x(100.0), frame.y(100 * view.dense_accuracy)
        told = f"dense network, {100 * view.dense_accuracy:.2f} % accuracy"
        parts.append(mark("star", x, y, 15, class_="dense", role="img", aria_label=told))
        parts.append(text("dense", x - 10, y + 18, class_="note", text_anchor="end"))
    return frame.drawn(
        *parts, title="Accuracy against FLOPs of every architecture", id="front-chart", class_="big"
    )


def _baselines(view: StudyView, baselines: Sequence[Baseline], frame: Frame) -> list[str]:
    style = hollow(list(dict.fromkeys(each.series for each in baselines)))
    return [
        mark(
            style[each.series].shape,
            frame.x(100 * each.flops / view.dense_flops),
            frame.y(100 * each.accuracy),
            12,
            class_=f"{style[each.series].classes} point baseline",
            tabindex="-1",
            role="img",
            data_point=f"baseline-{index}",
            aria_label=f"{each.series}, {each.name}, {100 * each.accuracy:.2f} % {each.split} "
            f"accuracy, {100 * each.flops / view.dense_flops:.1f} % of the FLOPs",
        )
        for index, each in enumerate(baselines)
    ]


def curves_chart(view: StudyView) -> str:
    """Return validation accuracy over epochs: the front bold, stopped trials dashed."""
    shown = [each for each in view.records if len(each.curve) > 1]
    if not shown:
        return ""
    best = {each.number for each in view.final_front}
    epochs = [float(point["epoch"]) for each in shown for point in each.curve]
    heights = [100 * point["validation_accuracy"] for each in shown for point in each.curve]
    frame = Frame(
        WIDTH,
        HEIGHT - 60,
        fitted([1.0, max(epochs)], _LEFT, WIDTH - _RIGHT, bounds=(0.0, 1e9)),
        fitted(heights, HEIGHT - 60 - _BOTTOM, _TOP, bounds=(0.0, 100.0)),
        "epochs",
        "validation accuracy, %",
    )
    style = looks(view.records)
    parts = []
    for each in sorted(shown, key=lambda each: each.number in best):
        points = [
            (frame.x(point["epoch"]), frame.y(100 * point["validation_accuracy"]))
            for point in each.curve
        ]
        colour = style[each.method].colour
        classes = ["curve", colour]
        classes += ["best"] if each.number in best else []
        classes += ["stopped"] if each.state != "complete" else []
        parts.append(path(points, class_=" ".join(classes), data_curve=each.number))
        x, y = points[-1]
        if each.number in best:
            look = style[each.method]
            parts.append(mark(look.shape, x, y, 9, class_=look.classes))
        if each.state == "stopped":
            parts.append(mark("cross", x, y, 7, class_=f"{colour} end"))
    return frame.drawn(*parts, title="Validation accuracy over epochs", class_="big")


def progress_chart(found: Sequence[Progress], *, compute: bool) -> str:
    """Return hypervolume over trials, or over compute."""
    if len(found) < 2:
        return ""
    across = [each.compute if compute else float(each.trials) for each in found]
    frame = Frame(
        WIDTH / 2,
        260,
        fitted([0.0, *across], _LEFT, WIDTH / 2 - _RIGHT, bounds=(0.0, 1e9)),
        fitted([each.hypervolume for each in found], 260 - _BOTTOM, _TOP, bounds=(0.0, 1.0)),
        "compute, dense trainings" if compute else "trials",
        "hypervolume",
    )
    points = [
        (frame.x(x), frame.y(each.hypervolume)) for x, each in zip(across, found, strict=True)
    ]
    what = "compute" if compute else "trials"
    return frame.drawn(
        path(stairs(points), class_="front"), title=f"Hypervolume over {what}", class_="half"
    )


def bars(shares: Mapping[str, float], *, title: str, limit: int = 20) -> str:
    """Return shares of 1 as bars, the largest first."""
    shown = list(shares.items())[:limit]
    if not shown:
        return ""
    longest = max(len(name) for name, _ in shown)
    left = min(280, 16 + 7.0 * longest)
    top = max(share for _, share in shown) or 1.0
    rows = []
    for index, (name, share) in enumerate(shown):
        y = 8 + 24 * index
        length = (WIDTH - left - 80) * share / top
        rows.append(text(name, left - 8, y + 13, class_="tick", text_anchor="end"))
        rows.append(element("rect", x=left, y=y, width=max(length, 1.0), height=16, class_="bar"))
        rows.append(text(f"{100 * share:.0f} %", left + length + 6, y + 13, class_="tick"))
    height = 16 + 24 * len(shown)
    drawn = element(
        "svg",
        element("title", escape(title)),
        *rows,
        viewBox=f"0 0 {WIDTH} {height}",
        xmlns="http://www.w3.org/2000/svg",
        role="img",
        aria_label=title,
        class_="bars",
        style=f"max-width:{WIDTH}px",
    )
    return f'<div class="scroll">{drawn}</div>'
