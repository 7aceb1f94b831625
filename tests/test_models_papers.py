"""The papers' networks against their papers' figures and closed forms."""

import inspect
import itertools
import re

import pytest
from models_counted import (
    SHAPES,
    count_flops,
    count_parameters,
    count_weights,
    counted,
    weightless,
)

from prunenas import models
from prunenas.architecture.selection import ChannelSelection

VGG = {
    "vgg11": [(64, 32), (128, 16), (256, 8), (256, 8), *[(512, 4)] * 2, *[(512, 2)] * 2],
    "vgg13": [*[(64, 32)] * 2, *[(128, 16)] * 2, *[(256, 8)] * 2, *[(512, 4)] * 2, *[(512, 2)] * 2],
    "vgg16": [*[(64, 32)] * 2, *[(128, 16)] * 2, *[(256, 8)] * 3, *[(512, 4)] * 3, *[(512, 2)] * 3],
    "vgg19": [*[(64, 32)] * 2, *[(128, 16)] * 2, *[(256, 8)] * 4, *[(512, 4)] * 4, *[(512, 2)] * 4],
}
"""Width and side of the feature map of each convolution, from Simonyan and Zisserman's Table 1."""


def vgg_weights(name: str) -> int:
    pairs = itertools.pairwise([3, *(width for width, _ in VGG[name])])
    return sum(9 * i * o for i, o in pairs)


def vgg_flops(name: str) -> int:
    pairs = itertools.pairwise([(3, 32), *VGG[name]])
    return sum(9 * i * o * side**2 for (i, _), (o, side) in pairs)


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


def pre_activation_counts(blocks: int) -> tuple[int, int]:
    """Parameters and multiply-adds; a stage's first 1×1 convolution still sees the larger map."""
    parameters, flops = 9 * 3 * 16, 9 * 3 * 16 * 32**2
    for inputs, planes, before, side in ((16, 16, 32, 32), (64, 32, 32, 16), (128, 64, 16, 8)):
        inner = 2 * planes + 9 * planes**2 + 2 * planes + planes * 4 * planes
        parameters += 2 * inputs + inputs * planes + inner + inputs * 4 * planes
        parameters += (blocks - 1) * (2 * 4 * planes + 4 * planes * planes + inner)
        flops += inputs * planes * before**2 + inputs * 4 * planes * side**2
        flops += (blocks - 1) * 4 * planes * planes * side**2
        flops += blocks * (9 * planes**2 + 4 * planes**2) * side**2
    return parameters + 2 * 256 + 256 * 10 + 10, flops + 256 * 10


def test_every_model_is_listed_and_says_its_source() -> None:
    assert sorted(models.__all__) == sorted(SHAPES)
    for name in models.__all__:
        constructor = getattr(models, name)
        text = inspect.getdoc(constructor)
        assert text is not None
        assert text.splitlines()[0].endswith(".")
        assert any(line.startswith("Source: ") for line in text.splitlines())
        parameters = inspect.signature(constructor).parameters
        assert list(parameters)[:3] == ["num_classes", "in_channels", "input_size"]
        assert all(p.kind is p.KEYWORD_ONLY for p in list(parameters.values())[3:])
        channels, side, _ = SHAPES[name]
        assert parameters["in_channels"].default == channels
        assert parameters["input_size"].default == side


FIGURE = re.compile(r"([\d.,]*\d)( million)? (parameters|weights|FLOPs|GFLOPs)")


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_docstrings_state_true_counts(name: str) -> None:
    first = (inspect.getdoc(getattr(models, name)) or "").splitlines()[0]
    parameters, flops = counted(name)
    actual = {
        "parameters": parameters,
        "weights": count_weights(weightless(name)),
        "FLOPs": flops,
        "GFLOPs": flops / 1e9,
    }
    figures = FIGURE.findall(first)
    assert figures
    for number, million, unit in figures:
        decimals = len(number.partition(".")[2])
        value = actual[unit] / (1e6 if million else 1)
        assert round(value, decimals) == float(number.replace(",", ""))


def test_lenets_have_the_papers_weights() -> None:
    # Han et al. 2015, Table 1: LeNet-300-100 has 267 thousand parameters, LeNet-5 431 thousand.
    weights = 784 * 300 + 300 * 100 + 100 * 10
    assert counted("lenet_300_100") == (weights + 300 + 100 + 10, weights)
    assert round(counted("lenet_300_100")[0] / 1e3) == 267
    assert count_weights(weightless("lenet5")) == 430_500
    parameters, flops = counted("lenet5")
    assert parameters == 430_500 + 20 + 50 + 500 + 10
    assert flops == 25 * 20 * 24**2 + 25 * 20 * 50 * 8**2 + 800 * 500 + 500 * 10
    assert round(parameters / 1e3) == 431


@pytest.mark.parametrize("name", sorted(VGG))
def test_vggs_count_as_their_closed_form(name: str) -> None:
    weights, widths = vgg_weights(name), sum(width for width, _ in VGG[name])
    assert counted(name) == (weights + 2 * widths + 512 * 10 + 10, vgg_flops(name) + 512 * 10)
    plain = weightless(name, batch_norm=False)
    assert count_parameters(plain) == weights + widths + 512 * 10 + 10
    head = weightless(name, hidden=512)
    assert count_flops(head, (3, 32, 32)) == vgg_flops(name) + 512 * 512 + 512 * 10
    hidden = 512 * 512 + 512 + 2 * 512 + 512 * 10 + 10
    assert count_parameters(head) == weights + 2 * widths + hidden
    bare = weightless(name, hidden=512, batch_norm=False)
    assert count_parameters(bare) == weights + widths + hidden - 2 * 512


def test_vggs_have_the_papers_sizes() -> None:
    assert vgg_flops("vgg16") == 313_196_544
    assert counted("vgg16")[1] == 313_201_664
    # Li et al. 2017, Table 1: VGG-16 has 3.13e8 multiply-adds and 1.5e7 parameters with its head;
    # 14.99 million in the form of "Rethinking the Value of Network Pruning".
    head = count_parameters(weightless("vgg16", hidden=512))
    assert round(head / 1e6, 2) == 14.99
    # The README of the network slimming code: VGG-19 has 20.04M parameters.
    assert round(counted("vgg19")[0] / 1e6, 2) == 20.04


def test_vgg_mini_counts() -> None:
    pairs = list(itertools.pairwise([1, 16, 32, 64, 64]))
    sides = [28, 14, 7, 7]
    flops = sum(9 * i * o * s**2 for (i, o), s in zip(pairs, sides, strict=True)) + 64 * 10
    parameters = sum(9 * i * o + 2 * o for i, o in pairs) + 64 * 10 + 10
    assert counted("vgg_mini") == (parameters, flops)
    assert parameters == 61_050


BLOCKS = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9, "resnet110": 18}


@pytest.mark.parametrize("shortcut", ["a", "b"])
@pytest.mark.parametrize("name", BLOCKS)
def test_residual_networks_count_as_their_closed_form(name: str, shortcut: str) -> None:
    network = weightless(name, shortcut=shortcut)
    assert count_parameters(network) == residual_parameters(BLOCKS[name], shortcut)
    assert count_flops(network, (3, 32, 32)) == residual_flops(BLOCKS[name], shortcut)


def test_residual_networks_have_the_papers_sizes() -> None:
    assert counted("resnet20")[0] == 269_722
    # He et al. 2016, Table 6, in millions of parameters.
    published = {"resnet20": 0.27, "resnet32": 0.46, "resnet44": 0.66, "resnet56": 0.85}
    for name, millions in published.items():
        assert round(counted(name)[0] / 1e6, 2) == millions
    assert round(counted("resnet110")[0] / 1e6, 1) == 1.7


@pytest.mark.parametrize(("name", "blocks"), [("preresnet110", 12), ("preresnet164", 18)])
def test_pre_activation_networks_count_as_their_closed_form(name: str, blocks: int) -> None:
    assert counted(name) == pre_activation_counts(blocks)
    plain = weightless(name, selection=False)
    counts = count_parameters(plain), count_flops(plain, (3, 32, 32))
    assert counts == pre_activation_counts(blocks)


def selections(name: str) -> list[int]:
    """Channels that come into each channel selection, in the order of the modules."""
    found = [m for m in weightless(name).modules() if isinstance(m, ChannelSelection)]
    assert all(m.selected == m.channels for m in found)
    return [m.channels for m in found]


def test_preresnet164_has_the_papers_size() -> None:
    parameters, _ = counted("preresnet164")
    # Huang et al. 2017, Table 2: ResNet with pre-activation, depth 164, has 1.7 million parameters.
    assert round(parameters / 1e6, 1) == 1.7
    # The README of the network slimming code: 1.71M, where a selection is a vector of parameters;
    # the unpruned widths are its defaults.
    inputs = [16, *[64] * 17, 64, *[128] * 17, 128, *[256] * 17, 256]
    assert sorted(selections("preresnet164")) == sorted(inputs)
    assert round((parameters + sum(inputs)) / 1e6, 2) == 1.71


def densenet_counts(stem: int, layers: int, bottleneck: int) -> tuple[int, int]:
    """Parameters and multiply-adds; ``bottleneck`` is its width, 0 for none and no compression."""
    width, side, parameters, flops = stem, 32, 27 * stem, 27 * stem * 32**2
    for block in range(3):
        for _ in range(layers):
            if bottleneck:
                weights = width * bottleneck + 9 * bottleneck * 12
                parameters += 2 * width + 2 * bottleneck + weights
            else:
                weights = 9 * width * 12
                parameters += 2 * width + weights
            flops += weights * side**2
            width += 12
        if block < 2:
            out = width // 2 if bottleneck else width
            parameters += 2 * width + width * out
            flops += width * out * side**2
            width, side = out, side // 2
    return parameters + 2 * width + width * 10 + 10, flops + width * 10


def test_densenet40_has_the_papers_size() -> None:
    parameters, flops = counted("densenet40")
    assert (parameters, flops) == densenet_counts(24, 12, 0)
    # Huang et al. 2017, Table 2: 1.0 million parameters, with a stem of 16 channels.
    assert round(densenet_counts(16, 12, 0)[0] / 1e6, 1) == 1.0
    # The network slimming code has 24 in the stem and 39 selections; its README says 1.07M, where
    # a selection is a vector of parameters.
    widths = [24 + 12 * i for i in range(13)], [168 + 12 * i for i in range(13)]
    inputs = [*widths[0], *widths[1], *(312 + 12 * i for i in range(13))]
    assert selections("densenet40") == inputs
    assert round((parameters + sum(inputs)) / 1e6, 2) == 1.07


def test_densenet_bc_100_has_the_papers_size() -> None:
    assert counted("densenet_bc_100") == densenet_counts(24, 16, 48)
    # Huang et al. 2017, Table 2: 0.8 million parameters.
    assert round(counted("densenet_bc_100")[0] / 1e6, 1) == 0.8
    # By Huang et al., section 3: 24 in, 16 layers of 12 more, half of them after a transition.
    blocks = (24, 108, 150)
    assert selections("densenet_bc_100") == [first + 12 * i for first in blocks for i in range(17)]


def test_prunefl_networks_have_the_codes_sizes() -> None:
    """Its configuration prices each of these weights; its figures start at these sizes."""
    assert count_weights(weightless("conv2")) == 6_601_504
    linear = 64 * 7 * 7 * 2048 + 2048 * 62
    assert 25 * 32 + 25 * 32 * 64 + linear == 6_601_504
    assert counted("conv2")[1] == 25 * 32 * 28**2 + 25 * 32 * 64 * 14**2 + linear

    parameters, flops = counted("conv4")
    assert round(parameters / 1e3, 1) == 31.2  # thousand
    # 84 -> 42 -> 21, padded to 23 -> 11, padded to 13 -> 6.
    assert parameters == 9 * 3 * 32 + 3 * 9 * 32**2 + 4 * 32 + 4 * 64 + 32 * 6 * 6 * 2 + 2
    inner = 9 * 32 * 32 * (42**2 + 23**2 + 13**2)
    assert flops == 9 * 3 * 32 * 84**2 + inner + 32 * 6 * 6 * 2

    assert count_weights(weightless("vgg11_prunefl")) == 9_747_136
    parameters, flops = counted("vgg11_prunefl")
    assert parameters == 9_750_922
    assert vgg_weights("vgg11") + 2 * 512**2 + 512 * 10 == 9_747_136
    assert flops == vgg_flops("vgg11") + 2 * 512**2 + 512 * 10
