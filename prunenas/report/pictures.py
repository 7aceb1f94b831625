"""The page's charts as files, for papers and slides."""

from collections.abc import Callable, Sequence

from prunenas import pictures as draw
from prunenas.report.baselines import Baseline
from prunenas.report.figures import progress
from prunenas.report.latency import measured
from prunenas.report.profile import kept, rows
from prunenas.search.importance import parameter_importance, width_importance
from prunenas.search.view import StudyView

KINDS: tuple[draw.Kind, ...] = ("png", "svg")


def pictures(view: StudyView, baselines: Sequence[Baseline] = ()) -> dict[str, bytes]:
    """Return each chart of a study's page as PNG and SVG, by file name.

    Charts that have nothing to show are left out. The same study gives the same files.
    """
    charts = _charts(view, baselines)
    return {f"{name}.{kind}": picture(kind) for name, picture in charts.items() for kind in KINDS}


def _charts(
    view: StudyView, baselines: Sequence[Baseline]
) -> dict[str, Callable[[draw.Kind], bytes]]:
    records = [record.to_dict() for record in view.records]
    dense = {"flops": view.dense_flops, "accuracy": view.dense_accuracy}
    others = [each.to_dict() for each in baselines]
    complete = [each for each in view.records if each.state == "complete"]
    title = view.name
    charts: dict[str, Callable[[draw.Kind], bytes]] = {}
    if complete or others:
        charts["front"] = lambda kind: draw.front_picture(
            records, dense, title=title, baselines=others, kind=kind
        )
    groups, widths = list(view.dense_widths), width_importance(view)
    if groups and view.final_front:
        shares = {
            f"trial {record.number}, {100 * (record.flops_ratio or 0):.1f} %": kept(record, groups)
            for record in rows(view.final_front)
        }
        charts["widths"] = lambda kind: draw.profile_picture(shares, widths, title=title, kind=kind)
    if any(len(record.curve) > 1 for record in view.records):
        best = {record.number for record in view.final_front}
        charts["curves"] = lambda kind: draw.curves_picture(records, best, title=title, kind=kind)
    mattered = parameter_importance(view) | ({"widths, all methods": widths} if widths else {})
    if mattered:
        charts["importance"] = lambda kind: draw.importance_picture(
            mattered, title=title, kind=kind
        )
    if len({record.method for record in complete}) > 1:
        by_method = draw.method_fronts_picture if len(view.directions) > 1 else draw.methods_picture
        charts["methods"] = lambda kind: by_method(records, dense, title=title, kind=kind)
    if len(found := progress(view)) > 1:
        charts["progress"] = lambda kind: draw.progress_picture(
            [each.trials for each in found],
            [each.compute for each in found],
            [each.hypervolume for each in found],
            title=title,
            kind=kind,
        )
    if timed := measured(view.records):
        latencies = [record.to_dict() for record in timed]
        clocked = {**dense, "latency_ms": view.dense_latency_ms}
        charts["latency"] = lambda kind: draw.latency_picture(
            latencies, clocked, title=title, kind=kind
        )
    return charts
