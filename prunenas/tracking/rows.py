"""A trial's record as MLflow's rows: name, tags, parameters, metrics, description.

Pure functions of the record, times included, so that writing a trial twice gives the same rows,
which MLflow keeps once.
"""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from prunenas.architecture import density_of

STATUS = {
    "complete": "FINISHED",
    "stopped": "KILLED",
    "infeasible": "KILLED",
    "failed": "FAILED",
}
"""MLflow's run status for each state of a trial."""

_LONGEST_NAME = 250
_LONGEST_PARAMETER = 6000
_LONGEST_TAG = 8000
_CURVES = {  # in a record -> in MLflow, whose page makes a section of what stands before the slash
    "train_accuracy": "train/accuracy",
    "train_loss": "train/loss",
    "validation_accuracy": "validation/accuracy",
    "validation_loss": "validation/loss",
    "lr": "train/lr",
}
_FIGURES = (
    "accuracy",
    "flops",
    "flops_ratio",
    "params",
    "peak_activations",
    "epochs",
    "seconds",
    "round_seconds",
)
_LATENCY = {"median": "latency_ms", "low": "latency_ms/low", "high": "latency_ms/high"}


class Point(NamedTuple):
    """One value of a metric; ``timestamp`` in milliseconds since 1970."""

    key: str
    value: float
    timestamp: int
    step: int


def milliseconds(iso: str) -> int:
    """Milliseconds since 1970 of an ISO 8601 time."""
    return round(datetime.fromisoformat(iso).timestamp() * 1000)


def key_name(text: str) -> str:
    """Make ``text`` a name that MLflow takes: letters, digits, ``_ - . / :`` and blanks.

    >>> key_name("ratio[features.0]")
    'ratio_features.0_'
    """
    plain = re.sub(r"[^\w. /:-]", "_", text)
    parts = [part for part in plain.split("/") if part.strip(" .")]
    return "/".join(parts)[:_LONGEST_NAME] or "_"


def flatten(values: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Nested mappings as one of text, keys joined by dots; cut to MLflow's lengths."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{before}{key}.")
        elif value is not None:
            text = str(value)
            if len(text) > _LONGEST_PARAMETER:
                text = text[: _LONGEST_PARAMETER - 1] + "…"
            flat[key_name(f"{before}{key}")] = text
    return flat


def trial_name(record: Mapping[str, Any]) -> str:
    """The run's name, such as ``007 l1_norm``: sorts by number, and fits MLflow's column."""
    return f"{record['number']:03d} {record['method']}"


def trial_tags(record: Mapping[str, Any]) -> dict[str, str]:
    """Tags to filter by: ``tags.`prunenas.state` = 'complete'``."""
    tags = {
        "prunenas.state": record["state"],
        "prunenas.method": record["method"],
        "prunenas.reason": record.get("reason"),
        "prunenas.start": record.get("start"),
        "prunenas.architecture": record.get("digest"),
        "prunenas.reused": record.get("reused"),
        "mlflow.note.content": trial_note(record),
    }
    for name, version in record.get("versions", {}).items():
        tags[key_name(f"prunenas.version.{name}")] = version
    return {key: str(value)[:_LONGEST_TAG] for key, value in tags.items() if value is not None}


def trial_params(record: Mapping[str, Any]) -> dict[str, str]:
    """What decided the trial: its method, what Optuna proposed, and its seeds."""
    return flatten({"method": record["method"]} | record["parameters"]) | flatten(
        record.get("seeds", {}), "seed."
    )


def trial_points(record: Mapping[str, Any]) -> list[Point]:
    """Final figures, and a point for each epoch of each curve; what is not finite is left out."""
    start, end = milliseconds(record["started"]), milliseconds(record["finished"])
    curve = record.get("curve") or []
    points = _points(record, {key: key for key in _FIGURES}, end, 0)
    points += _points(
        {"density": density_of(record.get("architecture"))}, {"density": "density"}, end, 0
    )
    points += _points(record.get("latency") or {}, _LATENCY, end, 0)
    for done, epoch in enumerate(curve, 1):
        # The record has no time for each epoch; they last about as long as each other.
        when = start + (end - start) * done // len(curve)
        points += epoch_points(epoch, when)
    return points


def epoch_points(epoch: Mapping[str, Any], when: int) -> list[Point]:
    """A point for each curve; what is not finite is left out."""
    return _points(epoch, _CURVES, when, int(epoch["epoch"]))


def trial_note(record: Mapping[str, Any]) -> str:
    """One sentence for the run's description."""
    text = f"**{record['method']}**, {record['state']}"
    if record.get("reason"):
        text += f" ({record['reason']})"
    figures = []
    if record.get("accuracy") is not None:
        figures.append(f"validation accuracy {percent(record['accuracy'])}")
    if record.get("flops") is not None:
        share = record.get("flops_ratio")
        of_dense = f" ({percent(share)} of dense)" if share is not None else ""
        figures.append(f"{count(record['flops'])} FLOPs{of_dense}")
    if record.get("params") is not None:
        figures.append(f"{count(record['params'])} parameters")
    if (latency := record.get("latency")) is not None:
        figures.append(f"latency {milliseconds_of(latency['median'])}")
    if record.get("round_seconds") is not None:
        figures.append(f"a round in {seconds_of(record['round_seconds'])}")
    if (density := density_of(record.get("architecture"))) is not None:
        figures.append(f"density {percent(density)}")
    text = f"{text}: {', '.join(figures)}" if figures else text
    return f"{text}; training of {record['reused']}" if record.get("reused") else text


def batches(
    points: list[Point], params: Mapping[str, str], tags: Mapping[str, str]
) -> Iterator[tuple[list[Point], list[tuple[str, str]], list[tuple[str, str]]]]:
    """Cut rows into MLflow's largest batches: 1,000 rows, of them 100 parameters and 100 tags.

    One batch for nearly every trial; long curves and deep networks take more.
    """
    left, names, marks = list(points), list(params.items()), list(tags.items())
    while left or names or marks:
        room = 1000 - len(names[:100]) - len(marks[:100])
        yield left[:room], names[:100], marks[:100]
        left, names, marks = left[room:], names[100:], marks[100:]


def percent(share: float) -> str:
    """A share as text: ``0.305`` is ``30.5 %``."""
    return f"{share:.1%}".replace("%", " %")


def milliseconds_of(latency: float) -> str:
    """A latency as text: ``2.3456`` is ``2.35 ms``."""
    return f"{latency:.3g} ms"


def seconds_of(time: float) -> str:
    """A round's time as text: ``2.3456`` is ``2.35 s``."""
    return f"{time:.3g} s"


def count(number: float) -> str:
    """A large count as text with three figures: ``313201664`` is ``313 M``."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:#.3g}".rstrip(".") + f" {unit}"
    return f"{number:.0f}"


def _points(
    values: Mapping[str, Any], names: Mapping[str, str], when: int, step: int
) -> list[Point]:
    found = [(name, values.get(key)) for key, name in names.items()]
    return [
        Point(name, value, when, step)
        for name, value in found
        if isinstance(value, (int, float)) and math.isfinite(value)
    ]
