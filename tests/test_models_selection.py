"""Networks whose layers choose what they read: equal to the plain ones, and cut where they say."""

import copy

import pytest
import torch
from torch import nn

from prunenas import models
from prunenas.architecture.selection import ChannelSelection
from prunenas.models import densenet40, preresnet110, resnet50_sampled

PLAIN = ["preresnet110", "preresnet164", "densenet40", "densenet_bc_100"]


@pytest.mark.parametrize("name", PLAIN)
def test_full_selections_change_nothing(name: str) -> None:
    networks = []
    for selection in (True, False):
        torch.manual_seed(3)
        networks.append(getattr(models, name)(selection=selection).eval())
    chosen, plain = networks
    assert not any(isinstance(m, ChannelSelection) for m in plain.modules())
    state = chosen.state_dict()
    indices = {key for key in state if key.endswith("select.index")}
    assert set(state) - indices == set(plain.state_dict())
    assert all(torch.equal(state[key], value) for key, value in plain.state_dict().items())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(chosen(images), plain(images))


@torch.no_grad()
@pytest.mark.parametrize(
    ("constructor", "place", "selection", "reader"),
    [
        (preresnet110, "stage1.0", "select", "conv1"),
        (preresnet110, "stage3.5", "select", "conv1"),
        (preresnet110, "", "select", "classifier"),
        (densenet40, "block2.3", "select", "conv1"),
        (densenet40, "block1.12", "select", "conv1"),
        (densenet40, "", "select", "classifier"),
        (models.densenet_bc_100, "block1.4", "select", "conv1"),
        (resnet50_sampled, "layer2.0", "sampler", "conv1"),
        (resnet50_sampled, "layer4.2", "sampler", "conv1"),
    ],
)
def test_a_selection_equals_its_readers_weights_set_to_zero(
    constructor, place: str, selection: str, reader: str
) -> None:
    torch.manual_seed(5)
    network = constructor(num_classes=10, in_channels=3, input_size=32).eval()
    whole = network.get_submodule(place)
    narrowed, zeroed = copy.deepcopy(whole), copy.deepcopy(whole)
    channels = getattr(whole, selection).channels
    kept = torch.arange(channels)[torch.rand(channels) < 0.5]
    dropped = [index for index in range(channels) if index not in kept.tolist()]

    chooser = ChannelSelection(channels, len(kept))
    chooser.index.copy_(kept)
    setattr(narrowed, selection, chooser)
    layer = getattr(narrowed, reader)
    layer.weight = nn.Parameter(layer.weight[:, kept])
    getattr(zeroed, reader).weight[:, dropped] = 0

    maps = torch.randn(2, channels, 16, 16) if place else torch.randn(2, 3, 32, 32)
    assert torch.allclose(narrowed(maps), zeroed(maps), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(narrowed(maps), whole(maps), rtol=1e-2, atol=1e-2)


@torch.no_grad()
def test_shortcuts_pass_the_raw_stream_on() -> None:
    torch.manual_seed(0)
    stream = torch.randn(2, 256, 8, 8)
    block = preresnet110().stage3[1].eval()
    nn.init.zeros_(block.conv3.weight)
    assert torch.equal(block(stream), stream)
    block = resnet50_sampled().layer1[1].eval()
    nn.init.zeros_(block.bn3.weight)
    assert torch.equal(block(stream), stream.relu())


@torch.no_grad()
def test_projections_are_one_convolution_of_the_raw_stream() -> None:
    torch.manual_seed(0)
    stream = torch.randn(2, 64, 8, 8)
    block = preresnet110().stage2[0].eval()
    nn.init.zeros_(block.conv3.weight)
    assert isinstance(block.shortcut, nn.Conv2d)
    rows = stream[:, :, ::2, ::2].movedim(1, -1) @ block.shortcut.weight[:, :, 0, 0].T
    assert torch.allclose(block(stream), rows.movedim(-1, 1), atol=1e-5)


@torch.no_grad()
def test_dense_layers_append_to_the_stream() -> None:
    torch.manual_seed(0)
    stream = torch.randn(2, 24, 8, 8)
    for constructor in (densenet40, models.densenet_bc_100):
        wider = constructor().block1[0].eval()(stream)
        assert wider.shape == (2, 36, 8, 8)
        assert torch.equal(wider[:, :24], stream)
