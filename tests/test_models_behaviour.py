"""What every network of ours does on every image size it takes: run, learn, start as it says."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from models_counted import SHAPES, weightless
from torch import nn

from prunenas import models
from prunenas.errors import SourceError
from prunenas.models import (
    conv2,
    conv4,
    densenet40,
    lenet5,
    lenet_300_100,
    preresnet110,
    resnet20,
    resnet56,
    vgg11_prunefl,
    vgg16,
    vgg_mini,
)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *((name, shape) for name in sorted(SHAPES) for shape in ((3, 32, 32), (1, 28, 28))),
        *((name, (2, 37, 37)) for name in ("conv2", "conv4", "densenet40", "resnet20", "vgg16")),
        *((name, (2, 33, 33)) for name in ("lenet5", "lenet_300_100", "vgg11_prunefl")),
    ],
    ids=str,
)
def test_gradients_reach_every_parameter(name: str, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    channels, side, _ = shape
    network = getattr(models, name)(7, channels, side)
    logits = network(torch.randn(4, *shape))
    assert logits.shape == (4, 7)
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        if name == "conv4" and parameter.grad.abs().max() < 1e-6:
            # The batch normalisation behind a convolution takes its bias out again.
            layer = network.get_submodule(parameter_name.removesuffix(".bias"))
            assert isinstance(layer, nn.Conv2d)
            continue
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", ["vgg16", "vgg16_gap", "resnet20", "densenet40", "preresnet110"])
def test_any_larger_image_fits_the_same_layers(name: str) -> None:
    small, large = weightless(name, input_size=32), weightless(name, input_size=64)
    sizes = {key: tensor.shape for key, tensor in small.state_dict().items()}
    assert sizes == {key: tensor.shape for key, tensor in large.state_dict().items()}


def test_prunefls_networks_have_the_codes_layers() -> None:
    block = ["Conv2d", "ReLU", "MaxPool2d"]
    assert kinds(conv2().features) == block * 2
    assert kinds(conv2().classifier) == ["Linear", "ReLU", "Linear"]
    assert kinds(conv4().features) == ["Conv2d", "BatchNorm2d", "MaxPool2d"] * 4
    assert kinds(conv4().classifier) == ["Linear"]
    assert kinds(vgg11_prunefl().classifier) == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]


def kinds(layers: nn.Sequential) -> list[str]:
    return [type(layer).__name__ for layer in layers]


def test_heads_have_the_papers_layers() -> None:
    assert kinds(lenet_300_100().classifier) == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert kinds(lenet5().classifier) == ["Linear", "ReLU", "Linear"]
    assert kinds(vgg16(hidden=8).classifier) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert kinds(vgg16(hidden=8, batch_norm=False).classifier) == ["Linear", "ReLU", "Linear"]


@torch.no_grad()
def test_layers_behind_their_normalisation_and_relu() -> None:
    """Pre-activation: batch normalisation, selection, ReLU and only then each convolution."""
    torch.manual_seed(0)
    stream = torch.randn(4, 24, 8, 8)
    layer = densenet40().block1[0]
    activated = F.batch_norm(stream, None, None, training=True).relu()
    appended = F.conv2d(activated, layer.conv1.weight, padding=1)
    assert torch.allclose(layer(stream)[:, 24:], appended, atol=1e-5)

    stream = torch.randn(4, 64, 8, 8)
    for block, stride in ((preresnet110().stage1[1], 1), (preresnet110().stage2[0], 2)):
        inner = stream
        for layer, step, padding in (
            (block.conv1, 1, 0),
            (block.conv2, stride, 1),
            (block.conv3, 1, 0),
        ):
            inner = F.batch_norm(inner, None, None, training=True).relu()
            inner = F.conv2d(inner, layer.weight, stride=step, padding=padding)
        assert torch.allclose(block(stream) - block.shortcut(stream), inner, atol=1e-4)

    network = preresnet110()
    network.conv1 = network.stage1 = network.stage2 = network.stage3 = nn.Identity()
    stream = torch.randn(4, 256, 8, 8)
    activated = F.batch_norm(stream, None, None, training=True).relu()
    logits = network.classifier(activated.mean((2, 3)))
    assert torch.allclose(network(stream), logits, atol=1e-5)


@torch.no_grad()
def test_basic_blocks_add_before_their_last_relu() -> None:
    torch.manual_seed(0)
    stream = torch.randn(4, 16, 8, 8)
    block = resnet20().stage1[1]
    inner = F.conv2d(stream, block.conv1.weight, padding=1)
    inner = F.batch_norm(inner, None, None, training=True).relu()
    inner = F.conv2d(inner, block.conv2.weight, padding=1)
    inner = F.batch_norm(inner, None, None, training=True)
    assert torch.allclose(block(stream), (inner + stream).relu(), atol=1e-5)


def test_padded_shortcut_is_the_identity_of_kept_pixels() -> None:
    torch.manual_seed(0)
    block = resnet20(shortcut="a").stage2[0]
    stream = torch.randn(2, 16, 6, 6)
    shortcut = block.shortcut(stream)
    expected = torch.zeros(2, 32, 3, 3)
    for row, column in itertools.product(range(3), range(3)):
        expected[:, 8:24, row, column] = stream[:, :, 2 * row, 2 * column]
    assert torch.equal(shortcut, expected)


@torch.no_grad()
def test_he_initialisation_of_convolutions() -> None:
    torch.manual_seed(0)
    networks = (vgg16(), resnet56(shortcut="b"), vgg_mini(), preresnet110(), densenet40())
    for network in networks:
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = math.prod(module.kernel_size) * module.out_channels
                # Five standard errors of a normal sample's variance: sqrt(2 / n).
                slack = 5 * math.sqrt(2 / module.weight.numel())
                assert module.weight.var() * fan_out == pytest.approx(2, rel=slack)


@pytest.mark.parametrize("name", ["vgg11", "vgg_mini", "preresnet110", "densenet40"])
def test_gamma_starts_every_batch_normalisation_of_feature_maps(name: str) -> None:
    constructor = getattr(models, name)
    for gamma in (0.5, 1.0):
        norms = [m for m in constructor(gamma=gamma).modules() if isinstance(m, nn.BatchNorm2d)]
        assert norms
        assert all((m.weight == gamma).all() and (m.bias == 0).all() for m in norms)
    default = next(m for m in constructor().modules() if isinstance(m, nn.BatchNorm2d))
    assert (default.weight == 1).all()


@torch.no_grad()
def test_initialisation_of_linear_layers() -> None:
    torch.manual_seed(0)
    head = vgg16(hidden=512).classifier
    for layer in (vgg16().classifier, head[0], head[3]):
        assert layer.weight.std() == pytest.approx(0.01, rel=0.1)
        assert layer.bias.abs().max() == 0
    assert (head[1].weight == 1).all()
    bound = 1 / math.sqrt(64)
    assert resnet20().classifier.weight.abs().max() == pytest.approx(bound, rel=0.05)
    # Caffe's "xavier": uniform with variance 1 / fan-in.
    caffe, flat = lenet5(), lenet_300_100().classifier
    for layer, fan_in in (
        (caffe.features[2], 500),
        (caffe.classifier[0], 800),
        (flat[0], 784),
        (flat[2], 300),
        (flat[4], 100),
    ):
        assert layer.weight.abs().max() <= math.sqrt(3 / fan_in)
        assert layer.weight.var() * fan_in == pytest.approx(1, rel=0.1)
        assert layer.bias.abs().max() == 0
    # PruneFL's: uniform with variance 2 / ((1 + slope²) · fan).
    for layer, variance in (
        (conv2().classifier[0], 2 / 2048),
        (conv2().classifier[2], 2 / 62),
        (vgg11_prunefl().classifier[0], 2 / 512),
        (vgg11_prunefl().classifier[2], 2 / 512),
        (vgg11_prunefl().classifier[4], 2 / (1 + 1.5**2) / 10),
    ):
        assert layer.weight.abs().max() <= math.sqrt(3 * variance)
        assert layer.weight.var() == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("vgg16", {"input_size": 15}, "vgg16 needs input_size >= 16, got 15"),
        ("vgg19", {"hidden": -1}, "vgg19 needs hidden >= 0, got -1"),
        ("lenet5", {"input_size": 8}, "lenet5 needs input_size >= 16, got 8"),
        ("vgg_mini", {"num_classes": 0}, "vgg_mini needs num_classes >= 1, got 0"),
        ("resnet20", {"in_channels": 0}, "resnet20 needs in_channels >= 1, got 0"),
        ("resnet56", {"shortcut": "c"}, "unknown shortcut 'c'. Known: a, b"),
    ],
)
def test_arguments_out_of_range_are_refused(name: str, arguments, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        getattr(models, name)(**arguments)
    assert str(caught.value) == message


LEAST = {"lenet_300_100": 1, "lenet5": 16, "vgg_mini": 4}
LEAST |= {name: 16 for name in SHAPES if name.startswith("vgg") and name != "vgg_mini"}


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_the_least_size_works_and_less_is_refused(name: str) -> None:
    least = LEAST.get(name, 4)
    network = getattr(models, name)(5, 3, least)
    assert network(torch.zeros(2, 3, least, least)).shape == (2, 5)
    with pytest.raises(SourceError) as caught:
        getattr(models, name)(5, 3, least - 1)
    assert str(caught.value) == f"{name} needs input_size >= {least}, got {least - 1}"
