"""A study's page: its sections in order."""

from collections.abc import Mapping, Sequence
from html import escape

from prunenas.architecture import density_of
from prunenas.report import latency, reproduce
from prunenas.report.baselines import Baseline
from prunenas.report.charts import bars, curves_chart, front_chart, progress_chart
from prunenas.report.document import Figure, beside, document, legend
from prunenas.report.figures import compute, progress
from prunenas.report.looks import DENSE, hollow, key, looks
from prunenas.report.points import points
from prunenas.report.profile import heat_map
from prunenas.report.tables import number, parameters, percent, share, table
from prunenas.search.by_method import by_method
from prunenas.search.curse import curse
from prunenas.search.importance import ENOUGH, parameter_importance, width_importance
from prunenas.search.view import StudyView


def page(view: StudyView, baselines: Sequence[Baseline] = ()) -> str:
    """Return a study as one HTML page that asks nothing of any server.

    Args:
        view: The study, finished or not.
        baselines: What its front is held against.
    """
    widths = width_importance(view)
    sections = {
        "Front": _front(view, baselines),
        "Baselines": _baselines(view, baselines),
        "Widths": _widths(view, widths),
        "Learning curves": _curves(view),
        "What matters": _importance(view, widths),
        "Methods": _methods(view),
        "Fresh seeds": _repeats(view),
        "Latency": latency.section(view),
        "Progress and compute": _progress(view),
        "Trials": _trials(view),
        "Reproduce": reproduce.section(view),
    }
    settings = view.settings
    what = "accuracy against FLOPs" if len(view.directions) > 1 else "accuracy at a FLOPs budget"
    lead = (
        f"{settings['model']['name']} on {settings['data']['name']}: {what}. "
        f"{len(view.records)} of {view.trials_total} trials ended."
    )
    return document(view.name, lead, _figures(view), sections, points(view, baselines))


def _figures(view: StudyView) -> list[Figure]:
    best = max(view.final_front, key=lambda each: each.accuracy or 0.0, default=None)
    known = (
        "not trained here" if view.dense_accuracy is None else f"{view.dense_params:,} parameters"
    )
    found = [
        Figure("dense network", _accuracy(view), f"{view.dense_flops:,} FLOPs, {known}"),
        Figure("on the front", str(len(view.final_front)), "architectures"),
    ]
    if best is not None:
        ratio = f"{percent(best.flops_ratio, 1)} of FLOPs, trial {best.number}"
        found.append(Figure("most accurate", percent(best.accuracy), ratio))
    return found


def _accuracy(view: StudyView) -> str:
    return "–" if view.dense_accuracy is None else percent(view.dense_accuracy)


def _front(view: StudyView, baselines: Sequence[Baseline]) -> str:
    trained = [each for each in view.records if each.accuracy is not None]
    if not trained and not baselines:
        return "<p>No architecture has been trained yet.</p>"
    style = looks(trained) | hollow(list(dict.fromkeys(each.series for each in baselines)))
    known = view.dense_accuracy is not None
    more = [f"{key(DENSE)}dense network"] if known else []
    dense = "" if known else " The dense network is not drawn: no method has trained it."
    return (
        beside(front_chart(view, baselines), legend(style, *more), details="details")
        + '<p class="hint">Outlined marks are the front, dashed outlines uniform or random ones, '
        "faint marks stopped early. Point at a mark, or reach the chart with Tab and move with the "
        "arrow keys.</p><p>Accuracy is of the validation split, FLOPs are fused multiply-adds of "
        f"one input.{dense}</p>"
    )


def _baselines(view: StudyView, baselines: Sequence[Baseline]) -> str:
    if not baselines:
        return ""
    rows = [
        (
            each.series,
            each.name,
            each.network if each.own else f"{each.network} (another network)",
            share(each.accuracy),
            each.split,
            number(each.flops),
            share(each.flops / view.dense_flops),
            number(each.params),
            number(each.epochs),
            number(each.images),
        )
        for each in baselines
    ]
    heads = (
        "baseline",
        "which",
        "network",
        "accuracy, %",
        "split",
        "FLOPs",
        "FLOPs, %",
        "parameters",
        "epochs",
        "images",
    )
    told = ["Trained on the same data set, each by its own recipe."]
    if any(not each.own for each in baselines):
        told.append(
            "Another network is drawn at its FLOPs as a share of this study's dense network, "
            f"{view.dense_flops:,}."
        )
    if any(each.split == "test" for each in baselines):
        told.append(
            "Of some only the accuracy on the test split is known, as the table says: it is of "
            "other images than the study's own figures."
        )
    return f"<p>{escape(' '.join(told))}</p>{table(heads, rows)}"


def _widths(view: StudyView, importance: Mapping[str, float]) -> str:
    drawn = heat_map(view, view.final_front, importance)
    told = (
        "<p>Each row is an architecture of the front, each column a channel group; the stronger, "
        "the more is kept. Masked groups count by the density of their weights."
    )
    if importance:
        told += " Above: how much of the spread of accuracies the group's width explains."
    return f'{told}</p><div class="scroll">{drawn}</div>' if drawn else ""


def _curves(view: StudyView) -> str:
    drawn = curves_chart(view)
    return (
        f'<div class="scroll">{drawn}</div>{legend(looks(view.records))}'
        "<p>Bold, ending in their method's mark: the front. Dashed, ending in a cross: stopped "
        "early.</p>"
        if drawn
        else ""
    )


def _importance(view: StudyView, widths: Mapping[str, float]) -> str:
    parts = [
        f"<h3>{escape(method)}</h3>"
        + bars(_short(shares, method), title=f"Importance for {method}")
        for method, shares in parameter_importance(view).items()
    ]
    if widths:
        parts.append("<h3>widths, all methods</h3>" + bars(widths, title="Importance of widths"))
    if not parts:
        return (
            f"<p>Functional ANOVA needs {ENOUGH} complete trials of a method whose parameters "
            "vary.</p>"
        )
    return (
        "<p>Share of the spread of accuracies that each parameter explains (functional ANOVA over "
        "a random forest, Hutter et al. 2014). It says what mattered between the values that were "
        "tried, not in which direction.</p>" + "".join(parts)
    )


def _short(shares: Mapping[str, float], method: str) -> dict[str, float]:
    return {name.removeprefix(f"{method}/"): share for name, share in shares.items()}


def _methods(view: StudyView) -> str:
    found = by_method(view)
    if not found:
        return ""
    rows = [
        (
            each.method,
            number(each.n),
            share(each.mean),
            share(each.deviation),
            share(each.best.accuracy if each.best else None),
            number(each.hypervolume, 4),
            number(each.on_front),
        )
        for each in found
    ]
    heads = ("method", "architectures", "mean", "± std", "best", "hypervolume", "on the front")
    return (
        "<p>Each different architecture once; accuracies in %, of the search's one seed.</p>"
        + table(heads, rows)
    )


def _repeats(view: StudyView) -> str:
    if not view.ranking:
        return ""
    rows = [
        (
            number(each.record.number),
            each.record.method,
            share(each.mean),
            share(each.standard_error),
            number(each.n),
            share(each.record.accuracy),
            share(each.record.flops_ratio),
        )
        for each in view.ranking
    ]
    told = curse(view.ranking)
    sentence = f"<p>{escape(told.sentence())}</p>" if told is not None else ""
    heads = ("trial", "method", "fresh seeds", "± error", "n", "search", "FLOPs, %")
    return sentence + table(heads, rows)


def _progress(view: StudyView) -> str:
    found, spent = progress(view), compute(view)
    drawn = [progress_chart(found, compute=False), progress_chart(found, compute=True)]
    rows = [
        ("spent on trainings from scratch", f"{spent.spent:.2f} dense trainings"),
        ("saved, equal architectures trained once", f"{spent.reused:.2f} dense trainings"),
        ("saved, trials that ended early", f"{spent.stopped:.2f} dense trainings"),
        ("told at once, never trained", f"{spent.infeasible} trials"),
        ("wall time of all trials together", f"{spent.seconds / 60:.1f} minutes"),
    ]
    halves = "".join(f"<div>{each}</div>" for each in drawn if each)
    return f'<div class="halves">{halves}</div>' + table(("compute", ""), rows)


def _trials(view: StudyView) -> str:
    best = {each.number for each in view.final_front}
    timed = any(each.latency for each in view.records)
    federated = any(each.round_seconds for each in view.records)
    weighed = any(each.peak_activations for each in view.records)
    masked = any(density_of(each.architecture) is not None for each in view.records)
    heads = [
        "trial",
        "method",
        "state",
        "accuracy, %",
        "FLOPs, %",
        "parameters",
        *(["density, %"] if masked else []),
        *(["latency, ms"] if timed else []),
        *(["round, s"] if federated else []),
        *(["activations, bytes"] if weighed else []),
        "epochs",
        "seed",
        "training of",
        "proposed",
    ]
    rows = [
        (
            number(each.number),
            each.method,
            each.state if each.reason is None else f"{each.state}: {each.reason}",
            share(each.accuracy),
            share(each.flops_ratio),
            number(each.params),
            *([share(density_of(each.architecture))] if masked else []),
            *([number((each.latency or {}).get("median"), 3)] if timed else []),
            *([number(each.round_seconds, 3)] if federated else []),
            *([number(each.peak_activations)] if weighed else []),
            number(each.epochs),
            number(each.seeds.get("training")),
            each.reused or "",
            ", ".join(f"{name} {value}" for name, value in parameters(each).items()),
        )
        for each in view.records
    ]
    lines = ["best" if each.number in best else "" for each in view.records]
    return f"{table(heads, rows, sortable=True, classes=lines)}"
