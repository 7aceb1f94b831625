"""MLflow's model registry: an export becomes a logged model and a version of a registered one.

Everything goes through files that MLflow shows and hands out again; nothing is pickled. Whoever
downloads a version has the export's folder, which ``prunenas.load`` loads. Where it holds
``model.onnx``, MLflow's own loaders (``mlflow.onnx``, ``mlflow.pyfunc``, ``mlflow models serve``)
take the version as it is.
"""

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunenas.tracking.config import read_config
from prunenas.tracking.quiet import mlflow_at_work
from prunenas.tracking.reach import check_reachable
from prunenas.tracking.rows import flatten
from prunenas.tracking.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import Model

_LONGEST = 500  # of a parameter's value: MLflow's own limit for older stores


@dataclass(frozen=True)
class Registered:
    """A version of a registered model.

    Attributes:
        name: The registered model's name.
        version: The version, from 1.
        alias: The alias that now means this version; ``None`` without one.
        model_id: The logged model's.
        run_id: The run's that logged it.
    """

    name: str
    version: int
    alias: str | None
    model_id: str
    run_id: str

    @property
    def uri(self) -> str:
        """What MLflow calls it: ``models:/NAME/VERSION``."""
        return f"models:/{self.name}/{self.version}"


def register(
    folder: str | Path,
    name: str,
    *,
    experiment: str,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, Any] | None = None,
    alias: str | None = None,
    identity: str | None = None,
    uri: str | None = None,
    config: Path | None = None,
) -> Registered:
    """Log an export's files as a model, and make it a version of a registered model.

    Args:
        folder: An export; all its files are uploaded.
        name: The registered model, which is made where there is none.
        experiment: Name of the experiment that the model is logged in.
        params: What the model's page shows; nested mappings are flattened.
        metrics: Figures such as ``accuracy`` and ``flops``.
        tags: More tags, of the model and of the version.
        alias: What the version is called from now on; it leaves any older version.
        identity: The study's; the run that logs the model then stands below the study's.
        uri: A tracking URI; otherwise as :func:`prunenas.tracking.read_config` says.
        config: Another file than ``mlflow.yml`` of the current folder.

    Raises:
        TrackingError: The store is out of reach or refuses; no version is made then.
    """
    folder = Path(folder)
    settings = read_config(uri, config)
    check_reachable(settings.uri)
    with mlflow_at_work(f"{folder} can't be registered as {name!r}"):
        from mlflow import MlflowClient

        store = Store(settings)
        where = store.experiment(experiment)
        client = MlflowClient(tracking_uri=settings.uri)
        study = store.find(where, "study", identity) if identity else None
        marks = {"prunenas.role": "export", **flatten(tags or {})}
        parent = {"mlflow.parentRunId": study.run_id} if study is not None else {}
        run = client.create_run(where, run_name=f"export {folder.name}", tags=marks | parent)
        run_id = run.info.run_id
        ended = "FAILED"
        try:
            model_id = _log(client, where, run_id, folder, params, metrics, marks)
            made = _version(client, name, model_id, run_id, marks)
            ended = "FINISHED"
        finally:
            client.set_terminated(run_id, ended)
        if alias is not None:
            client.set_registered_model_alias(name, alias, str(made))
    return Registered(name, made, alias, model_id, run_id)


def _log(
    client: "MlflowClient",
    experiment: str,
    run_id: str,
    folder: Path,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
) -> str:
    from mlflow.entities import Metric, Param

    shown = {key: value[:_LONGEST] for key, value in flatten(params).items()}
    logged = client.create_logged_model(
        experiment,
        name=folder.name,
        source_run_id=run_id,
        tags=dict(tags),
        params=shown,
        model_type="prunenas export",
    )
    model_id: str = logged.model_id
    ready = "FAILED"
    try:
        client.log_model_artifacts(model_id, str(folder))
        with tempfile.TemporaryDirectory(prefix="prunenas-") as scratch:
            path = Path(scratch, "MLmodel")
            _description(folder, model_id, run_id).save(str(path))
            client.log_model_artifact(model_id, str(path))
        now = round(time.time() * 1000)
        client.log_batch(
            run_id,
            metrics=[
                Metric(key, float(value), now, 0, model_id=model_id, run_id=run_id)
                for key, value in metrics.items()
            ],
            params=[Param(key, value) for key, value in shown.items()],
        )
        ready = "READY"
    finally:
        client.finalize_logged_model(model_id, ready)  # type: ignore[arg-type]
    return model_id


def _description(folder: Path, model_id: str, run_id: str) -> "Model":
    """``MLmodel``: which of MLflow's loaders can take the files."""
    from mlflow.models import Model

    model = Model(run_id=run_id, model_id=model_id)
    model.add_flavor("prunenas", config="config.json", loader="modeling.py", code=None)
    if (folder / "model.onnx").is_file():
        model.add_flavor("python_function", loader_module="mlflow.onnx", data="model.onnx", env={})
        model.add_flavor(
            "onnx",
            data="model.onnx",
            onnx_version=_installed("onnx"),
            providers=["CPUExecutionProvider"],
            code=None,
        )
    return model


def _version(
    client: "MlflowClient", name: str, model_id: str, run_id: str, tags: Mapping[str, str]
) -> int:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # Its files' place rather than models:/ID, which MLflow 3.17 looks up in the global store.
    made = client.create_model_version(
        name,
        client.get_logged_model(model_id).artifact_location,
        run_id=run_id,
        tags={**tags, "prunenas.model": model_id},
        model_id=model_id,
    )
    # The link between their pages, which a server makes and a store without one does not.
    link = json.dumps([{"name": name, "version": str(made.version)}])
    client.set_logged_model_tags(model_id, {"mlflow.modelVersions": link})
    return int(made.version)


def _installed(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""
