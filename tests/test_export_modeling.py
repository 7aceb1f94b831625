"""modeling.py: an export loads where torch is installed and prunenas is not."""

import ast
import json
import shutil
from dataclasses import replace
from pathlib import Path

import exporting
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from prunenas.architecture import Architecture, build, count_flops, own_models, trace
from prunenas.errors import ExportError
from prunenas.export import load, modeling
from prunenas.export.bundle import modeling as bundled

SOURCES = {
    "vgg_mini": (1, 8, 8),
    "resnet20": (3, 8, 8),
    "torchvision/resnet18": (3, 32, 32),
}


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """An export of each source at half its FLOPs, and what its network answers."""
    root = tmp_path_factory.mktemp("exports")
    for source, shape in SOURCES.items():
        architecture = exporting.space(source, *shape).fit(flops_ratio=0.5)
        folder = exporting.export(
            root / source.rpartition("/")[2], architecture, weights=exporting.trained(architecture)
        )
        network = build(architecture)
        network.load_state_dict(exporting.trained(architecture), strict=False)
        inputs = exporting.images(architecture)
        save_file(
            {"input": inputs, "output": network.eval()(inputs).detach()}, folder / "check.tensors"
        )
    return root


def test_every_export_answers_the_same_without_prunenas(exports, tmp_path):
    code = """
import importlib.util, json, torch
for folder in sys.argv[1:]:
    spec = importlib.util.spec_from_file_location("modeling", folder + "/modeling.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.from_pretrained()
    check = module.read_tensors(folder + "/check.tensors")
    assert not network.training
    torch.testing.assert_close(network(check["input"]), check["output"], rtol=1e-5, atol=1e-6)
    print(folder)
assert not any(name.partition(".")[0] in ("prunenas", "safetensors") for name in sys.modules)
"""
    folders = sorted(exports.iterdir())
    done = exporting.without_prunenas(code, *folders, cwd=tmp_path)
    assert done.split() == [str(folder) for folder in folders]


def test_run_as_a_program_it_says_what_it_is(exports):
    folder = exports / "vgg_mini"
    config = json.loads((folder / "config.json").read_text())
    text = exporting.without_prunenas(
        "import runpy; sys.argv = ['modeling.py']; "
        "runpy.run_path('modeling.py', run_name='__main__')",
        cwd=folder,
    )
    assert f"vgg_mini: {config['params']:,} parameters" in text
    assert f"{config['flops']:,} FLOPs for one input of 1x8x8" in text
    assert "weights: as exported" in text
    assert "a batch of two zeros gives (2, 10)" in text


def test_fresh_weights_are_the_authors_own_at_the_new_widths():
    architecture = exporting.space("torchvision/resnet18", 3, 32, 32).fit(flops_ratio=0.5)
    torch.manual_seed(3)
    mine = modeling.build(architecture.to_dict())
    theirs = build(architecture, seed=3)
    assert mine.state_dict().keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        assert torch.equal(mine.state_dict()[name], value), name


@pytest.mark.parametrize("source", own_models())
def test_the_code_of_each_of_our_models_goes_along(source):
    plain = exporting.space().dense.to_dict() | {"source": source}
    text = bundled(Architecture.from_dict(plain))
    tree = ast.parse(text)
    roots = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [node.names[0].name])
    }
    assert "prunenas" not in roots
    names: dict[str, object] = {"__name__": "modeling", "__file__": "modeling.py"}
    exec(compile(tree, "modeling.py", "exec"), names)
    assert source in names["MODELS"]


def test_what_two_files_name_alike_is_refused(monkeypatch):
    from prunenas.export import bundle

    texts = {
        "prunenas.models": "from prunenas.models.one import build\n",
        "prunenas.models.one": (
            "from prunenas.models.two import help\ndef part(): ...\n"
            "def build(): return part(), help()\n"
        ),
        "prunenas.models.two": "def part(): ...\ndef help(): return part()\n",
    }
    monkeypatch.setattr(bundle, "_text", texts.__getitem__)
    monkeypatch.setattr(bundle, "_definitions", bundle._definitions.__wrapped__)
    with pytest.raises(ExportError, match="must not both define part"):
        bundle.Bundle().include("prunenas.models", "build")


def test_branches_that_were_removed_stay_removed(tmp_path):
    dense = exporting.space("resnet20", 3, 8, 8).dense
    branch = [f"stage1.1.{name}" for name in ("conv1", "bn1", "conv2", "bn2")]
    architecture = exporting.counted(replace(dense, removed={"stage1.1": tuple(branch)}))
    assert architecture.flops < dense.flops
    folder = exporting.export(tmp_path / "short", architecture, dense_flops=dense.flops)
    network = modeling_of(folder).from_pretrained()
    assert count_flops(network, (3, 8, 8)) == architecture.flops
    assert not any(name.startswith("stage1.1.") for name in network.state_dict())


def test_tensors_that_no_layer_holds_are_cut_to_their_shapes(tmp_path):
    space = trace("tensor_networks:Scaled", input_shape=(3, 8, 8))
    half = space.architecture(0.5)
    assert half.tensors["scale"] == (4, 1, 1)
    folder = exporting.export(tmp_path / "best", half, weights=exporting.trained(half))
    network = modeling_of(folder).from_pretrained(trust=True)
    assert isinstance(network.scale, nn.Parameter)
    assert network.scale.shape == (4, 1, 1)
    images = exporting.images(half)
    assert torch.equal(network(images), load(folder, trust=True)(images))


def test_selected_channels_are_the_ones_that_were_chosen(tmp_path):
    architecture = exporting.selecting()
    ((name, chosen),) = architecture.selections.items()
    network = modeling_of(exporting.export(tmp_path / "best", architecture)).from_pretrained()
    assert network.get_submodule(name).index.tolist() == list(chosen)


def test_modules_of_another_version_take_their_weights(tmp_path):
    dense = exporting.recorded("torchvision/mnasnet0_5", 3, 32, 32)  # refuses states of version 1
    folder = exporting.export(tmp_path / "best", dense, weights=exporting.trained(dense))
    images = exporting.images(dense)
    assert torch.equal(modeling.from_pretrained(folder)(images), load(folder)(images))


def modeling_of(folder: Path):
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("modeling_of_export", folder / "modeling.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tensors_read_as_the_library_reads_them(tmp_path):
    path = tmp_path / "all.safetensors"
    kinds = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64]
    kinds += [torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]
    tensors = {str(kind): (torch.arange(6).reshape(2, 3) % 2).to(kind) for kind in kinds}
    tensors |= {"nothing": torch.zeros(0, 3), "one": torch.tensor(2.5)}
    save_file(tensors, path, metadata={"format": "pt"})
    mine, theirs = modeling.read_tensors(path), load_file(path)
    assert mine.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert mine[name].dtype == tensor.dtype
        assert torch.equal(mine[name], tensor), name


def damaged(path: Path, header: dict, data: bytes = b"") -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_tensors_outside_their_file_are_refused(tmp_path):
    path = tmp_path / "bad.safetensors"
    for offsets in ([0, 400], [8, 4], [-4, 0], [0, 8]):
        entry = {"dtype": "F32", "shape": [1], "data_offsets": offsets}
        with pytest.raises(ValueError, match="lies outside the file or is of another size"):
            modeling.read_tensors(damaged(path, {"w": entry}, bytes(8)))
    path.write_bytes((1 << 60).to_bytes(8, "little"))
    with pytest.raises(ValueError, match="its header is longer than the file"):
        modeling.read_tensors(path)


def test_damaged_weights_and_other_versions_are_told(exports, tmp_path):
    folder = shutil.copytree(exports / "vgg_mini", tmp_path / "copy")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-1] + b"\x7f")
    with pytest.raises(ValueError, match="damaged, its checksum"):
        modeling_of(folder).from_pretrained()
    plain = exporting.space().dense.to_dict()
    mine = modeling_of(folder)
    plain["layers"][0] = ["features.0", "linear", 1, 16]
    with pytest.raises(ValueError, match=r"layer 0 is conv, but config\.json lists linear"):
        mine.build(plain)
    plain = exporting.space().dense.to_dict()
    plain["layers"][0][0] = "stem"
    with pytest.raises(ValueError, match="makes other layers than the exported one"):
        mine.build(plain)


def test_a_module_of_the_exporters_own_is_imported_only_when_trusted(tmp_path, monkeypatch):
    (tmp_path / "own_nets.py").write_text(
        "from torch import nn\n"
        "def small(): return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 2))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    dense = trace("own_nets:small", input_shape=(1, 8, 8)).dense
    folder = exporting.export(tmp_path / "own", dense)
    with pytest.raises(ValueError, match="pass trust=True"):
        modeling_of(folder).from_pretrained()
    assert count_flops(modeling_of(folder).from_pretrained(trust=True), (1, 8, 8)) == dense.flops
