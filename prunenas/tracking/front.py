"""The front as MLflow's rows: history, table, description."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prunenas.tracking.rows import Point, count, milliseconds, milliseconds_of, percent, seconds_of

FLOPS = ("flops",)
"""What hypervolumes are of, beside accuracy, unless a study minimizes something else."""

_COLUMNS = ("trial", "method", "accuracy", "flops", "flops_ratio", "params", "architecture")


def history(
    records: Sequence[Mapping[str, Any]],
    after: int = 0,
    costs: Sequence[str] = FLOPS,
    dense: Mapping[str, Any] | None = None,
) -> list[Point]:
    """Best accuracy and hypervolume with each trial that ended, from step ``after`` + 1 on.

    Step ``k`` tells of the first ``k`` records. ``trials`` comes last in each step: the highest
    one says which steps were written.

    Args:
        records: All records, in order of their numbers.
        after: Steps that were written.
        costs: What the hypervolume is of, beside accuracy; see `reach`.
        dense: The dense network's figures.
    """
    points: list[Point] = []
    best: float | None = None
    reached: list[tuple[float, ...]] = []
    for step, record in enumerate(records, 1):
        if record["state"] == "complete" and record["accuracy"] is not None:
            best = record["accuracy"] if best is None else max(best, record["accuracy"])
            reached.append(reach(record, costs, dense or {}))
        if step <= after:
            continue
        when = milliseconds(record["finished"])
        if best is not None:
            points.append(Point("best_accuracy", best, when, step))
            points.append(Point("hypervolume", hypervolume(reached), when, step))
        points.append(Point("trials", step, when, step))
    return points


def dense_points(
    dense: Mapping[str, Any], records: Sequence[Mapping[str, Any]], known: Mapping[str, float]
) -> list[Point]:
    """The dense network's figures, those aside that are ``known`` already."""
    when = milliseconds(records[0]["started"]) if records else 0
    keys = ("accuracy", "flops", "params", "latency_ms", "round_seconds")
    named = {f"dense/{key}": dense.get(key) for key in keys}
    return [
        Point(key, value, when, 0)
        for key, value in named.items()
        if value is not None and known.get(key) != value
    ]


def reach(
    record: Mapping[str, Any], costs: Sequence[str], dense: Mapping[str, Any]
) -> tuple[float, ...]:
    """What an architecture has reached: its costs as shares of the dense network's, and accuracy.

    Args:
        record: Of a complete trial.
        costs: What the study minimizes; FLOPs where there are none.
        dense: The dense network's figures: each cost but FLOPs by its name.
    """
    own = {"latency_ms": _latency(record), "round_seconds": record.get("round_seconds")}
    shares = {"flops": record["flops_ratio"]}
    shares |= {name: own[name] / dense[name] for name in costs if name in own}
    return (*(shares[cost] for cost in costs or FLOPS), record["accuracy"])


def hypervolume(reached: Sequence[tuple[float, ...]]) -> float:
    """Share of the unit square, FLOPs ratio by accuracy, that some point is at least as good as.

    With more costs than one, of the unit cube.

    Args:
        reached: (ratio of each cost to the dense network's, ..., accuracy) of each architecture.

    Returns:
        0 where nothing was reached, 1 for accuracy 1 at no cost; points beyond the dense network's
        costs add nothing.

    Source: Zitzler and Thiele 1998, for two objectives the area under a staircase; for three the
    same of slices (Fleischer 2003).
    """
    if reached and len(reached[0]) > 2:
        first = sorted(point for point in reached if point[0] < 1.0)
        ends = [point[0] for point in first[1:]] + [1.0]
        slices = zip(first, ends, strict=bool(first))
        return sum(
            (end - point[0]) * hypervolume([other[1:] for other in first[: index + 1]])
            for index, (point, end) in enumerate(slices)
            if end > point[0]
        )
    area = best = 0.0
    last = 0.0
    for ratio, accuracy in sorted(reached):
        ratio = min(ratio, 1.0)
        if accuracy > best:
            area += (ratio - last) * best
            last, best = ratio, accuracy
    return area + (1.0 - last) * best


def table(front: Sequence[Mapping[str, Any]]) -> str:
    """The front as JSON in MLflow's form for tables, which its page shows as one."""
    more = _measured(front)
    rows = [[*_row(record), *(figure(record) for _, figure, _ in more)] for record in front]
    columns = [*_COLUMNS, *(name for name, _, _ in more)]
    return json.dumps({"columns": columns, "data": rows}, indent=1)


def listing(front: Sequence[Mapping[str, Any]], dense: Mapping[str, Any]) -> str:
    """The front as JSON for programs: each record without its curve, and the dense network."""
    records = [{key: record[key] for key in record if key != "curve"} for record in front]
    return json.dumps({"dense": dict(dense), "front": records}, indent=1)


def note(
    front: Sequence[Mapping[str, Any]],
    records: Sequence[Mapping[str, Any]],
    dense: Mapping[str, Any],
    pictures: Mapping[str, str] | None = None,
) -> str:
    """The study as Markdown, for the description of its run.

    Args:
        front: The front's records, by ascending FLOPs.
        records: All records, in order of their numbers.
        dense: The dense network's figures.
        pictures: Addresses of pictures, by what they show.
    """
    states: dict[str, int] = {}
    for record in records:
        states[record["state"]] = states.get(record["state"], 0) + 1
    told = ", ".join(f"{number} {state}" for state, number in states.items())
    lines = [
        f"{len(records)} trials ({told}). "
        f"Dense network: {count(dense['flops'])} FLOPs, {count(dense['params'])} parameters"
        + (
            f", validation accuracy {percent(dense['accuracy'])}."
            if dense.get("accuracy") is not None
            else "."
        )
    ]
    more = _measured(front)
    titles = {"latency_ms": "Latency", "round_seconds": "Round"}
    lines += [
        "",
        "| Trial | Method | Accuracy | FLOPs | Of dense | Parameters |"
        + "".join(f" {titles[name]} |" for name, _, _ in more),
        "|---:|---|---:|---:|---:|---:|" + "---:|" * len(more),
    ]
    for record in front:
        lines.append(
            f"| {record['number']} | {record['method']} | {percent(record['accuracy'])} "
            f"| {count(record['flops'])} | {percent(record['flops_ratio'])} "
            f"| {count(record['params'])} |"
            + "".join(f" {words(figure(record) or 0.0)} |" for _, figure, words in more)
        )
    text = "\n".join(lines)
    # A tag holds 8,000 characters; the table among the artifacts is whole.
    if len(text) > 7700:
        text = text[:7700].rpartition("\n")[0] + "\n\n…"
    return text + "".join(f"\n\n![{told}]({at})" for told, at in (pictures or {}).items())


Figure = Callable[[Mapping[str, Any]], float | None]


def _measured(
    front: Sequence[Mapping[str, Any]],
) -> list[tuple[str, Figure, Callable[[float], str]]]:
    """Costs beside FLOPs that a front has: name, figure of a record, and how it is worded."""
    known: list[tuple[str, Figure, Callable[[float], str]]] = [
        ("latency_ms", _latency, milliseconds_of),
        ("round_seconds", lambda record: record.get("round_seconds"), seconds_of),
    ]
    return [each for each in known if any(each[1](record) is not None for record in front)]


def _latency(record: Mapping[str, Any]) -> float | None:
    return None if record.get("latency") is None else float(record["latency"]["median"])


def _row(record: Mapping[str, Any]) -> list[Any]:
    return [
        record["number"],
        record["method"],
        record["accuracy"],
        record["flops"],
        round(record["flops_ratio"], 4),
        record["params"],
        record["digest"],
    ]
