"""What is told of a mark beside its chart."""

from collections.abc import Mapping, Sequence
from typing import Any

from prunenas.architecture import density_of
from prunenas.report import latency, reproduce
from prunenas.report.baselines import Baseline
from prunenas.report.profile import kept
from prunenas.report.tables import parameters, percent
from prunenas.search.view import StudyView
from prunenas.trial import Record


def points(view: StudyView, baselines: Sequence[Baseline]) -> dict[str, dict[str, Any]]:
    """Return, by the ``data-point`` of its mark, what is told of each trial and baseline."""
    groups = list(view.dense_widths)
    found = {
        str(each.number): {
            "title": f"trial {each.number} · {each.method}",
            "facts": _facts(each),
            "kept": [
                [group, round(part, 4), _told(view, each, group, part)]
                for group, part in kept(each, groups).items()
            ],
            "command": reproduce.command(view, each),
        }
        for each in view.records
        if each.accuracy is not None and each.architecture is not None
    }
    return found | {
        f"baseline-{index}": _baseline(view, each) for index, each in enumerate(baselines)
    }


def spoken(record: Record) -> str:
    """Return a trial in one sentence, for those who hear the page."""
    accuracy = f"{100 * (record.accuracy or 0):.2f} % accuracy"
    return (
        f"trial {record.number}, {record.method}, {accuracy}, "
        f"{100 * (record.flops_ratio or 0):.1f} % of the FLOPs, {record.state}"
    )


def _facts(record: Record) -> list[tuple[str, str]]:
    found = [
        ("accuracy", percent(record.accuracy)),
        ("FLOPs", f"{record.flops or 0:,} ({percent(record.flops_ratio, 1)})"),
        ("parameters", f"{record.params or 0:,}"),
        *latency.facts(record),
        ("state", record.state),
    ]
    density = density_of(record.architecture)
    if density is not None:
        found.append(("density", percent(density, 1)))
    found += list(parameters(record).items())[:12]
    found.append(("seeds", ", ".join(f"{name} {seed}" for name, seed in record.seeds.items())))
    return found


def _told(view: StudyView, record: Record, group: str, share: float) -> str:
    dense, ratio = view.dense_widths[group], record.ratios.get(group, 0.0)
    if share < ratio:
        return f"{100 * share:.1f} % of weights"
    return f"{round(ratio * dense)} of {dense}"


def _baseline(view: StudyView, each: Baseline) -> dict[str, Any]:
    facts = [
        ("accuracy", f"{percent(each.accuracy)}, {each.split}"),
        ("FLOPs", f"{each.flops:,} ({percent(each.flops / view.dense_flops, 1)})"),
        ("parameters", f"{each.params:,}"),
        ("network", each.network if each.own else f"{each.network}, another one"),
    ]
    if each.epochs is not None:
        facts.append(("epochs", f"{each.epochs:,}"))
    if each.images is not None:
        facts.append(("trained on", f"{each.images:,} images"))
    dense: Mapping[str, int] = view.dense_widths if each.own else {}
    widths: list[list[Any]] = [
        [group, round(width / dense[group], 4), f"{width} of {dense[group]}"]
        if dense.get(group)
        else [group, None, str(width)]
        for group, width in each.widths.items()
    ]
    return {
        "title": each.series if each.name == each.series else f"{each.series} · {each.name}",
        "facts": facts,
        "kept": widths,
        "command": "",
    }
