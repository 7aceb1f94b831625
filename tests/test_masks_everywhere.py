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
from prunenas.architecture import masked_weights
from prunenas.cli import main
from prunenas.export import read_config
from prunenas.search import open_study

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
TRAIN = ["train", "best", "--data", "digits", "--recipe", "sparse.yaml"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of one trial, exported with weights and without."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "sparse.yaml").write_text(STUDY)
    (folder / "mlflow.db").write_bytes(tracked.fresh_database())
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(
            "prunenas.export.Verifier", lambda: contextlib.nullcontext(exporting.verifier())
        )
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


def provenance() -> dict[str, Any]:
    return dict(read_config("weights/best").provenance)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_people_and_programs_are_told_is_what_the_network_holds(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = prunenas.load("weights/best")
    weights = masked_weights(network)
    left = {name: int(weight.count_nonzero()) for name, weight in weights.items()}
    total = {name: weight.numel() for name, weight in weights.items()}
    density = sum(left.values()) / sum(total.values())
    assert density == pytest.approx(0.1, abs=0.001)
    whole = prunenas.count_flops(network, (1, 8, 8))
    params = sum(each.numel() for each in network.parameters())

    (front,) = told(capsys, "best", "sparse")["front"]
    assert front["density"] == density
    shown = told(capsys, "inspect", "weights/best")
    masks = shown["masks"]
    assert (masks["density"], masks["whole_flops"]) == (density, whole)
    assert masks["whole_params"] == params
    assert shown["params"] == params - sum(total.values()) + sum(left.values())
    for layer in masks["layers"]:
        name = f"{layer['name']}.weight"
        assert (layer["kept"], layer["of"]) == (left[name], total[name])
        assert layer["flops"] * total[name] == layer["whole_flops"] * left[name]
    parts = [*shown["groups"], *shown["frozen"]]
    assert sum(part["flops"] for part in parts) == shown["flops"]
    assert sum(layer["flops"] for layer in masks["layers"]) == shown["flops"]
    assert sum(layer["whole_flops"] for layer in masks["layers"]) == whole

    share = f"{100 * density:.1f} %"
    for arguments in (["best", "sparse"], ["inspect", "weights/best"]):
        assert main(arguments) == 0
        assert share in capsys.readouterr().out
    assert main(["inspect", "bare/best"]) == 0
    assert "(fvcore counts the dense form)" in " ".join(capsys.readouterr().out.split())
    card = Path("weights/best/README.md").read_text()
    assert f"they are {whole:,} and {params:,}" in card
    for name, number in left.items():
        row = f"| {name.removesuffix('.weight')} | {number:,} of {total[name]:,} weights |"
        assert row in card
    assert "](densities.png)" in card
    assert Path("weights/best/densities.png").read_bytes().startswith(b"\x89PNG")
    assert not Path("weights/best/widths.png").exists()


def test_mlflow_has_the_density(here: Path) -> None:
    with tracked.reading(f"sqlite:///{here}/mlflow.db") as client:
        experiments = [each.experiment_id for each in client.search_experiments()]
        (run,) = client.search_runs(experiments, "tags.`prunenas.state` = 'complete'")
        files = {each.path for each in client.list_artifacts(run.info.run_id)}
    assert "densities.png" in files
    assert "widths.png" not in files
    expected = read_config("weights/best").architecture.density
    assert run.data.metrics["density"] == expected
    assert "density 10.0 %" in run.data.tags["mlflow.note.content"]


def test_masks_that_are_gone_are_one_line(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = Path(".prunenas/masks")
    shown = told(capsys, "cache")["masks"]
    files = list(masks.rglob("*.safetensors"))
    assert shown["architectures"] == len(files) == 1
    assert shown["bytes"] == sum(path.stat().st_size for path in files)
    shutil.copytree(".prunenas", tmp_path / ".prunenas")
    with contextlib.chdir(tmp_path):
        assert main(["cache", "--prune", "--all"]) == 0
        assert "holds masks of 1 architecture" in capsys.readouterr().err
        assert [path.name for path in masks.rglob("*.safetensors")] == [files[0].name]
        next(masks.rglob("*.safetensors")).write_bytes(b"damaged")
        for ruin in (lambda: None, lambda: shutil.rmtree(masks)):
            ruin()
            for weights in ([], ["--weights"]):
                assert main(["export", "sparse", "out", *weights]) == 2
                (line,) = capsys.readouterr().err.splitlines()
                assert line.startswith("error: masks of architecture ")
                assert "must lie in .prunenas" in line
        assert not Path("out").exists()


@pytest.mark.slow
def test_retrained_from_its_export_in_fresh_processes_it_is_the_studys_network(
    here: Path, tmp_path: Path
) -> None:
    seed = provenance()["seeds"]["training"]
    for name in ("one", "two"):
        folder = tmp_path / name
        shutil.copytree("bare/best", folder / "best")
        shutil.copy("sparse.yaml", folder)
        done = command(folder, *TRAIN, "--seed", str(seed))
        assert done.returncode == 0, done.stderr
        assert digest(folder / "best") == digest(here / "weights/best")
        training = read_config(folder / "best").training
        assert training is not None
        assert training["validation"]["accuracy"] == provenance()["accuracy"]
    # And as the study itself trains it again where it has kept no weights.
    shutil.copytree(".prunenas", tmp_path / ".prunenas")
    shutil.rmtree(tmp_path / ".prunenas/weights")
    shutil.rmtree(tmp_path / ".prunenas/cache/scratch")
    done = command(tmp_path, "export", "sparse", "again", "--weights")
    assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "again/best") == digest(here / "weights/best")


def test_without_prunenas_masks_hold_and_fresh_weights_are_drawn_for_them(here: Path) -> None:
    code = """
import torch
from torch import nn
sys.path.insert(0, "")
from modeling import from_pretrained
network = from_pretrained()
masked = {name: layer for name, layer in network.named_modules() if hasattr(layer, "weight_mask")}
print(*sorted(masked))
for layer in masked.values():
    left = layer.weight.detach()[layer.weight_mask]
    assert not layer.weight[~layer.weight_mask].any() and left.all()
    if isinstance(layer, nn.Conv2d) and len(left) > 1000:
        assert abs(left.var().item() * len(left) / (2 * layer.in_channels) - 1) < 0.2
optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
for _ in range(3):
    optimizer.zero_grad()
    network(torch.rand(4, 1, 8, 8)).square().sum().backward()
    optimizer.step()
for layer in masked.values():
    assert not layer.weight[~layer.weight_mask].any()
"""
    names = exporting.without_prunenas(code, cwd=here / "bare/best").split()
    masks = read_config("bare/best").architecture.masks
    assert names == sorted(name.removesuffix(".weight") for name in masks)


def test_a_lie_about_what_is_saved_ends_a_training_before_it_begins(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree("bare/best", tmp_path / "best")
    shutil.copy("sparse.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    path = Path("best/config.json")
    config = json.loads(path.read_text())
    plain = config["architecture"]
    name, mask = next(iter(plain["masks"].items()))
    mask["uses"] += 1
    plain["flops"] -= mask["shape"][0] * mask["shape"][1] * 9 - mask["kept"]
    config["flops"] = plain["flops"]
    path.write_text(json.dumps(config))
    assert main(TRAIN) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"uses of {name} must be the multiply-adds" in line


def test_a_lottery_ticket_can_not_be_trained_from_an_export(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "bare/best", *TRAIN[2:], "--set", "initial=original"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "which only a study has" in line


@pytest.mark.slow
def test_three_beginnings_are_three_trainings_of_one_mask_and_one_dense_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mlflow.db").write_bytes(tracked.fresh_database())
    records = []
    for initial in ("fresh", "original", "rewound"):
        text = STUDY.replace("name: sparse", f"name: {initial}", 1)
        text = text.replace("train: {", f"train: {{initial: {initial}, ")
        Path(f"{initial}.yaml").write_text(text)
        prunenas.run(f"{initial}.yaml")
        records += open_study("sqlite:///.prunenas/studies.db", initial).records
    assert [record.state for record in records] == ["complete"] * 3
    assert len({record.digest for record in records}) == 1
    assert len({json.dumps(record.curve) for record in records}) == 3
    assert all(record.reused is None for record in records)
    dense = list(Path(".prunenas/cache/dense").glob("*/*.safetensors"))
    assert len(dense) <= 2  # one, and its weights on the way that a ticket is rewound to
