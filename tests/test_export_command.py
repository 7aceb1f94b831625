"""``prunenas export`` on a real study: everything that an export can have, and the registry."""

import contextlib
import json

import exporting
import pytest
import tracked

import prunenas
from prunenas.cli import main
from prunenas.data import load as load_data
from prunenas.export import read_config
from prunenas.training import evaluate

STUDY = """\
name: tiny
model: {name: vgg_mini}
data: {name: digits, train_limit: 200}
methods: [{name: uniform, space: {method: {ratio: {low: 0.1, high: 0.9}}}}]
objective: {maximize: accuracy, minimize: flops}
train: {epochs: 1, batch_size: 50, lr: 0.05}
search: {sampler: random, trials: 2, seed: 0}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The folder of a study of two trials."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "tiny.yaml").write_text(STUDY)
    (folder / "mlflow.db").write_bytes(tracked.fresh_database())
    with contextlib.chdir(folder):
        prunenas.run("tiny.yaml")
    return folder


@pytest.fixture(autouse=True)
def here(study, monkeypatch):
    """The current folder, and one fresh process for all exports."""
    monkeypatch.chdir(study)
    monkeypatch.setattr(
        "prunenas.export.Verifier", lambda: contextlib.nullcontext(exporting.verifier())
    )


def told(capsys, *arguments):
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_an_export_has_weights_figures_picture_and_card(tmp_path, capsys):
    (entry,) = told(capsys, "export", "tiny", tmp_path, "--weights", "--format", "pt2")
    folder = tmp_path / "best"
    assert entry["folder"] == str(folder)
    data = load_data("digits", train_limit=200)
    config = read_config(folder)
    assert config.training["validation"]["n"] == len(data.validation)
    assert config.training["train_images"] == len(data.train) == 200
    accuracy = evaluate(prunenas.load(folder), data.validation).accuracy
    assert config.training["validation"]["accuracy"] == accuracy
    assert config.training["test"] is None
    assert config.pretrained_cfg["mean"] == pytest.approx(list(data.mean))
    assert list(config.formats) == ["pt2"]
    assert (folder / "widths.png").read_bytes().startswith(b"\x89PNG")
    card = (folder / "README.md").read_text()
    assert f"(validation, n = {len(data.validation)})" in card
    assert "| study | tiny |" in card
    assert "| method | uniform |" in card


def test_without_weights_nothing_is_said_of_training(tmp_path, capsys):
    told(capsys, "export", "tiny", tmp_path)
    config = read_config(tmp_path / "best")
    assert (config.training, config.weights_sha256) == (None, None)
    assert config.provenance["images"]["validation"] > 0


def test_an_export_enters_the_registry_under_an_alias(tmp_path, capsys):
    command = ["export", "tiny", tmp_path, "--register", "digits", "--alias", "champion"]
    (entry,) = told(capsys, *command)
    assert entry["registered"] == "digits version 1 (champion)"
    with tracked.reading("sqlite:///mlflow.db") as client:
        version = client.get_model_version_by_alias("digits", "champion")
        model = client.get_logged_model(version.tags["prunenas.model"])
        run = client.get_run(version.run_id)
    shown = {metric.key: metric.value for metric in model.metrics}
    config = read_config(tmp_path / "best")
    assert shown["flops"] == config.architecture.flops
    assert shown["accuracy"] == config.provenance["accuracy"]
    assert version.tags["prunenas.digest"] == config.architecture.digest
    assert "mlflow.parentRunId" in run.data.tags
    assert main([*map(str, command), "--replace"]) == 0
    assert "registered as digits version 2 (champion)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "pt2"], "a format holds weights: add --weights"),
        (["--format", "onxx", "--weights"], "unknown format 'onxx' (did you mean 'onnx'?)"),
        (["--alias", "champion"], "add --register NAME"),
        (
            ["--trial", "0", "--trial", "1", "--register", "digits", "--alias", "a"],
            "an alias means one version, but 2 are exported",
        ),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_is_written(tmp_path, options, message, capsys):
    assert main(["export", "tiny", str(tmp_path), *options]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []
