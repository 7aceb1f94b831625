"""Exports on disk: written whole or not at all, loaded as they were."""

import json
import subprocess
import sys
from pathlib import Path

import exporting
import pytest
import torch

import prunenas
from prunenas.architecture import build, count_flops, trace
from prunenas.errors import ExportError, SourceError
from prunenas.export import add_format, load, read_config, update_export


@pytest.fixture(scope="module")
def space():
    return trace("vgg_mini", input_shape=(1, 28, 28))


@pytest.fixture(scope="module")
def architecture(space):
    return space.fit(flops_ratio=0.3)


@pytest.fixture
def write(space, architecture, tmp_path):
    def call(folder="best", **changes):
        values = {"dense_flops": space.dense.flops, **changes}
        chosen = values.pop("architecture", architecture)
        return exporting.export(tmp_path / folder, chosen, **values)

    return call


def images(count=4):
    return torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def test_without_weights_the_network_is_fresh_and_ready_to_train(write, architecture):
    network = load(write())
    assert network.training
    assert count_flops(network, (1, 28, 28)) == architecture.flops
    assert network(images()).shape == (4, 10)


def test_with_weights_the_network_answers_as_the_trained_one(write, architecture):
    trained = build(architecture, seed=1)
    trained(images(16))  # moves the running statistics, which belong to the weights
    network = load(write(weights=trained.state_dict()))
    assert not network.training
    assert torch.equal(network(images()), trained.eval()(images()))


def test_a_fresh_process_answers_to_the_last_digit(write, architecture, tmp_path):
    trained = build(architecture, seed=1).eval()
    folder = write(weights=trained.state_dict())
    torch.save(images(), tmp_path / "images.pt")
    code = (
        "import sys, torch, prunenas\n"
        "network = prunenas.load(sys.argv[1])\n"
        "print(prunenas.count_flops(network, (1, 28, 28)))\n"
        "torch.save(network(torch.load(sys.argv[2])), sys.argv[3])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder, tmp_path / "images.pt", tmp_path / "logits.pt"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert int(done.stdout) == architecture.flops
    assert torch.equal(torch.load(tmp_path / "logits.pt"), trained(images()))


def test_the_config_is_compact_json_with_a_layer_on_a_line(write, architecture):
    lines = (write() / "config.json").read_text().splitlines()
    assert len([line for line in lines if '"conv"' in line and line.strip()[0] == "["]) == 4
    assert json.loads("\n".join(lines))["architecture"] == architecture.to_dict()


def test_strings_in_provenance_keep_their_brackets_and_lines(write):
    text = 'a [ 1,\n 2 ] "quoted" [\\n  3\n] {x}'
    kept = {"note": text, "list": [text, "b"], "plain": ["two  spaces", "x\n y"], "empty": []}
    assert read_config(write(provenance=kept)).provenance == kept


def test_tied_weights_are_written(write, architecture):
    state = build(architecture, seed=1).state_dict()
    state["features.1.bias"] = state["features.1.weight"]  # one memory for two names
    loaded = load(write(weights=state)).state_dict()
    assert torch.equal(loaded["features.1.bias"], state["features.1.weight"])


def test_nothing_is_left_of_an_export_that_fails(write, architecture, tmp_path):
    state = build(architecture).state_dict()
    state["classifier.bias"] = torch.zeros(11)
    with pytest.raises(ExportError, match="weights must fit the architecture") as caught:
        write(weights=state)
    assert str(tmp_path / "best") in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ExportError, match="provenance must hold JSON values"):
        write(provenance={"accuracy": float("nan")})
    with pytest.raises(ExportError, match="provenance must hold JSON values"):
        write(provenance={"object": object()})
    assert entries(tmp_path) == []


def test_the_folder_holds_config_card_architecture_and_loader(write, tmp_path):
    assert entries(write()) == ["README.md", "architecture.yaml", "config.json", "modeling.py"]


def test_files_are_readable_for_whoever_may_read_the_folder(write, architecture):
    folder = write(weights=exporting.trained(architecture))
    modes = {path.stat().st_mode & 0o444 for path in folder.iterdir()}
    assert modes == {folder.stat().st_mode & 0o444}


def test_new_weights_take_the_place_of_the_old_and_the_card_says_so(write, architecture, tmp_path):
    folder = write(picture=b"PNG")
    weights = exporting.trained(architecture)
    update = {"training": exporting.TRAINING, "verifier": exporting.verifier()}
    assert update_export(folder, weights=weights, **update) == folder
    config = read_config(folder)
    assert config.training == exporting.TRAINING
    assert torch.equal(load(folder).state_dict()["classifier.bias"], weights["classifier.bias"])
    card = (folder / "README.md").read_text()
    assert "92.50 % (test, n = 360)" in card
    assert "93.75 % (validation, n = 287)" in card
    assert (folder / "widths.png").read_bytes() == b"PNG"
    assert entries(tmp_path) == ["best"]


def test_an_export_of_the_first_version_is_brought_up_to_date(write, architecture):
    folder = write()
    for name in ("README.md", "architecture.yaml", "modeling.py"):
        (folder / name).unlink()
    plain = json.loads((folder / "config.json").read_text())
    for name in ("training", "formats", "tolerance", "tolerance_unit", "pretrained_cfg"):
        del plain[name]
    (folder / "config.json").write_text(json.dumps({**plain, "format_version": 1}))
    assert count_flops(load(folder), (1, 28, 28)) == architecture.flops
    weights = exporting.trained(architecture)
    update_export(
        folder, weights=weights, training=exporting.TRAINING, verifier=exporting.verifier()
    )
    assert json.loads((folder / "config.json").read_text())["format_version"] == 2
    assert {"README.md", "architecture.yaml", "modeling.py"} < set(entries(folder))
    assert not load(folder).training


def test_an_update_that_fails_leaves_the_export_as_it_was(write, architecture, tmp_path):
    folder = write(weights=exporting.trained(architecture))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    wrong = exporting.trained(architecture) | {"classifier.bias": torch.zeros(11)}
    shared = {"verifier": exporting.verifier()}
    with pytest.raises(ExportError, match="weights must fit the architecture"):
        update_export(folder, weights=wrong, training=exporting.TRAINING, **shared)
    right = exporting.trained(architecture, seed=3)
    bad = {**exporting.TRAINING, "validation": {"accuracy": 0.9}}
    with pytest.raises(ExportError, match=r"training\.validation\.n must be an int >= 1"):
        update_export(folder, weights=right, training=bad, **shared)
    with pytest.raises(ExportError, match="training must have data, epochs"):
        update_export(folder, weights=right, training={}, **shared)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert entries(tmp_path) == ["best"]


def test_a_format_needs_weights(write, tmp_path):
    folder = write()
    with pytest.raises(ExportError, match="format pt2 holds weights, but none were exported"):
        add_format(folder, "pt2")
    with pytest.raises(ExportError, match=r"must be exported \(--weights\)"):
        write(folder="other", formats=["pt2"])
    assert entries(tmp_path) == ["best"]


def test_flops_that_fvcore_does_not_count_are_refused(write, architecture, tmp_path):
    wrong = prunenas.Architecture.from_dict(
        {**architecture.to_dict(), "flops": architecture.flops - 1}
    )
    with pytest.raises(ExportError, match=f"fvcore counts, {architecture.flops}, but"):
        write(architecture=wrong)
    assert entries(tmp_path) == []


def test_an_export_is_replaced_only_when_asked(write, space, tmp_path):
    first = read_config(write())
    with pytest.raises(ExportError, match="exists already"):
        write(architecture=space.dense)
    assert read_config(tmp_path / "best") == first
    write(architecture=space.dense, replace=True)
    assert read_config(tmp_path / "best").architecture == space.dense
    assert entries(tmp_path) == ["best"]


def test_a_folder_that_is_no_export_is_never_replaced(write, tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "thesis.tex").write_text("all of it")
    with pytest.raises(ExportError, match="is not an export, so it is not replaced"):
        write(replace=True)
    (tmp_path / "best" / "config.json").write_text('{"format": "transformers"}')
    with pytest.raises(ExportError, match="not an export of prunenas"):
        write(replace=True)
    assert entries(tmp_path / "best") == ["config.json", "thesis.tex"]


def test_a_place_that_cannot_be_written_is_one_line(write, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="can't be written: ") as caught:
        write(folder="file/best")
    assert "\n" not in str(caught.value)


def test_damaged_weights_are_refused(write, architecture):
    folder = write(weights=build(architecture, seed=1).state_dict())
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # one bit of the last weight
    with pytest.raises(ExportError, match="damaged, its checksum"):
        load(folder)
    path.unlink()
    with pytest.raises(ExportError, match=r"model\.safetensors: missing"):
        load(folder)


def test_a_source_outside_needs_trust_and_is_not_imported_before(tmp_path, monkeypatch):
    (tmp_path / "outside_nets.py").write_text(
        "from pathlib import Path\n"
        "from torch import nn\n"
        "Path('imported').touch()\n"
        "def small():\n"
        "    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3),\n"
        "                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    space = trace("outside_nets:small", input_shape=(1, 8, 8))
    half = space.architecture(0.5)
    folder = exporting.export(Path("small"), half)
    monkeypatch.delitem(sys.modules, "outside_nets")
    (tmp_path / "imported").unlink()
    with pytest.raises(SourceError, match="--trust"):
        load(folder)
    read_config(folder)
    assert not (tmp_path / "imported").exists()
    assert count_flops(load(folder, trust=True), (1, 8, 8)) == half.flops
    assert (tmp_path / "imported").exists()
