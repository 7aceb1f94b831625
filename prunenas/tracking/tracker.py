"""Studies in MLflow: a parent run for each study, a child run for each trial."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prunenas.architecture import weights_kept
from prunenas.errors import TrackingError, unknown
from prunenas.tracking import front as front_rows
from prunenas.tracking.config import TrackingConfig, read_config
from prunenas.tracking.drawings import DrawStudy, drawings
from prunenas.tracking.quiet import mlflow_at_work
from prunenas.tracking.reach import check_reachable
from prunenas.tracking.repeats import DrawRepeats, write_repeats
from prunenas.tracking.rows import (
    STATUS,
    flatten,
    milliseconds,
    trial_name,
    trial_params,
    trial_points,
    trial_tags,
)
from prunenas.tracking.store import Store, StudyRuns

_CLOSED = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_TABLES = json.dumps([{"path": "front_table.json", "type": "table"}])

DrawDensities = Callable[[Mapping[str, tuple[int, int]]], bytes]
DrawWidths = Callable[[Mapping[str, int], Mapping[str, int]], bytes]


class Tracker:
    """Writes studies and their trials to MLflow; everything can be written twice, and stays once.

    Nothing is asked of MLflow before :meth:`open_study`. Records are the mappings that
    ``prunenas.trial.Record.to_dict`` gives; ``dense`` tells of the dense network: ``flops``,
    ``params``, and ``accuracy`` (``None`` unless it was trained).
    """

    def __init__(
        self,
        uri: str | None = None,
        *,
        experiment: str,
        config: Path | None = None,
        draw_widths: DrawWidths | None = None,
        draw_densities: DrawDensities | None = None,
        draw_front: DrawStudy | None = None,
        draw_repeats: DrawRepeats | None = None,
        draw_methods: DrawStudy | None = None,
        draw_latency: DrawStudy | None = None,
        costs: Sequence[str] = front_rows.FLOPS,
    ) -> None:
        """Decide where tracking goes.

        Args:
            uri: A tracking URI; otherwise as :func:`prunenas.tracking.read_config` says.
            experiment: Name of the experiment that holds the study.
            config: Another file than ``mlflow.yml`` of the current folder.
            draw_widths: Draws a trial's widths (widths, dense widths) as PNG.
            draw_densities: Draws what a trial's masks keep (weights left and all, by name) as PNG,
                in the place of widths, which no mask changes.
            draw_front: Draws the front (records, dense) as PNG.
            draw_repeats: Draws what fresh seeds say (candidates, winner's curse) as PNG.
            draw_methods: Draws methods side by side (records, dense) as PNG, for studies whose
                complete trials are of more than one.
            draw_latency: Draws FLOPs against latency (records, dense) as PNG, for studies that
                measure it.
            costs: What hypervolumes are of, beside accuracy.

        Raises:
            TrackingError: ``mlflow.yml`` or the URI breaks a law.
        """
        self.config: TrackingConfig = read_config(uri, config)
        self.experiment = experiment
        self.name = ""
        self._draw_widths = draw_widths
        self._draw_densities = draw_densities
        self._draw_front = draw_front
        self._draw_repeats = draw_repeats
        self._draw_methods = draw_methods
        self._draw_latency = draw_latency
        self._costs = costs
        self._store: Store | None = None
        self._experiment_id = ""
        self._identity = ""
        self._runs: StudyRuns | None = None
        self._doubtful = False

    @property
    def is_open(self) -> bool:
        """Whether a study was opened."""
        return self._runs is not None

    @property
    def page(self) -> str:
        """What follows a server's address to see the open study: ``/#/experiments/1/runs/…``."""
        _, runs = self._opened()
        return f"/#/experiments/{self._experiment_id}/runs/{runs.run_id}"

    def open_study(
        self,
        name: str,
        *,
        text: str,
        parameters: Mapping[str, Any],
        tags: Mapping[str, Any] | None = None,
        identity: str | None = None,
        started: str | None = None,
    ) -> None:
        """Find or create the study's run, and see which trials it has.

        Args:
            name: The study's name, and its run's.
            text: The study's YAML, kept as ``study.yaml``.
            parameters: The study's settings; nested mappings are flattened. MLflow never changes a
                parameter: one that differs later is kept as tag ``prunenas.now.KEY``.
            tags: More tags for the run.
            identity: What tells this study from another of the same name in another storage;
                the name where omitted.
            started: ISO 8601 time, where the study began before now.

        Raises:
            TrackingError: The store is out of reach or refuses.
        """
        self.name, self._identity = name, identity or name
        check_reachable(self.config.uri)
        with mlflow_at_work(f"study {name!r} can't be tracked"):
            store = self._store = self._store or Store(self.config)
            self._experiment_id = store.experiment(self.experiment)
            runs = store.open(
                self._experiment_id,
                name,
                self._identity,
                milliseconds(started) if started else None,
            )
            wanted = flatten(parameters)
            marks = {
                f"prunenas.now.{key}": value
                for key, value in wanted.items()
                if runs.params.get(key, value) != value
            } | flatten(tags or {})
            params = {key: value for key, value in wanted.items() if key not in runs.params}
            marks = {key: value for key, value in marks.items() if runs.tags.get(key) != value}
            if params or marks:
                store.write(runs.run_id, params=params, tags=marks)
            digest = _digest(text)
            if runs.tags.get("prunenas.text") != digest:
                store.upload(runs.run_id, {"study.yaml": text})
                store.write(runs.run_id, tags={"prunenas.text": digest})
            self._runs, self._doubtful = runs, False

    def missing(self, records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The records that MLflow has no finished run of, as far as is known since opening."""
        _, runs = self._opened()
        done = {number for number, child in runs.children.items() if child.done}
        return [record for record in records if record["number"] not in done]

    def log_trial(self, record: Mapping[str, Any], dense_widths: Mapping[str, int]) -> None:
        """Write a trial as a child run, unless it is there; one begun earlier is completed.

        Raises:
            TrackingError: The store is out of reach or refuses.
        """
        store, runs = self._opened()
        number = record["number"]
        child = runs.children.get(number)
        if child is not None and child.done:
            return
        files: dict[str, str | bytes] = {"record.json": json.dumps(dict(record), indent=1)}
        if (architecture := record.get("architecture")) is not None:
            files["architecture.json"] = json.dumps(architecture, indent=1)
            if self._draw_densities and architecture.get("masks"):
                files["densities.png"] = self._draw_densities(weights_kept(architecture))
            elif self._draw_widths and architecture.get("widths"):
                files["widths.png"] = self._draw_widths(architecture["widths"], dense_widths)
        with self._writing(f"trial {number} can't be tracked"):
            store.touch(runs)
            if child is None:
                child = store.create_child(
                    self._experiment_id,
                    runs,
                    number,
                    trial_name(record),
                    self.name,
                    milliseconds(record["started"]),
                )
            store.write(
                child.run_id, trial_points(record), trial_params(record), trial_tags(record)
            )
            store.upload(child.run_id, files)
            end = milliseconds(record["finished"])
            store.end(child.run_id, STATUS[record["state"]], end)
            child.done = True
            runs.latest = max(runs.latest, end)

    def log_front(
        self,
        front: Sequence[Mapping[str, Any]],
        records: Sequence[Mapping[str, Any]],
        dense: Mapping[str, Any],
    ) -> None:
        """Bring the study's run up to date: front, picture, description, figures by trial.

        Args:
            front: The front's records, by ascending FLOPs.
            records: All records, in order of their numbers.
            dense: The dense network's ``flops``, ``params`` and ``accuracy``; ``latency_ms`` and
                ``round_seconds`` where it has them.

        Raises:
            TrackingError: The store is out of reach or refuses.
        """
        store, runs = self._opened()
        listing = front_rows.listing(front, dense)
        told = [(record["number"], record["state"]) for record in records]
        drawn = drawings(
            records, front=self._draw_front, methods=self._draw_methods, latency=self._draw_latency
        )
        # A study tracked before there was a picture gets it.
        more = "".join(f" {each.name}" for each in drawn if each.name != "front")
        digest = _digest(f"{listing} {told} {sorted(runs.children)}{more}")
        if runs.tags.get("prunenas.written") == digest:
            return
        files: dict[str, str | bytes] = {
            "front.json": listing,
            "front_table.json": front_rows.table(front),
            **{each.file: each.draw(records, dense) for each in drawn},
        }
        shown = {
            each.title: f"get-artifact?path={each.file}&run_uuid={runs.run_id}" for each in drawn
        }
        written = int(runs.figures.get("trials", 0))
        points = front_rows.history(records, written, self._costs, dense)
        points += front_rows.dense_points(dense, records, runs.figures)
        with self._writing("the front can't be tracked"):
            store.touch(runs)
            store.upload(runs.run_id, files)
            members = {record["number"] for record in front}
            for number, child in runs.children.items():
                if child.on_front != (number in members):
                    on_front = "true" if number in members else "false"
                    store.write(child.run_id, tags={"prunenas.front": on_front})
                    child.on_front = number in members
            marks = {
                "mlflow.note.content": front_rows.note(front, records, dense, shown),
                "mlflow.loggedArtifacts": _TABLES,
                "prunenas.written": digest,
            }
            store.write(runs.run_id, points, tags=marks)
            runs.figures |= {point.key: point.value for point in points}
            runs.tags |= marks

    def log_repeats(self, repeats: Mapping[str, Any]) -> None:
        """Write what fresh seeds say: onto the candidates' runs, and as a summary onto the study's.

        Args:
            repeats: ``wanted``, ``candidates`` (best first) and ``winners_curse``, as
                ``best --json`` shows them.

        Raises:
            TrackingError: The store is out of reach or refuses.
        """
        store, runs = self._opened()
        with self._writing("repeats can't be tracked"):
            write_repeats(store, runs, repeats, self._draw_repeats)

    def sync(
        self,
        records: Sequence[Mapping[str, Any]],
        dense_widths: Mapping[str, int],
        front: Sequence[Mapping[str, Any]],
        dense: Mapping[str, Any],
    ) -> int:
        """Write every trial that MLflow lacks, and the front; the number of trials written.

        Raises:
            TrackingError: The store is out of reach or refuses.
        """
        lacking = self.missing(records)
        for record in lacking:
            self.log_trial(record, dense_widths)
        self.log_front(front, records, dense)
        return len(lacking)

    def attach(self, files: Mapping[str, str | bytes]) -> None:
        """Keep files as artifacts of the study's run, unless they are there as they are.

        Args:
            files: By name, ``report.html`` or ``pictures/front.png``; one that is there gives way.

        Raises:
            TrackingError: The store is out of reach or refuses.
        """
        store, runs = self._opened()
        new, marks = dict[str, str | bytes](), dict[str, str]()
        for name, content in files.items():
            tag, digest = f"prunenas.file.{name}", _digest(content)
            if runs.tags.get(tag) != digest:
                new[name], marks[tag] = content, digest
        if not new:
            return
        with self._writing("files can't be tracked"):
            store.upload(runs.run_id, new)
            store.write(runs.run_id, tags=marks)
            runs.tags |= marks

    def close_study(self, state: str) -> None:
        """End the study's run: ``finished``, ``failed`` or ``interrupted``.

        Raises:
            TrackingError: The state is unknown, or the store is out of reach or refuses.
        """
        store, runs = self._opened()
        if state not in _CLOSED:
            raise TrackingError(unknown("state of a study", state, _CLOSED))
        if runs.status == _CLOSED[state]:
            return
        with self._writing(f"study {self.name!r} can't be closed"):
            store.end(runs.run_id, _CLOSED[state], runs.latest or None)
            runs.status = _CLOSED[state]

    def _opened(self) -> tuple[Store, StudyRuns]:
        """The open study; read again after trouble, when a request may have been heard or not."""
        if self._store is None or self._runs is None:
            raise TrackingError("a study must be opened before it is written to")
        if self._doubtful:
            check_reachable(self.config.uri)
            with mlflow_at_work(f"study {self.name!r} can't be read"):
                self._runs = self._store.open(self._experiment_id, self.name, self._identity, None)
            self._doubtful = False
        return self._store, self._runs

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        try:
            with mlflow_at_work(what):
                yield
        except BaseException:
            self._doubtful = True
            raise


def _digest(content: str | bytes) -> str:
    data = content.encode() if isinstance(content, str) else content
    return hashlib.sha256(data).hexdigest()[:16]
