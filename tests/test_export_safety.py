"""An architecture from any hand is refused before it costs anything, or runs anything."""

import json
import subprocess
import sys
from dataclasses import replace

import exporting
import pytest
import torch
from torch import nn

from prunenas.architecture import Architecture, Layer
from prunenas.errors import ExportError, PrunenasError, SourceError
from prunenas.export import load
from prunenas.export.safety import examine


@pytest.fixture(scope="module")
def half():
    return exporting.space().fit(flops_ratio=0.5)


def wide(architecture: Architecture, size: int) -> Architecture:
    """Every size as large as may be, and the parameters that this makes."""
    layers = tuple(
        Layer(each.name, each.kind, tuple(size if s > 1 else s for s in each.sizes))
        for each in architecture.layers
    )
    plain = replace(architecture, layers=layers, widths={}).to_dict()
    params = sum(
        {
            "conv": 9 * each.sizes[0] * each.sizes[1 % len(each.sizes)],
            "norm": 2 * each.sizes[0],
        }.get(each.kind, each.sizes[0] * each.sizes[-1] + each.sizes[-1])
        for each in layers
    )
    return Architecture.from_dict({**plain, "params": params})


def test_what_fits_its_figures_passes_without_memory(half):
    network = examine(half)
    assert {each.device.type for each in network.state_dict().values()} == {"meta"}
    assert network.training


def test_a_million_channels_are_refused_before_they_are_allocated(half):
    with pytest.raises(ExportError, match="a network may hold 8589934592 numbers, but this one"):
        examine(wide(half, 1 << 20))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"params": 17}, "params must be what the layers hold, "),
        ({"flops": 17}, "flops must be what fvcore counts, "),
        ({"input_shape": (1, 16, 16)}, "flops must be "),
        ({"input_shape": (1, 2, 2)}, "a network must take its input"),
        ({"input_shape": (1, 1 << 20, 1 << 20)}, "flops must be "),
        ({"input_shape": (1 << 20,) * 4}, "flops must be "),
        ({"widths": {"features.0": 3}}, r"width of features\.0 must be its layer's, "),
        (
            {"arguments": {"num_classes": 10**9}},
            "arguments must be at most 1048576, not 1000000000",
        ),
        ({"arguments": {"sizes": [[0] * 200] * 200}}, "at most 10000 values"),
        ({"source": "torchvision/../x"}, "must be torchvision/NAME or timm/NAME"),
        ({"source": "timm/hf_hub:somebody/net"}, "must be torchvision/NAME or timm/NAME"),
        ({"removed": {"a": ("features.77",)}}, "it has no 'features.77'"),
        ({"removed": {"a": ("features.1",)}}, "params must be what the layers hold"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(half, change, message):
    with pytest.raises(PrunenasError, match=message) as caught:
        examine(replace(half, **change))
    assert "\n" not in str(caught.value)


def test_no_weights_are_fetched(monkeypatch):
    dense = exporting.recorded("torchvision/squeezenet1_1", 3, 32, 32)
    monkeypatch.setattr(
        torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("fetched")
    )
    for name in ("weights", "weights_backbone", "pretrained"):
        with pytest.raises(ExportError, match=f"must not fetch weights, but {name} is"):
            examine(replace(dense, arguments={name: "DEFAULT"}))


class Greedy(nn.Module):
    """Computes with real tensors as large as it is told."""

    def __init__(self, size: int = 2) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)
        row = torch.arange(size)
        self.table = (row[:, None] - row[None, :]).abs().max().item()

    def forward(self, images):
        return self.layer(images.flatten(1))


def greedy(size: int = 2) -> Greedy:
    return Greedy(size)


def test_constructors_compute_with_real_tensors_but_not_large_ones(monkeypatch):
    monkeypatch.setitem(sys.modules, "greedy_nets", sys.modules[__name__])
    honest = exporting.recorded("greedy_nets:greedy", 1, 2, 2, size=100)
    examine(honest, trust=True)
    with pytest.raises(SourceError, match="may compute with 33554432 numbers at once, but"):
        examine(replace(honest, arguments={"size": 100_000}), trust=True)
    with pytest.raises(SourceError, match="--trust"):
        examine(honest)


def test_the_folders_own_code_is_never_run(tmp_path):
    folder = exporting.export(tmp_path / "best", exporting.space().dense)
    (folder / "modeling.py").write_text("raise SystemExit('run')")
    (folder / "config.py").write_text("raise SystemExit('run')")
    (folder / "__init__.py").write_text("raise SystemExit('run')")
    code = "import sys, prunenas; prunenas.load(sys.argv[1]); print('loaded')"
    done = subprocess.run(
        [sys.executable, "-c", code, "."], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout == "loaded\n"
    assert isinstance(load(folder), nn.Module)


def test_weights_of_other_shapes_are_refused_by_their_header(tmp_path, half):
    dense = exporting.space().dense
    mine = exporting.export(tmp_path / "half", half, weights=exporting.trained(half))
    other = exporting.export(tmp_path / "dense", dense, weights=exporting.trained(dense))
    text = (mine / "config.json").read_text()
    sums = [json.loads((each / "config.json").read_text()) for each in (mine, other)]
    text = text.replace(sums[0]["weights"]["sha256"], sums[1]["weights"]["sha256"])
    (mine / "config.json").write_text(text)
    (other / "model.safetensors").replace(mine / "model.safetensors")
    with pytest.raises(ExportError, match=r"weights must fit the architecture: .* must be"):
        load(mine)
