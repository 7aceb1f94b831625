"""The page: sections in order, with everything they need inside."""

import json
from collections.abc import Mapping
from html import escape
from importlib.resources import files

from prunenas.architecture import density_of
from prunenas.report.charts import (
    bars,
    curves_chart,
    front_chart,
    looks,
    progress_chart,
)
from prunenas.report.figures import compute, progress
from prunenas.report.profile import heat_map, kept
from prunenas.report.svg import element, mark
from prunenas.report.tables import number, percent, plain, share, table
from prunenas.search.by_method import by_method
from prunenas.search.curse import curse
from prunenas.search.importance import ENOUGH, parameter_importance, width_importance
from prunenas.search.view import StudyView
from prunenas.trial import Record


def page(view: StudyView) -> str:
    """Return a study as one HTML page that asks nothing of any server.

    Args:
        view: The study, finished or not.
    """
    widths = width_importance(view)
    sections = {
        "Front": _front(view),
        "Widths": _widths(view, widths),
        "Learning curves": _curves(view),
        "What matters": _importance(view, widths),
        "Methods": _methods(view),
        "Fresh seeds": _repeats(view),
        "Progress and compute": _progress(view),
        "Trials": _trials(view),
        "Reproduce": _reproduce(view),
    }
    shown = {name: body for name, body in sections.items() if body}
    links = "".join(f'<a href="#{_anchor(name)}">{name}</a>' for name in shown)
    body = "".join(
        f'<section id="{_anchor(name)}"><h2>{name}</h2>{inside}</section>'
        for name, inside in shown.items()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # No icon: the browser would ask the server for one.
        f'<title>{escape(view.name)}</title><link rel="icon" href="data:,">'
        f"<style>{_resource('page.css')}</style></head><body>"
        f'{_head(view)}<nav aria-label="Sections">{links}</nav><main>{body}</main>'
        f'<script type="application/json" id="trial-data">{_data(view)}</script>'
        f"<script>{_resource('page.js')}</script></body></html>\n"
    )


def _head(view: StudyView) -> str:
    settings = view.settings
    what = "accuracy against FLOPs" if len(view.directions) > 1 else "accuracy at a FLOPs budget"
    lead = (
        f"{settings['model']['name']} on {settings['data']['name']}: {what}. "
        f"{len(view.records)} of {view.trials_total} trials ended."
    )
    best = max(view.final_front, key=lambda each: each.accuracy or 0.0, default=None)
    facts = [
        ("dense network", percent(view.dense_accuracy), f"{view.dense_flops:,} FLOPs"),
        ("on the front", str(len(view.final_front)), "architectures"),
    ]
    if best is not None:
        facts.append(
            ("most accurate", percent(best.accuracy), f"{percent(best.flops_ratio, 1)} of FLOPs")
        )
    items = "".join(
        f"<li><span>{escape(name)}</span><b>{escape(value)}</b><span>{escape(more)}</span></li>"
        for name, value, more in facts
    )
    return (
        f'<header><h1>{escape(view.name)}</h1><p class="lead">{escape(lead)}</p>'
        f'<ul class="figures">{items}</ul></header>'
    )


def _front(view: StudyView) -> str:
    style = looks(list(dict.fromkeys(each.method for each in view.records)))
    legend = "".join(
        f"<li>{_key(shape, colour)}{escape(name)}</li>" for name, (colour, shape) in style.items()
    )
    return (
        '<div class="beside"><div>'
        + front_chart(view)
        + f'<ul class="legend">{legend}<li>{_key("star", "dense")}dense network</li></ul></div>'
        '<aside id="details" aria-live="polite"></aside></div>'
        '<p class="hint">Outlined marks are the front, dashed outlines uniform or random ones, '
        "faint marks stopped early. Point at a mark, or reach the chart with Tab and move with the "
        "arrow keys. Accuracy is of the validation split, FLOPs are fused multiply-adds of one "
        "input.</p>"
    )


def _widths(view: StudyView, importance: Mapping[str, float]) -> str:
    drawn = heat_map(view, view.final_front, importance)
    told = (
        "<p>Each row is an architecture of the front, each column a channel group; the darker, the "
        "more is kept. Masked groups count by the density of their weights."
    )
    if importance:
        told += " Above: how much of the spread of accuracies the group's width explains."
    return f'{told}</p><div class="scroll">{drawn}</div>' if drawn else ""


def _curves(view: StudyView) -> str:
    drawn = curves_chart(view)
    return f"{drawn}<p class='hint'>Bold: the front. Dashed: stopped early.</p>" if drawn else ""


def _importance(view: StudyView, widths: Mapping[str, float]) -> str:
    parts = [
        f"<h3>{escape(method)}</h3>" + bars(shares, title=f"Importance for {method}")
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
    rows = [
        (
            number(each.number),
            each.method,
            each.state,
            share(each.accuracy),
            share(each.flops_ratio),
            number(each.params),
            share(density_of(each.architecture)),
            number(each.epochs),
            each.reused or "",
            ", ".join(f"{name} {plain(value)}" for name, value in each.parameters.items()),
        )
        for each in view.records
    ]
    heads = (
        "trial",
        "method",
        "state",
        "accuracy, %",
        "FLOPs, %",
        "parameters",
        "density, %",
        "epochs",
        "training of",
        "proposed",
    )
    lines = ["best" if each.number in best else "" for each in view.records]
    return f'<div class="scroll">{table(heads, rows, sortable=True, classes=lines)}</div>'


def _reproduce(view: StudyView) -> str:
    last = view.records[-1] if view.records else None
    versions = dict(last.versions) if last else {}
    listed = ", ".join(f"{name} {number}" for name, number in versions.items())
    search = view.settings["search"]
    return (
        "<p>The study, as it was run:</p>"
        f"<pre>{escape(view.text) or escape(json.dumps(view.settings, indent=2))}</pre>"
        f"<p>Sampler seed {search['seed']}; each trial's own seeds are in its record. Versions: "
        f"{escape(listed)}.</p>"
        "<p>One architecture, with its weights, and its training again from scratch:</p>"
        f"<pre>prunenas export {escape(view.name)} exports --trial NUMBER --weights\n"
        f"prunenas train exports/trial_NUMBER --data {escape(view.settings['data']['name'])} "
        "--recipe STUDY.yaml --out exports/again</pre>"
    )


def _data(view: StudyView) -> str:
    groups = list(view.dense_widths)
    known = [
        {
            "number": each.number,
            "method": each.method,
            "facts": _facts(each),
            "kept": [
                [group, round(part, 4), _told(view, each, group, part)]
                for group, part in kept(each, groups).items()
            ],
        }
        for each in view.records
        if each.accuracy is not None and each.architecture is not None
    ]
    # "</script>" within a name would end the element.
    return json.dumps(known, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _facts(record: Record) -> list[tuple[str, str]]:
    found = [
        ("accuracy", percent(record.accuracy)),
        ("FLOPs", f"{record.flops or 0:,} ({percent(record.flops_ratio, 1)})"),
        ("parameters", f"{record.params or 0:,}"),
        ("state", record.state),
    ]
    density = density_of(record.architecture)
    if density is not None:
        found.append(("density", percent(density, 1)))
    own = f"{record.method}/"
    found += [
        (name.removeprefix(own), plain(value))
        for name, value in record.parameters.items()
        if name not in ("method", "flops_ratio")
    ][:12]
    return found


def _told(view: StudyView, record: Record, group: str, share: float) -> str:
    dense, ratio = view.dense_widths[group], record.ratios.get(group, 0.0)
    if share < ratio:
        return f"{100 * share:.1f} % of weights"
    return f"{round(ratio * dense)} of {dense}"


def _key(shape: str, colour: str) -> str:
    return element(
        "svg", mark(shape, 7, 7, 10, class_=colour), viewBox="0 0 14 14", aria_hidden="true"
    )


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _resource(name: str) -> str:
    return files("prunenas.report").joinpath(name).read_text(encoding="utf-8")
