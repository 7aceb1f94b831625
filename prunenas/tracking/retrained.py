"""One training of an exported architecture in MLflow: a run beside those of its study."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from prunenas.errors import TrackingError
from prunenas.tracking.config import TrackingConfig, read_config
from prunenas.tracking.late import Late
from prunenas.tracking.quiet import mlflow_at_work
from prunenas.tracking.reach import check_reachable
from prunenas.tracking.rows import Point, count, epoch_points, flatten, milliseconds, percent
from prunenas.tracking.store import Store, StudyRuns

Ended = Literal["complete", "failed", "interrupted"]

_STATUS: dict[Ended, str] = {
    "complete": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}


class TrainingTracker:
    """Writes a training while it runs; everything can be written twice, and stays once.

    Nothing is asked of MLflow before :meth:`open`.
    """

    def __init__(
        self, uri: str | None = None, *, experiment: str, config: Path | None = None
    ) -> None:
        """Decide where tracking goes; the arguments are those of :class:`Tracker`.

        Raises:
            TrackingError: ``mlflow.yml`` or the URI breaks a law.
        """
        self.config: TrackingConfig = read_config(uri, config)
        self.experiment = experiment
        self._store: Store | None = None
        self._run: StudyRuns | None = None

    @property
    def is_open(self) -> bool:
        """Whether the training's run was found or created."""
        return self._run is not None

    def open(
        self,
        name: str,
        *,
        identity: str,
        parameters: Mapping[str, Any],
        tags: Mapping[str, Any],
        anew: bool = False,
    ) -> None:
        """Find or create the training's run.

        Args:
            name: The run's name.
            identity: What tells this training from any other.
            parameters: What decides its figures; nested mappings are flattened.
            tags: Tags for the run.
            anew: Whether an earlier run of the same training is left as it is, and another begun.

        Raises:
            TrackingError: The store is out of reach or refuses.
        """
        check_reachable(self.config.uri)
        with mlflow_at_work(f"training {name!r} can't be tracked"):
            store = self._store = self._store or Store(self.config)
            experiment = store.experiment(self.experiment)
            run = store.find(experiment, "training", identity)
            if anew and run is not None:
                store.write(run.run_id, tags={"prunenas.identity": f"before {identity}"})
                run = None
            run = run or store.create(experiment, "training", name, identity, None)
            params = {
                key: value for key, value in flatten(parameters).items() if key not in run.params
            }
            marks = {
                key: value for key, value in flatten(tags).items() if run.tags.get(key) != value
            }
            if params or marks:
                store.write(run.run_id, params=params, tags=marks)
            self._run = run

    def log_epochs(self, curve: Iterable[tuple[Mapping[str, Any], int]]) -> None:
        """Write the epochs that MLflow lacks.

        Args:
            curve: All finished epochs, as a record's curve keeps them, each with the time of its
                end in milliseconds since 1970.

        Raises:
            TrackingError: The store is out of reach or refuses.
        """
        store, run = self._opened()
        points: list[Point] = []
        for epoch, when in curve:
            if epoch["epoch"] > run.figures.get("epochs", 0):
                points += epoch_points(epoch, when)
                # The last of each epoch: the highest one says which were written.
                points.append(Point("epochs", epoch["epoch"], when, int(epoch["epoch"])))
        with mlflow_at_work("an epoch can't be tracked"):
            store.touch(run)
            store.write(run.run_id, points)
        run.figures |= {point.key: point.value for point in points}

    def finish(
        self,
        training: Mapping[str, Any],
        figures: Mapping[str, float],
        files: Mapping[str, str | bytes],
    ) -> None:
        """Write the final figures and files, unless they are there, and end the run.

        Args:
            training: What the export keeps of the training.
            figures: ``flops``, ``flops_ratio`` and ``params`` of the architecture, and its
                ``density`` where it has masks.
            files: Artifacts by name.

        Raises:
            TrackingError: The store is out of reach or refuses.
        """
        store, run = self._opened()
        digest = hashlib.sha256(json.dumps(dict(training), sort_keys=True).encode()).hexdigest()
        if run.tags.get("prunenas.written") == digest[:16] and run.status == "FINISHED":
            return
        when = milliseconds(training["finished"])
        final = {**figures, "seconds": training["seconds"]}
        for split, name in (("validation", "accuracy"), ("test", "test/accuracy")):
            if training[split] is not None:
                final[name] = training[split]["accuracy"]
        marks = {
            "prunenas.written": digest[:16],
            "mlflow.note.content": _note(training, figures),
        }
        self.log_epochs((epoch, when) for epoch in training["curve"])
        with mlflow_at_work("a training's end can't be tracked"):
            store.upload(run.run_id, files)
            points = [Point(key, value, when, 0) for key, value in final.items()]
            store.write(run.run_id, points, tags=marks)
            run.tags |= marks
            store.end(run.run_id, _STATUS["complete"], when)
            run.status = _STATUS["complete"]

    def close(self, state: Ended) -> None:
        """End the run of a training that did not finish.

        Raises:
            TrackingError: The store is out of reach or refuses.
        """
        store, run = self._opened()
        with mlflow_at_work("a training can't be closed"):
            store.end(run.run_id, _STATUS[state])
            run.status = _STATUS[state]

    def _opened(self) -> tuple[Store, StudyRuns]:
        if self._store is None or self._run is None:
            raise TrackingError("a training must be opened before it is written to")
        return self._store, self._run


class SafeTraining:
    """A :class:`TrainingTracker` for a running training: no call raises, trouble is told once.

    What is still unwritten at the end is in the export, and the same training, asked for again,
    writes it.
    """

    def __init__(self, tracker: TrainingTracker, warn: Callable[[str], None]) -> None:
        """Wrap ``tracker``; ``warn`` is told of the first trouble, in one line."""
        self._tracker = tracker
        self._warn = warn
        self._late = Late(tracker, self._tell)
        self._curve: list[tuple[Mapping[str, Any], int]] = []

    def open(self, name: str, **settings: Any) -> None:
        """As :meth:`TrainingTracker.open`."""
        self._late.do("open", lambda: self._tracker.open(name, **settings))

    def epoch(self, epoch: Mapping[str, Any]) -> None:
        """Write an epoch that has ended now, and those before it that MLflow lacks."""
        self._curve.append((epoch, round(time.time() * 1000)))
        curve = tuple(self._curve)
        self._late.do("epoch", lambda: self._tracker.log_epochs(curve), newest=True)

    def finish(
        self,
        training: Mapping[str, Any],
        figures: Mapping[str, float],
        files: Mapping[str, str | bytes],
    ) -> None:
        """As :meth:`TrainingTracker.finish`; what is late is tried once more."""
        self._late.do("finish", lambda: self._tracker.finish(training, figures, files), now=True)

    def close(self, state: Ended) -> None:
        """As :meth:`TrainingTracker.close`; what is late is tried once more."""
        self._late.do("close", lambda: self._tracker.close(state), now=True)

    def _tell(self, trouble: str) -> None:
        self._warn(
            f"tracking: {trouble}; the training goes on, and what is missing is written later "
            "(at the latest when the same command is run again)"
        )


def _note(training: Mapping[str, Any], figures: Mapping[str, float]) -> str:
    """One sentence for the run's description."""
    told = [
        f"{split} accuracy {percent(training[split]['accuracy'])} (n={training[split]['n']:,})"
        for split in ("test", "validation")
        if training[split] is not None
    ]
    told.append(f"{count(figures['flops'])} FLOPs ({percent(figures['flops_ratio'])} of dense)")
    if "density" in figures:
        told.append(f"density {percent(figures['density'])}")
    return f"Trained on {training['data']} for {training['epochs']} epochs: {', '.join(told)}"
