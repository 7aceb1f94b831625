"""A page's frame: style, script and data inside, so that it asks nothing of any server."""

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any, NamedTuple

from prunenas.report.looks import Look, key


class Figure(NamedTuple):
    """A number at the top of a page: what it is, its value, and more about it."""

    name: str
    value: str
    more: str


def document(
    title: str,
    lead: str,
    figures: Sequence[Figure],
    sections: Mapping[str, str],
    points: Mapping[str, Mapping[str, Any]],
) -> str:
    """Return a page.

    Args:
        title: Its heading.
        lead: A sentence below.
        figures: Numbers below that.
        sections: Markup by heading; empty ones are left out.
        points: What is shown beside a chart of a mark with this ``data-point``: ``title``,
            ``facts`` (names and values), ``kept`` (group, share or None, words) and ``command``.
    """
    shown = {name: body for name, body in sections.items() if body}
    links = "".join(f'<a href="#{_anchor(name)}">{escape(name)}</a>' for name in shown)
    body = "".join(
        f'<section id="{_anchor(name)}"><h2>{escape(name)}</h2>{inside}</section>'
        for name, inside in shown.items()
    )
    items = "".join(
        f"<li><span>{escape(each.name)}</span><b>{escape(each.value)}</b>"
        f"<span>{escape(each.more)}</span></li>"
        for each in figures
    )
    data = json.dumps(points, ensure_ascii=False, allow_nan=False)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # No icon: the browser would ask the server for one.
        f'<title>{escape(title)}</title><link rel="icon" href="data:,">'
        f"<style>{_resource('page.css')}</style></head><body>"
        f'<header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>'
        f'<ul class="figures">{items}</ul></header>'
        f'<nav aria-label="Sections">{links}</nav><main>{body}</main>'
        # "</script>" within a name would end the element.
        '<script type="application/json" id="point-data">'
        + data.replace("<", "\\u003c")
        + f"</script><script>{_resource('page.js')}</script></body></html>\n"
    )


def beside(chart: str, legend: str, *, details: str) -> str:
    """Return a chart with its legend, and a panel beside it that tells of the mark chosen.

    Args:
        chart: Its marks have the class ``point`` and a ``data-point``.
        legend: Markup below the chart.
        details: The panel's id.
    """
    return (
        f'<div class="beside"><div><div class="scroll">{chart}</div>{legend}</div>'
        f'<aside class="details" id="{details}" aria-live="polite" aria-label="Details"></aside>'
        "</div>"
    )


def legend(looks: Mapping[str, Look], *more: str) -> str:
    """Return a legend; ``more`` are markup of further entries."""
    items = [f"{key(look)}{escape(name)}" for name, look in looks.items()]
    return f'<ul class="legend">{"".join(f"<li>{item}</li>" for item in [*items, *more])}</ul>'


def _anchor(name: str) -> str:
    return re.sub(r"\W+", "-", name.lower())


def _resource(name: str) -> str:
    return files("prunenas.report").joinpath(name).read_text(encoding="utf-8")
