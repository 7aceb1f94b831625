"""A study's projection into MLflow: everything there is made from the study's storage."""

from collections.abc import Iterable, Mapping
from typing import Any

from prunenas.pictures import (
    densities_picture,
    front_picture,
    latency_picture,
    method_fronts_picture,
    methods_picture,
    repeats_picture,
    widths_picture,
)
from prunenas.search.curse import repeats_summary
from prunenas.search.ledger import read_study
from prunenas.search.view import StudyView
from prunenas.tracking import SafeTracker, Tracker
from prunenas.trial import Record


def track_study(
    storage: str,
    name: str,
    *,
    tracking: str | None = None,
    files: Mapping[str, str | bytes] | None = None,
) -> int:
    """Write to MLflow what it lacks of a study.

    Args:
        storage: URL of the study's storage.
        name: The study's name.
        tracking: URI of MLflow; None takes what ``mlflow.yml`` says.
        files: More artifacts for the study's run by name, such as a report; what is there by these
            names gives way.

    Returns:
        How many trials were written.

    Raises:
        StudyError: There is no such study.
        TrackingError: MLflow is out of reach or refuses.
    """
    view = read_study(storage, name)
    tracker = tracker_of(view, tracking)
    opened(tracker, view)
    records = mappings(view.records)
    missing = len(tracker.missing(records))
    tracker.sync(records, view.dense_widths, mappings(view.front), dense_figures(view))
    log_repeats(tracker, view)
    tracker.attach(files or {})
    tracker.close_study("finished" if view.finished else "interrupted")
    return missing


def tracker_of(view: StudyView, tracking: str | None) -> Tracker:
    """The tracker of a study: one experiment for each model on each data set."""
    model, data = view.settings["model"]["name"], view.settings["data"]["name"]
    return Tracker(
        tracking,
        experiment=f"{model} on {data}",
        draw_widths=widths_picture,
        draw_densities=densities_picture,
        draw_front=front_picture,
        draw_repeats=repeats_picture,
        draw_methods=method_fronts_picture if view.costs else methods_picture,
        draw_latency=latency_picture,
        costs=view.costs,
    )


def opened(tracker: Tracker | SafeTracker, view: StudyView) -> None:
    """Open the study's run."""
    tracker.open_study(
        view.name,
        text=view.text,
        parameters=view.settings,
        identity=view.identity,
        started=view.records[0].started if view.records else None,
    )


def log_repeats(tracker: Tracker | SafeTracker, view: StudyView) -> None:
    """Write what fresh seeds say of the candidates; nothing where there are none."""
    if any(each.trainings for each in view.repeats):
        tracker.log_repeats(repeats_summary(view))


def dense_figures(view: StudyView) -> dict[str, float | None]:
    """What tracking says of the dense network."""
    return {
        **view.dense_costs,
        "flops": view.dense_flops,
        "params": view.dense_params,
        "accuracy": view.dense_accuracy,
    }


def mappings(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Records as plain mappings."""
    return [record.to_dict() for record in records]
