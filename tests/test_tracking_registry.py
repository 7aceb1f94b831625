"""Exports in MLflow's registry: real store, read back through MLflow's own client."""

import json
import os
import subprocess
import sys

import exporting
import numpy as np
import pytest
import tracked
from server import mlflow_server

from prunenas.errors import TrackingError
from prunenas.export import load
from prunenas.tracking import read_config, register

SETTINGS = {
    "experiment": tracked.EXPERIMENT,
    "params": {"method": "l1_norm", "hyperparameters": {"keep": 0.5}},
    "metrics": {"accuracy": 0.91, "flops": 12345, "params": 678},
    "tags": {"prunenas.study": "quickstart", "prunenas.trial": 3},
}


@pytest.fixture
def uri(tmp_path):
    (tmp_path / "store").mkdir()
    path = tmp_path / "store" / "mlflow.db"
    path.write_bytes(tracked.fresh_database())
    return f"sqlite:///{path}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    architecture = exporting.space().dense
    return exporting.export(
        tmp_path_factory.mktemp("registry") / "best",
        architecture,
        weights=exporting.trained(architecture),
    )


def test_a_version_shows_figures_and_hands_the_files_out_again(uri, folder, tmp_path):
    made = register(folder, "digits", alias="champion", uri=uri, **SETTINGS)
    assert (made.version, made.uri) == (1, "models:/digits/1")
    with tracked.reading(uri) as client:
        version = client.get_model_version_by_alias("digits", "champion")
        assert (version.version, version.status, version.run_id) == (1, "READY", made.run_id)
        assert version.tags["prunenas.study"] == "quickstart"
        model = client.get_logged_model(made.model_id)
        assert model.status == "READY"
        (link,) = json.loads(model.tags["mlflow.modelVersions"])
        assert link == {"name": "digits", "version": "1"}
        assert model.params == {"method": "l1_norm", "hyperparameters.keep": "0.5"}
        shown = {metric.key: metric.value for metric in model.metrics}
        assert shown == {"accuracy": 0.91, "flops": 12345, "params": 678}
        run = client.get_run(made.run_id)
        assert run.info.status == "FINISHED"
        assert run.data.metrics["accuracy"] == 0.91

        from mlflow.artifacts import download_artifacts

        again = download_artifacts(
            artifact_uri=model.artifact_location, dst_path=str(tmp_path / "got"), tracking_uri=uri
        )
    names = {path.name for path in folder.iterdir()}
    found = {path.name: path.read_bytes() for path in (tmp_path / "got").rglob("*.*")}
    assert names <= {*found}
    assert found["config.json"] == (folder / "config.json").read_bytes()
    mine, theirs = load(folder).state_dict(), load(again).state_dict()
    assert all(value.equal(theirs[name]) for name, value in mine.items())


def test_a_second_version_takes_the_alias_over(uri, folder):
    assert register(folder, "digits", alias="champion", uri=uri, **SETTINGS).version == 1
    assert register(folder, "digits", uri=uri, **SETTINGS).version == 2
    assert register(folder, "digits", alias="champion", uri=uri, **SETTINGS).version == 3
    with tracked.reading(uri) as client:
        assert client.get_model_version_by_alias("digits", "champion").version == 3
        assert len(client.search_model_versions("name = 'digits'")) == 3


def test_the_run_stands_below_its_studys(uri, folder):
    tracker = tracked.tracker(uri)
    tracked.open_study(tracker, identity="quickstart@here")
    made = register(folder, "digits", identity="quickstart@here", uri=uri, **SETTINGS)
    tracked.open_study(tracked.tracker(uri), identity="quickstart@here")  # reads all children
    with tracked.reading(uri) as client:
        run = client.get_run(made.run_id)
        parent = client.get_run(run.data.tags["mlflow.parentRunId"])
        assert parent.data.tags["prunenas.identity"] == "quickstart@here"
        assert run.data.tags["prunenas.role"] == "export"


@pytest.mark.slow
def test_a_server_hands_a_version_to_mlflows_own_loader(tmp_path):
    """Over HTTP, as a team would: registered here, run there, without prunenas or a pickle."""
    pytest.importorskip("onnxruntime")
    architecture = exporting.space().dense
    folder = exporting.export(
        tmp_path / "best",
        architecture,
        weights=exporting.trained(architecture),
        formats=["onnx"],
    )
    images = exporting.images(architecture, 3).numpy()
    np.save(tmp_path / "images.npy", images)
    code = """
import sys, numpy, mlflow
images = numpy.load("images.npy")
(values,) = mlflow.pyfunc.load_model("models:/digits@champion").predict(images).values()
numpy.save("logits.npy", values)
"""
    with mlflow_server(read_config(f"sqlite:///{tmp_path / 'mlflow.db'}"), tmp_path / "log") as uri:
        assert register(folder, "digits", alias="champion", uri=uri, **SETTINGS).version == 1
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            cwd=tmp_path,
            env=os.environ | {"MLFLOW_TRACKING_URI": uri, "no_proxy": "127.0.0.1"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    expected = load(folder)(exporting.images(architecture, 3)).detach().numpy()
    assert abs(np.load(tmp_path / "logits.npy") - expected).max() < 1e-4


def test_what_the_registry_refuses_is_told_in_one_line(uri, folder, tmp_path):
    with pytest.raises(TrackingError, match=r"best can't be registered as 'a/b'") as caught:
        register(folder, "a/b", uri=uri, **SETTINGS)
    assert "\n" not in str(caught.value)
    with pytest.raises(TrackingError, match="can't be registered as 'digits'"):
        register(folder, "digits", alias="latest", uri=uri, **SETTINGS)
    with pytest.raises(TrackingError):
        register(folder, "digits", uri="http://127.0.0.1:9", **SETTINGS)
    assert json.loads((folder / "config.json").read_text())
