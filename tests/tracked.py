"""Stores for tests of tracking, and reading them back as a user's program would."""

import functools
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import synthetic

from prunenas import pictures
from prunenas.tracking import SafeTracker, Tracker, read_config
from prunenas.tracking.quiet import mlflow_at_work
from prunenas.tracking.store import Store

EXPERIMENT = "vgg_mini on mnist5k"
TEXT = "name: quickstart\nmodel: {name: vgg_mini}\n"
PARAMETERS: dict[str, Any] = {
    "model": {"name": "vgg_mini"},
    "train": {"epochs": 4, "lr": 0.1},
    "search": {"sampler": "tpe", "trials": 5},
}


@functools.cache
def fresh_database() -> bytes:
    """A database that MLflow has made its tables in, which takes it seconds each time."""
    with tempfile.TemporaryDirectory() as folder, mlflow_at_work("making tables"):
        path = Path(folder, "mlflow.db")
        Store(read_config(f"sqlite:///{path}"))
        return path.read_bytes()


def tracker(uri: str | None = None, **settings: Any) -> Tracker:
    """A tracker with pictures, as a study has one."""
    return Tracker(
        uri,
        experiment=EXPERIMENT,
        draw_widths=pictures.widths_picture,
        draw_front=pictures.front_picture,
        **settings,
    )


def open_study(tracking: Tracker | SafeTracker, **changes: Any) -> None:
    """Open the synthetic study."""
    settings: dict[str, Any] = {
        "text": TEXT,
        "parameters": PARAMETERS,
        "started": synthetic.BEGIN.isoformat(),
    }
    tracking.open_study("quickstart", **settings | changes)


def run_study(tracking: Tracker | SafeTracker, records: list[dict[str, Any]]) -> None:
    """Write a study as a running one does: trial by trial, the front each time."""
    open_study(tracking)
    for number, record in enumerate(records, 1):
        tracking.log_trial(record, synthetic.DENSE_WIDTHS)
        tracking.log_front(synthetic.front(records[:number]), records[:number], synthetic.DENSE)
    tracking.close_study("finished")


def sync(tracking: Tracker, records: list[dict[str, Any]]) -> int:
    """Write what is missing, as ``prunenas track`` does."""
    open_study(tracking)
    written = tracking.sync(
        records, synthetic.DENSE_WIDTHS, synthetic.front(records), synthetic.DENSE
    )
    tracking.close_study("finished")
    return written


@contextmanager
def reading(uri: str) -> Iterator[Any]:
    """An ``MlflowClient`` to look with."""
    with mlflow_at_work("looking"):
        from mlflow import MlflowClient

        yield MlflowClient(tracking_uri=uri)


def study_runs(uri: str) -> tuple[Any, list[Any]]:
    """The study's run, and its trials' runs by number."""
    with reading(uri) as client:
        experiment = client.get_experiment_by_name(EXPERIMENT)
        runs = client.search_runs([experiment.experiment_id], max_results=1000)
        parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        assert len(parents) == 1
        children = [
            run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id
        ]
        assert len(children) == len(runs) - 1
        return parents[0], sorted(children, key=lambda run: int(run.data.tags["prunenas.trial"]))


def everything(folder: Path) -> dict[str, Any]:
    """All rows of the store's database and all its files, to see that nothing was added."""
    with sqlite3.connect(folder / "mlflow.db") as base:
        names = [
            row[0] for row in base.execute("select name from sqlite_master where type='table'")
        ]
        rows: dict[str, Any] = {
            name: sorted(map(repr, base.execute(f'select * from "{name}"'))) for name in names
        }
    base.close()
    for path in sorted((folder / "mlartifacts").rglob("*")):
        rows[str(path)] = (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
    return rows
