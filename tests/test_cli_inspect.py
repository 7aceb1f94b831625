"""`prunenas inspect` and `prunenas list`: figures against networks that are really built."""

import json
from pathlib import Path

import pytest
import torch

import prunenas
from prunenas.cli import main
from prunenas.export import write_export

SPACES = Path(__file__).parent.parent / "search_spaces"


def told(capsys, *arguments):
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_groups_of_resnet18(capsys):
    values = told(
        capsys, "inspect", "torchvision/resnet18", "--input", "3,32,32", "--set", "num_classes=10"
    )
    groups = {group["name"]: group for group in values["groups"]}
    assert values["arguments"] == {"num_classes": 10}
    assert len(groups) == 12
    assert groups["conv1"]["layers"] == ["conv1", "layer1.0.conv2", "layer1.1.conv2"]
    assert [group["name"] for group in values["frozen"]] == ["fc"]
    assert values["params"] == 11_181_642  # 11,689,512 of ImageNet, less 990 rows of 513


def test_what_a_group_saves_is_what_fvcore_counts_less(capsys):
    values = told(capsys, "inspect", "vgg_mini", "--input", "3,32,32")
    assert values["arguments"] == {"in_channels": 3, "input_size": 32}
    space = prunenas.trace("vgg_mini", arguments=values["arguments"], input_shape=(3, 32, 32))
    for group in values["groups"]:
        widths = {**space.dense.widths, group["name"]: 1}
        cut = prunenas.build(space.architecture(widths=widths))
        left = prunenas.count_flops(cut, (3, 32, 32))
        assert group["saves"] == pytest.approx(1 - left / values["flops"], abs=1e-12)


def test_the_input_of_an_own_model_is_known_without_saying(capsys):
    assert told(capsys, "inspect", "lenet5")["input_shape"] == [1, 28, 28]
    assert told(capsys, "inspect", "lenet5", "--set", "input_size=32")["input_shape"] == [1, 32, 32]


def test_settings_are_json_or_words(capsys):
    values = told(capsys, "inspect", "resnet20", "--set", "shortcut=b", "--set", "num_classes=3")
    assert values["arguments"] == {"shortcut": "b", "num_classes": 3}
    assert [group["width"] for group in values["frozen"] if "output" in group["reason"]] == [3]


def test_the_table_names_every_group_and_why_the_rest_is_frozen(capsys):
    assert main(["inspect", "vgg_mini"]) == 0
    shown = capsys.readouterr().out
    assert "vgg_mini() on 1×28×28" in shown
    for name, width in {"features.0": 16, "features.4": 32, "features.8": 64}.items():
        row = next(line for line in shown.splitlines() if line.startswith(f"{name} "))
        assert row.split()[1] == str(width)
    assert "the network's output" in shown


def test_an_export_is_shown_against_its_dense_network(tmp_path, capsys):
    space = prunenas.trace("vgg_mini", input_shape=(1, 28, 28))
    half = space.architecture({"features.4": 0.5})
    provenance = {"study": "demo", "trial": 3, "method": "l1_norm", "accuracy": 0.9876}
    folder = write_export(
        tmp_path / "best", half, dense_flops=space.dense.flops, provenance=provenance
    )
    values = told(capsys, "inspect", str(folder))
    widths = {group["name"]: (group["width"], group["dense_width"]) for group in values["groups"]}
    assert widths["features.4"] == (16, 32)
    assert widths["features.0"] == (16, 16)
    assert values["export"] == {
        "flops_ratio": half.flops / space.dense.flops,
        "weights": False,
        "provenance": provenance,
    }
    assert main(["inspect", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "study demo, trial 3, l1_norm, accuracy 0.9876" in shown
    assert main(["inspect", str(folder), "--set", "num_classes=3"]) == 2
    assert "an export says it itself" in capsys.readouterr().err


def test_an_export_of_a_foreign_module_is_shown_without_running_it(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = prunenas.trace("vgg_mini", input_shape=(1, 28, 28))
    plain = {**space.dense.to_dict(), "source": "evil_nets:net"}
    folder = write_export(
        tmp_path / "best", space.dense, dense_flops=space.dense.flops, provenance={}
    )
    config = json.loads((folder / "config.json").read_text())
    foreign = prunenas.Architecture.from_dict(plain)
    config |= {"architecture": plain, "digest": foreign.digest}
    (folder / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil_nets.py").write_text("open('imported', 'w').close()\n")
    values = told(capsys, "inspect", str(folder))
    assert values["widths"] == dict(space.dense.widths)
    assert "groups" not in values
    assert main(["inspect", str(folder)]) == 0
    printed = capsys.readouterr()
    assert "features.11" in printed.out
    assert "--trust" in printed.err
    assert not (tmp_path / "imported").exists()


def test_everything_there_is_is_listed(capsys, monkeypatch):
    monkeypatch.chdir(SPACES.parent)
    values = told(capsys, "list")
    assert {method["name"] for method in values["methods"]} >= {"l1_norm", "network_slimming"}
    assert {entry["name"] for entry in values["data"]} >= {"mnist5k", "cifar10", "image_folder"}
    assert {entry["name"] for entry in values["models"]} >= {"vgg16", "torchvision/resnet18"}
    assert {entry["name"] for entry in values["spaces"]} == {
        path.stem for path in SPACES.glob("*.yaml")
    }
    for entries in values.values():
        for entry in entries:
            assert entry["source"]
            assert entry["description"] or entry["name"].startswith("torchvision/")


def test_a_methods_hyperparameters_are_listed(capsys):
    methods = {method["name"]: method for method in told(capsys, "list", "methods")}
    ratio = methods["uniform"]["hyperparameters"]["ratio"]
    assert ratio["default"] == 0.5
    assert ratio["description"]
    assert ratio["search"]["high"] == 1.0


def test_lists_are_tables_for_people(capsys):
    assert main(["list", "data"]) == 0
    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines() if line.startswith("mnist5k"))
    assert "5,000 handwritten digits" in row


def test_a_folder_without_search_spaces_is_told(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert told(capsys, "list", "spaces") == []
    assert main(["list", "spaces"]) == 0
    assert "no spaces" in capsys.readouterr().err


def test_inspecting_leaves_the_random_state_alone(capsys):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    main(["inspect", "lenet5"])
    assert torch.equal(torch.rand(1), expected)
