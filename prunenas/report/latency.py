"""Latencies beside FLOPs: do fewer operations take less time here?"""

from collections.abc import Sequence
from html import escape
from statistics import fmean
from typing import Any

from prunenas.report.document import beside, legend
from prunenas.report.looks import looks
from prunenas.report.svg import Frame, element, fitted, mark
from prunenas.search.view import StudyView
from prunenas.trial import Record

WIDTH, HEIGHT = 760, 400


def facts(record: Record) -> list[tuple[str, str]]:
    """Return what a trial costs where it runs, as names and values; empty where it is not known."""
    found = []
    if (latency := record.latency) is not None:
        spread = f"{latency['low']:.3g} to {latency['high']:.3g}"
        found.append(("latency", f"{latency['median']:.3g} ms ({spread})"))
    if record.round_seconds is not None:
        found.append(("federated round", f"{record.round_seconds:.3g} s"))
    if (peak := record.peak_activations) is not None:
        found.append(("activations", f"{peak:,} bytes"))
    return found


def measured(records: Sequence[Record]) -> list[Record]:
    """Return the trials that have a latency and FLOPs, in order of these."""
    known = [each for each in records if each.latency is not None and each.flops]
    return sorted(known, key=lambda each: each.flops or 0)


def section(view: StudyView) -> str:
    """Return the chart, the rank correlation and the protocol; empty without a latency."""
    shown = measured(view.records)
    if not shown:
        return ""
    medians = [each.latency["median"] for each in shown if each.latency]
    rank = spearman([float(each.flops or 0) for each in shown], medians)
    sentences = []
    if rank is None:
        sentences.append("Too few different figures to correlate FLOPs and latency.")
    else:
        sentences.append(
            f"Rank correlation of FLOPs and latency (Spearman): {rank:.2f} over {len(shown)} "
            "architectures; 1 means that fewer FLOPs are always faster."
        )
    told = list(dict.fromkeys(protocol(each) for each in shown))
    sentences.append(
        f"Measured by {'; others by '.join(told)}. Bars reach from the first to the "
        "third quartile of the passes."
    )
    if len(told) > 1:
        sentences.append("Only figures of one protocol compare.")
    return (
        beside(chart(view, shown), legend(looks(shown)), details="latency-details")
        + f"<p>{escape(' '.join(sentences))}</p>"
    )


def chart(view: StudyView, shown: Sequence[Record]) -> str:
    """Return latency against FLOPs; marks are focused and told of as in the front's chart."""
    found = [(each, each.latency or {}) for each in shown]
    ratios = [100 * (each.flops_ratio or 0.0) for each in shown]
    frame = Frame(
        WIDTH,
        HEIGHT,
        fitted(ratios, 64, WIDTH - 16, bounds=(0.0, 1e9)),
        fitted(
            [0.0, *(latency["high"] for _, latency in found)], HEIGHT - 48, 16, bounds=(0.0, 1e12)
        ),
        "FLOPs, % of the dense network's",
        "latency, ms",
    )
    best = {each.number for each in view.final_front}
    style = looks(shown)
    whiskers, marks = [], []
    for each, latency in found:
        x, y = frame.x(100 * (each.flops_ratio or 0.0)), frame.y(latency["median"])
        low, high = frame.y(latency["low"]), frame.y(latency["high"])
        ends = f"M{x:.1f} {low:.1f}V{high:.1f}M{x - 4:.1f} {low:.1f}h8M{x - 4:.1f} {high:.1f}h8"
        whiskers.append(element("path", d=ends, class_="whisker"))
        look, own = style[each.method], each.number in best
        marks.append(
            mark(
                look.shape,
                x,
                y,
                13 if own else 10,
                class_=f"{look.classes} point{' best' if own else ''}",
                tabindex="-1",
                role="img",
                data_point=each.number,
                aria_label=f"trial {each.number}, {each.method}, {latency['median']:.3g} ms at "
                f"{100 * (each.flops_ratio or 0.0):.1f} % of the FLOPs",
            )
        )
    return frame.drawn(
        *whiskers, *marks, title="Latency against FLOPs", id="latency-chart", class_="big"
    )


def protocol(record: Record) -> str:
    """Return in words under what conditions a latency was measured."""
    known: dict[str, Any] = dict((record.latency or {}).get("protocol") or {})
    runtime, device = known.pop("runtime", None), known.pop("device", None)
    words = {
        "threads": lambda n: f"{n} thread{'' if n == 1 else 's'}",
        "batch": lambda n: f"batch {n}",
        "warmup": lambda n: f"{n} passes before any is counted",
        "rounds": lambda n: f"median of {n} passes",
    }
    parts = [" on ".join(str(each) for each in (runtime, device) if each)]
    parts += [words[name](known.pop(name)) for name in words if name in known]
    parts += [f"{name} {value}" for name, value in known.items()]
    return ", ".join(part for part in parts if part) or "a protocol that is not known"


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the rank correlation of pairs, in [-1, 1]; None where one of them does not vary.

    Equal values have the mean of their ranks.

    Source: Spearman 1904, "The Proof and Measurement of Association between Two Things".
    """
    x, y = _ranks(first), _ranks(second)
    if len(set(x)) < 2 or len(set(y)) < 2:
        return None
    middle = fmean(x)  # of both: ranks are 1 to n
    shared = sum((a - middle) * (b - middle) for a, b in zip(x, y, strict=True))
    spread = sum((a - middle) ** 2 for a in x) * sum((b - middle) ** 2 for b in y)
    return float(shared / spread**0.5)


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(values)
    return [
        fmean((order.index(each) + 1, order.index(each) + order.count(each))) for each in values
    ]
