"""ONNX and torch.export files: written with their weights, checked by their own runtimes."""

import importlib.util
import json

import exporting
import pytest
import torch

from prunenas.errors import ExportError
from prunenas.export import add_format, formats, load, read_config, update_export


@pytest.fixture(scope="module")
def architecture():
    return exporting.space().fit(flops_ratio=0.5)


def write(folder, architecture, **changes):
    return exporting.export(
        folder, architecture, weights=exporting.trained(architecture), **changes
    )


def test_onnx_answers_as_torch_at_any_batch_size(tmp_path, architecture):
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = write(tmp_path / "best", architecture, formats=["onnx"])
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    network = load(folder)
    for count in (1, 2, 5):
        images = exporting.images(architecture, count)
        (found,) = session.run(None, {"input": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), network(images).detach())
    config = json.loads((folder / "config.json").read_text())
    assert config["tolerance"] == {"modeling.py": 1e-5, "model.onnx": 1e-4}
    assert not list(folder.glob("*.data"))


def test_pt2_answers_as_torch_at_any_batch_size(tmp_path, architecture):
    folder = write(tmp_path / "best", architecture)
    assert add_format(folder, "pt2", verifier=exporting.verifier()) == folder / "model.pt2"
    assert list(read_config(folder).formats) == ["pt2"]
    assert "`torch.export`, any batch size" in (folder / "README.md").read_text()
    network = load(folder)
    program = torch.export.load(folder / "model.pt2").module()
    for count in (1, 2, 5):
        images = exporting.images(architecture, count)
        torch.testing.assert_close(program(images), network(images))
    # New weights reach the other formats too.
    weights = exporting.trained(architecture, seed=5)
    update_export(
        folder, weights=weights, training=exporting.TRAINING, verifier=exporting.verifier()
    )
    images = exporting.images(architecture)
    answered = torch.export.load(folder / "model.pt2").module()(images)
    torch.testing.assert_close(answered, load(folder)(images))


def test_a_file_that_answers_otherwise_is_refused(tmp_path, architecture, monkeypatch):
    folder = write(tmp_path / "best", architecture)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    original = formats._exported

    def of_another(network, example):
        with torch.no_grad():
            network.classifier.bias += 1
        program = original(network, example)
        with torch.no_grad():
            network.classifier.bias -= 1
        # The program shares the network's tensors, so that it gets one of its own.
        program.state_dict["classifier.bias"] = torch.nn.Parameter(
            network.classifier.bias.detach() + 1
        )
        return program

    monkeypatch.setattr(formats, "_exported", of_another)
    with pytest.raises(ExportError, match=r"outputs of model\.pt2 must lie within 0\.0001"):
        add_format(folder, "pt2", verifier=exporting.verifier())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_network_that_has_no_such_form_is_told_in_one_line(tmp_path, architecture, monkeypatch):
    def refuse(network, example):
        raise RuntimeError("no rule\nfor aten::x")

    monkeypatch.setattr(formats, "_exported", refuse)
    with pytest.raises(ExportError, match="can't be expressed as pt2: RuntimeError: no rule for"):
        write(tmp_path / "best", architecture, formats=["pt2"])
    assert list(tmp_path.iterdir()) == []


def test_an_extra_that_is_not_installed_is_named(tmp_path, architecture, monkeypatch):
    found = importlib.util.find_spec

    def without(name, *rest):
        return None if name == "onnxruntime" else found(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(ExportError, match=r"needs onnxruntime; .* pip install 'prunenas\[onnx\]'"):
        write(tmp_path / "best", architecture, formats=["onnx"])
    with pytest.raises(ExportError, match=r"unknown format 'onxx' \(did you mean 'onnx'"):
        write(tmp_path / "best", architecture, formats=["onxx"])
    assert list(tmp_path.iterdir()) == []
