"""One study's runs in MLflow: found by their tags, created once, written in batches.

What this file calls of MLflow is all that prunenas uses: ``MlflowClient``, no active run, no global
tracking URI. Callers wrap it in :func:`prunenas.tracking.quiet.mlflow_at_work`.
"""

import getpass
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from prunenas.errors import TrackingError
from prunenas.tracking.config import TrackingConfig
from prunenas.tracking.rows import Point, batches

if TYPE_CHECKING:
    from mlflow.entities import Run

_FOR_PAGES = {
    # Otherwise MLflow's pages take an experiment for one of language-model traces.
    "mlflow.experimentKind": "custom_model_development",
}
_ENDED = ("FINISHED", "FAILED", "KILLED")


@dataclass
class Child:
    """A trial's run; ``done`` when it was written to its end, ``repeats`` as its tag says."""

    run_id: str
    done: bool
    on_front: bool
    repeats: str | None = None


@dataclass
class StudyRuns:
    """A study's parent run and its children, as they were found and then written.

    Attributes:
        run_id: The parent's.
        status: The parent's status.
        params: The parent's parameters, which MLflow never changes.
        tags: The parent's tags.
        figures: The latest value of each of the parent's metrics.
        children: A run for each trial, by number.
        latest: End of the latest trial written, in milliseconds since 1970.
    """

    run_id: str
    status: str
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    children: dict[int, Child] = field(default_factory=dict)
    latest: int = 0


class Store:
    """MLflow's client with the few things that a study needs done."""

    def __init__(self, config: TrackingConfig) -> None:
        from mlflow import MlflowClient

        if config.uri.startswith("sqlite:"):
            Path(config.uri.partition(":///")[2]).parent.mkdir(parents=True, exist_ok=True)
        self._config = config
        self._client = MlflowClient(tracking_uri=config.uri)

    def experiment(self, name: str) -> str:
        """Find or create an experiment; its id."""
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            # A server chooses where its files go. MLflow would put a database's into ./mlruns.
            folder = self._config.artifacts / (re.sub(r"[^\w.-]", "_", name) or "_")
            place = None if self._config.is_server else folder.absolute().as_uri()
            try:
                return str(
                    self._client.create_experiment(
                        name,
                        artifact_location=place,
                        tags=_FOR_PAGES,
                    )
                )
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self._client.get_experiment_by_name(name)  # another process was quicker
        if found is None or found.lifecycle_stage != "active":
            raise TrackingError(
                f"an experiment must not be deleted, but {name!r} is: restore it in MLflow"
            )
        return str(found.experiment_id)

    def open(self, experiment: str, name: str, identity: str, started: int | None) -> StudyRuns:
        """Find or create the parent run that bears ``identity``, and find its children."""
        runs = self.find(experiment, "study", identity)
        runs = runs or self.create(experiment, "study", name, identity, started)
        for run in self._search(experiment, f"tags.mlflow.parentRunId = '{runs.run_id}'"):
            number = run.data.tags.get("prunenas.trial", "")
            if not number.isdecimal():
                continue  # the user's own run below the study
            runs.latest = max(runs.latest, run.info.end_time or 0)
            child = Child(
                run_id=run.info.run_id,
                done=run.info.status in _ENDED,
                on_front=run.data.tags.get("prunenas.front") == "true",
                repeats=run.data.tags.get("prunenas.repeats"),
            )
            twin = runs.children.get(int(number))
            if twin is None:
                runs.children[int(number)] = child
                continue
            # Two processes wrote the trial, or a request was repeated that had been heard.
            keep, drop = (child, twin) if child.done and not twin.done else (twin, child)
            runs.children[int(number)] = keep
            self._client.delete_run(drop.run_id)
        return runs

    def find(self, experiment: str, role: str, identity: str) -> StudyRuns | None:
        """Find the run of a role (``study``, ``training``) that bears ``identity``."""
        for run in self._search(experiment, f"tags.`prunenas.role` = '{role}'"):
            if run.data.tags.get("prunenas.identity") == identity:
                return _found(run)
        return None

    def create(
        self, experiment: str, role: str, name: str, identity: str, started: int | None
    ) -> StudyRuns:
        """Create a run of a role that bears ``identity``."""
        tags = {
            "prunenas.role": role,
            f"prunenas.{role}": name,
            "prunenas.identity": identity,
        }
        return _found(self._create(experiment, name, tags, started))

    def create_child(
        self, experiment: str, runs: StudyRuns, number: int, name: str, study: str, started: int
    ) -> Child:
        """Create a trial's run below the study's."""
        tags = {
            "mlflow.parentRunId": runs.run_id,
            "prunenas.role": "trial",
            "prunenas.study": study,
            "prunenas.trial": str(number),
        }
        run = self._create(experiment, name, tags, started)
        child = runs.children[number] = Child(run.info.run_id, done=False, on_front=False)
        return child

    def write(
        self,
        run_id: str,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write rows in one batch, where MLflow's limits allow it."""
        from mlflow.entities import Metric, Param, RunTag

        for some, names, marks in batches(list(points), params or {}, tags or {}):
            self._client.log_batch(
                run_id,
                metrics=[
                    Metric(point.key, float(point.value), point.timestamp, point.step)
                    for point in some
                ],
                params=[Param(key, value) for key, value in names],
                tags=[RunTag(key, value) for key, value in marks],
                synchronous=True,
            )

    def upload(self, run_id: str, files: Mapping[str, str | bytes]) -> None:
        """Write artifacts by name, ``a.json`` or ``b/a.png``; the same names are replaced."""
        if not files:
            return
        with tempfile.TemporaryDirectory(prefix="prunenas-") as folder:
            for name, content in files.items():
                data = content.encode() if isinstance(content, str) else content
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            self._client.log_artifacts(run_id, folder)

    def touch(self, runs: StudyRuns) -> None:
        """Mark a study's run as running, unless it is."""
        if runs.status != "RUNNING":
            self.resume(runs.run_id)
            runs.status = "RUNNING"

    def resume(self, run_id: str) -> None:
        """Mark a run as running."""
        self._client.update_run(run_id, status="RUNNING")

    def end(self, run_id: str, status: str, when: int | None = None) -> None:
        """End a run."""
        self._client.set_terminated(run_id, status, end_time=when or _now())

    def _create(
        self, experiment: str, name: str, tags: dict[str, str], started: int | None
    ) -> "Run":
        from mlflow.version import VERSION

        origin = {
            "mlflow.user": _user(),
            "mlflow.source.name": "prunenas",
            "mlflow.source.type": "LOCAL",
            "prunenas.version.mlflow": VERSION,
        }
        return self._client.create_run(
            experiment, start_time=started or _now(), tags={**origin, **tags}, run_name=name
        )

    def _search(self, experiment: str, condition: str) -> list["Run"]:
        """All runs that meet a condition, the oldest first."""
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [experiment],
                filter_string=condition,
                order_by=["attributes.start_time ASC"],
                max_results=1000,
                page_token=token,
            )
            runs += page
            token = page.token
            if not token:
                return runs


def _found(run: "Run") -> StudyRuns:
    return StudyRuns(
        run_id=run.info.run_id,
        status=run.info.status,
        params=dict(run.data.params),
        tags=dict(run.data.tags),
        figures=dict(run.data.metrics),
    )


def _now() -> int:
    return round(time.time() * 1000)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without a name
        return "unknown"
