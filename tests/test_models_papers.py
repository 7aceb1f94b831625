"""The papers' networks against their papers' figures and closed forms."""

import inspect
import itertools
import math

import pytest
import torch
from torch import nn

from prunenas import models
from prunenas.errors import SourceError
from prunenas.models import lenet5, resnet20, resnet56, vgg16, vgg_mini

SHAPES = {
    "lenet5": (1, 28, 28),
    "resnet20": (3, 32, 32),
    "resnet56": (3, 32, 32),
    "vgg16": (3, 32, 32),
    "vgg_mini": (1, 28, 28),
}
VGG16_WIDTHS = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def count_flops(network: nn.Module, shape: tuple[int, int, int]) -> int:
    """Multiply-adds of one image, from the layers' definitions and the sizes that flow by."""
    total = 0

    def add(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            kernel = math.prod(module.kernel_size) * module.in_channels
            total += kernel * module.out_channels * output.shape[2] * output.shape[3]
        elif isinstance(module, nn.Linear):
            total += module.in_features * module.out_features

    handles = [module.register_forward_hook(add) for module in network.modules()]
    network.eval()(torch.zeros(1, *shape))
    for handle in handles:
        handle.remove()
    return total


def residual_parameters(blocks: int, shortcut: str) -> int:
    def conv(inputs: int, outputs: int, kernel: int = 9) -> int:
        return kernel * inputs * outputs + 2 * outputs  # with its batch normalisation

    total = conv(3, 16) + 64 * 10 + 10
    for inputs, planes in ((16, 16), (16, 32), (32, 64)):
        total += conv(inputs, planes) + (2 * blocks - 1) * conv(planes, planes)
        if shortcut == "b" and inputs != planes:
            total += conv(inputs, planes, kernel=1)
    return total


def residual_flops(blocks: int, shortcut: str) -> int:
    total = 9 * 3 * 16 * 32**2 + 64 * 10
    for inputs, planes, side in ((16, 16, 32), (16, 32, 16), (32, 64, 8)):
        total += 9 * planes * (inputs + (2 * blocks - 1) * planes) * side**2
        if shortcut == "b" and inputs != planes:
            total += inputs * planes * side**2
    return total


def test_every_model_is_listed_and_says_its_source() -> None:
    assert sorted(models.__all__) == sorted(SHAPES)
    for name in models.__all__:
        constructor = getattr(models, name)
        text = inspect.getdoc(constructor)
        assert text is not None
        assert text.splitlines()[0].endswith(".")
        assert any(line.startswith("Source: ") for line in text.splitlines())
        defaults = {k: v.default for k, v in inspect.signature(constructor).parameters.items()}
        channels, side, _ = SHAPES[name]
        assert (defaults["in_channels"], defaults["input_size"]) == (channels, side)


def test_lenet5_has_the_papers_430500_weights() -> None:
    network = lenet5()
    weights = sum(p.numel() for name, p in network.named_parameters() if name.endswith("weight"))
    assert weights == 430_500
    assert count_parameters(network) == 430_500 + 20 + 50 + 500 + 10
    assert count_flops(network, (1, 28, 28)) == (
        25 * 20 * 24**2 + 25 * 20 * 50 * 8**2 + 800 * 500 + 500 * 10
    )


def test_vgg16_counts_as_published() -> None:
    network = vgg16()
    pairs = list(itertools.pairwise([3, *VGG16_WIDTHS]))
    sides = [32, 32, 16, 16, 8, 8, 8, 4, 4, 4, 2, 2, 2]
    convolutions = sum(9 * i * o * s**2 for (i, o), s in zip(pairs, sides, strict=True))
    assert convolutions == 313_196_544
    assert count_flops(network, (3, 32, 32)) == convolutions + 512 * 10 == 313_201_664
    parameters = sum(9 * i * o + 2 * o for i, o in pairs) + 512 * 10 + 10
    assert count_parameters(network) == parameters


def test_vgg_mini_counts() -> None:
    network = vgg_mini()
    pairs = list(itertools.pairwise([1, 16, 32, 64, 64]))
    sides = [28, 14, 7, 7]
    flops = sum(9 * i * o * s**2 for (i, o), s in zip(pairs, sides, strict=True)) + 64 * 10
    assert count_flops(network, (1, 28, 28)) == flops
    parameters = sum(9 * i * o + 2 * o for i, o in pairs) + 64 * 10 + 10
    assert count_parameters(network) == parameters == 61_050


@pytest.mark.parametrize("shortcut", ["a", "b"])
@pytest.mark.parametrize(("constructor", "blocks"), [(resnet20, 3), (resnet56, 9)])
def test_residual_networks_count_as_their_closed_form(constructor, blocks, shortcut) -> None:
    network = constructor(shortcut=shortcut)
    assert count_parameters(network) == residual_parameters(blocks, shortcut)
    assert count_flops(network, (3, 32, 32)) == residual_flops(blocks, shortcut)


def test_residual_networks_have_the_papers_size() -> None:
    # He et al. 2016, Table 6: 0.27 and 0.85 million parameters.
    assert count_parameters(resnet20()) == 269_722
    assert round(count_parameters(resnet56()) / 1e6, 2) == 0.85


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_docstrings_state_true_counts(name: str) -> None:
    network = getattr(models, name)()
    first = (inspect.getdoc(getattr(models, name)) or "").splitlines()[0]
    flops, parameters = count_flops(network, SHAPES[name]), count_parameters(network)
    figures = {
        "lenet5": ["430,500 weights"],
        "resnet20": [f"{parameters / 1e6:.2f} million", f"{flops / 1e6:.2f} million FLOPs"],
        "resnet56": [f"{parameters / 1e6:.2f} million", f"{flops / 1e6:.2f} million FLOPs"],
        "vgg16": [f"{flops:,} FLOPs"],
        "vgg_mini": [f"{parameters:,} parameters"],
    }
    for figure in figures[name]:
        assert figure in first


@pytest.mark.parametrize(
    ("name", "classes", "channels", "grow"),
    [
        *((name, 10, None, 0) for name in sorted(SHAPES)),
        *((name, 7, 2, 5) for name in ("lenet5", "resnet20", "vgg16", "vgg_mini")),
    ],
)
def test_gradients_reach_every_parameter(name: str, classes, channels, grow) -> None:
    torch.manual_seed(0)
    in_channels, side, _ = SHAPES[name]
    in_channels, side = channels or in_channels, side + grow
    network = getattr(models, name)(classes, in_channels, side)
    logits = network(torch.randn(4, in_channels, side, side))
    assert logits.shape == (4, classes)
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_vgg16_on_larger_images_sees_more_positions() -> None:
    network = vgg16(input_size=64)
    assert network.classifier.in_features == 512 * 4
    assert network.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 10)


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
def test_initialisation_follows_each_rule() -> None:
    torch.manual_seed(0)
    for network in (vgg16(), resnet56(shortcut="b"), vgg_mini()):
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = math.prod(module.kernel_size) * module.out_channels
                # Five standard errors of a normal sample's variance: sqrt(2 / n).
                slack = 5 * math.sqrt(2 / module.weight.numel())
                assert module.weight.var() * fan_out == pytest.approx(2, rel=slack)
    for module in vgg16(gamma=0.5).modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.unique().tolist() == [0.5]
            assert module.bias.unique().tolist() == [0.0]
    assert vgg16().classifier.weight.std() == pytest.approx(0.01, rel=0.1)
    bound = 1 / math.sqrt(64)
    assert vgg_mini().classifier.weight.abs().max() == pytest.approx(bound, rel=0.05)
    caffe = lenet5()
    for layer, fan_in in ((caffe.features[2], 500), (caffe.classifier[0], 800)):
        assert layer.weight.abs().max() <= math.sqrt(3 / fan_in)
        assert layer.weight.var() * fan_in == pytest.approx(1, rel=0.05)
        assert layer.bias.abs().max() == 0


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_models_can_be_exported_in_train_mode(name: str) -> None:
    network = getattr(models, name)().train()
    images = torch.randn(2, *SHAPES[name])
    program = torch.export.export(network, (images,))
    assert torch.allclose(program.module()(images), network(images), atol=1e-5)


@pytest.mark.parametrize(
    ("constructor", "arguments", "message"),
    [
        (vgg16, {"input_size": 28}, "vgg16 needs input_size >= 32, got 28"),
        (lenet5, {"input_size": 8}, "lenet5 needs input_size >= 16, got 8"),
        (vgg_mini, {"num_classes": 0}, "vgg_mini needs num_classes >= 1, got 0"),
        (resnet20, {"in_channels": 0}, "resnet20 needs in_channels >= 1, got 0"),
        (resnet56, {"shortcut": "c"}, "unknown shortcut 'c'. Known: a, b"),
    ],
)
def test_sizes_out_of_range_are_refused(constructor, arguments, message) -> None:
    with pytest.raises(SourceError) as caught:
        constructor(**arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("constructor", "least"), [(vgg16, 32), (lenet5, 16), (vgg_mini, 4), (resnet20, 4)]
)
def test_the_least_size_works(constructor, least: int) -> None:
    network = constructor(input_size=least).eval()
    channels = next(m.in_channels for m in network.modules() if isinstance(m, nn.Conv2d))
    assert network(torch.zeros(1, channels, least, least)).shape == (1, 10)
