"""`prunenas inspect` and `prunenas list`: figures against networks that are really built."""

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

import prunenas
from prunenas import architectures
from prunenas.cli import main
from prunenas.cli.anatomy import anatomy
from prunenas.cli.groups import About, report
from prunenas.cli.names import shortened
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


def test_the_flops_of_a_group_are_those_of_the_convolutions_that_make_it(capsys):
    values = told(capsys, "inspect", "torchvision/resnet18")
    groups = {group["name"]: group for group in values["groups"]}
    stem, inner = 7 * 7 * 3 * 64 * 112 * 112, 3 * 3 * 64 * 64 * 56 * 56
    assert groups["conv1"]["flops"] == stem + 2 * inner
    assert groups["layer1.0.conv1"]["flops"] == inner
    assert groups["layer2.0.conv2"]["flops"] == (
        64 * 128 * 28 * 28 + 2 * 3 * 3 * 128 * 128 * 28 * 28  # the projection, two convolutions
    )
    assert [group["flops"] for group in values["frozen"]] == [512 * 1000]
    assert [branch["name"] for branch in values["branches"]][:2] == ["layer1.0", "layer1.1"]
    assert values["branches"][0]["flops"] == 2 * inner


@pytest.mark.parametrize(
    ("source", "shape"),
    [
        ("vgg_mini", (1, 28, 28)),
        ("resnet20", (3, 32, 32)),  # layers that make channels of several groups
        ("torchvision/mobilenet_v3_small", (3, 64, 64)),
        ("torchvision/shufflenet_v2_x0_5", (3, 64, 64)),
        pytest.param("torchvision/vit_b_16", (3, 224, 224), marks=pytest.mark.slow),  # attention
    ],
)
def test_all_parts_together_are_the_network(source, shape):
    space = prunenas.trace(source, input_shape=shape)
    for architecture in (space.dense, space.architecture(0.4)):
        parts = anatomy(space, architecture)
        groups = sum(part.flops for part in parts.groups)
        frozen, others = sum(part.flops for part in parts.frozen), sum(parts.others.values())
        assert groups + frozen + others == architecture.flops
        assert sum(flops for flops, _ in parts.stages().values()) == groups
        dense = sum(dense for _, dense in parts.stages().values())
        assert dense + parts.dense_frozen + parts.dense_others == space.dense.flops


@pytest.mark.parametrize("source", ["torchvision/mobilenet_v3_small", "resnet20"])
def test_tables_fit_their_terminal_and_figures_are_whole(source):
    space = prunenas.trace(source, input_shape=(3, 32, 32))
    half = space.architecture(0.5)
    cut = About(half.flops / space.dense.flops)
    for architecture, about, columns in (
        (space.dense, About(), 80),
        (half, cut, 80),
        (space.dense, About(), 120),
        (half, cut, 120),
    ):
        drawn = io.StringIO()
        console = Console(file=drawn, width=columns, force_terminal=False)
        console.print(*report(anatomy(space, architecture), architecture, about), sep="\n")
        lines = drawn.getvalue().splitlines()
        assert max(map(len, lines)) <= columns
        for group in space.groups:
            (row,) = [line.split() for line in lines if line.split()[:1] == [group.name]]
            assert str(architecture.widths[group.name]) in row
        (total,) = [line for line in lines if line.startswith("all · ")]
        assert "100.0 %" in total


def test_names_that_differ_in_a_number_are_told_as_one():
    assert shortened(["conv1", "layer1.0.conv2", "layer1.1.conv2", "fc"]) == [
        "conv1",
        "layer1.{0,1}.conv2",
        "fc",
    ]
    blocks = [f"layer{i}.{j}" for i, n in ((1, 3), (2, 4), (3, 6)) for j in range(n)]
    assert shortened(blocks) == ["layer1.{0-2}", "layer2.{0-3}", "layer3.{0-5}"]
    assert shortened([f"b{i}.c{j}" for i in (1, 2) for j in (0, 5)]) == ["b{1,2}.c{0,5}"]
    assert shortened(["a.1.b.1", "a.2.b.2"]) == ["a.1.b.1", "a.2.b.2"]  # 1.b.2 is not there
    assert shortened(["x", "x007", "x08"]) == ["x", "x007", "x08"]


def test_an_architecture_of_a_paper_is_shown_beside_its_dense_network(capsys):
    changes = ["--input", "1,16,16", "--set", "num_classes=7"]
    values = told(capsys, "inspect", "resnet56-b", *changes)
    assert values["architecture"] == "resnet56-b"
    widths = {group["name"]: (group["width"], group["dense_width"]) for group in values["groups"]}
    assert widths["stage1.0.conv1"] == (6, 16)
    assert widths["stage2.0.conv1"] == (32, 32)
    assert values["flops"] < values["dense_flops"]
    assert values["input_shape"] == [1, 16, 16]
    assert values["arguments"]["num_classes"] == 7
    assert main(["inspect", "resnet56-b"]) == 0
    shown = capsys.readouterr().out
    assert "from Li et al. 2017" in shown
    assert main(["inspect", "resnet56-b", "--set", "depth=3"]) == 2
    assert "only num_classes can be set" in capsys.readouterr().err


def test_removed_branches_are_told(capsys):
    space = prunenas.trace("resnet20", input_shape=(3, 32, 32))
    name = space.blocks[1].name
    parts = anatomy(space, space.without([name]).architecture(0.5))
    gone = [part for part in parts.groups if part.width == 0]
    assert [part.name for part in gone] == [f"{name}.conv1"]
    assert gone[0].flops == 0 < gone[0].dense_flops
    assert [branch.name for branch in parts.branches if branch.removed] == [name]


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
        row = next(line for line in shown.splitlines() if line.split()[:1] == [name])
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
        "training": None,
    }
    kept = {group["name"]: group["flops"] / group["dense_flops"] for group in values["groups"]}
    assert kept["features.4"] == 0.5  # half of its filters, each reading as many channels
    assert kept["features.8"] == 0.5  # all of its filters, each reading half
    assert kept["features.11"] == 1.0
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
    assert values["export"]["weights"] is False
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
    assert {entry["name"] for entry in values["architectures"]} == set(architectures.names())
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


def test_a_method_says_what_it_is_and_what_it_searches(capsys):
    methods = {method["name"]: method for method in told(capsys, "list", "methods")}
    assert methods["fpgm"]["kind"] == "predefined"
    assert methods["fpgm"]["searches"] == ["widths"]
    assert methods["taylor"]["kind"] == "automatic"
    assert methods["taylor"]["searches"] == ["keep", "batches"]
    assert {method["granularity"] for method in methods.values()} <= {"channel", "block", "weight"}
    assert methods["magnitude"]["searches"][:2] == ["densities", "density"]
    assert main(["list", "methods"]) == 0
    header = capsys.readouterr().out.splitlines()[0].split()
    assert header == ["method", "what", "it", "is", "kind", "granularity", "searches", "source"]


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
