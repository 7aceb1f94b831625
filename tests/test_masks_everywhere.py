"""A masked trial from its study to its export, and what is retrained from that elsewhere."""

import contextlib
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import exporting
import pytest
import tracked
from shell import prunenas as command

import prunenas
from prunenas.cli import main
from prunenas.export import read_config

STUDY = """\
name: sparse
model: {name: vgg_mini}
data: {name: digits}
methods:
  - name: magnitude
    with: {density: 0.1, layers: all}
objective: {maximize: accuracy, minimize: flops}
train: {epochs: 2, batch_size: 64, lr: 0.05, weight_decay: 0.001, schedule: cosine}
search: {sampler: random, trials: 1, seed: 4}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of one trial, exported with weights and without."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "sparse.yaml").write_text(STUDY)
    (folder / "mlflow.db").write_bytes(tracked.fresh_database())
    with contextlib.chdir(folder):
        prunenas.run("sparse.yaml")
        assert main(["export", "sparse", "weights", "--weights"]) == 0
        assert main(["export", "sparse", "bare"]) == 0
    return folder


@pytest.fixture
def here(study: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(study)
    return study


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def record(study: Path) -> dict[str, Any]:
    config = json.loads((study / "weights/best/config.json").read_text())
    provenance: dict[str, Any] = config["provenance"]
    return provenance


def test_the_export_is_as_sparse_as_was_asked_for(here: Path) -> None:
    architecture = read_config("weights/best").architecture
    assert architecture.density == pytest.approx(0.1, abs=0.001)
    network = prunenas.load("weights/best")
    left = sum(int(network.get_parameter(name).count_nonzero()) for name in architecture.masks)
    assert left == sum(mask.weights for mask in architecture.masks.values())


@pytest.mark.slow
def test_retrained_from_its_export_in_a_fresh_process_it_is_the_studys_network(
    here: Path, tmp_path: Path
) -> None:
    shutil.copytree("bare/best", tmp_path / "best")
    shutil.copy("sparse.yaml", tmp_path)
    seed = str(record(here)["seeds"]["training"])
    arguments = ["--data", "digits", "--recipe", "sparse.yaml", "--seed", seed]
    done = command(tmp_path, "train", "best", *arguments)
    assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "best") == digest(here / "weights/best")
    trained = read_config(tmp_path / "best").training
    assert trained is not None
    assert trained["validation"]["accuracy"] == record(here)["accuracy"]
    assert trained["train_images"] == record(here)["images"]["train"]
