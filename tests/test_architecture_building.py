"""Built networks: initialisation at the new fan, seeds, and refusal of what does not fit."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from prunenas.architecture import Architecture, Layer, build, count_flops, trace
from prunenas.errors import SourceError

WIDTH = 256


@pytest.mark.parametrize(
    ("rule", "variance"),
    [
        # Expected variance of the second convolution's weights, 3x3, at fans in and out.
        ("he_fan_out", lambda fan_in, fan_out: 2 / (9 * fan_out)),
        ("he_fan_in", lambda fan_in, fan_out: 2 / (9 * fan_in)),
        # torch's default: uniform in +-1/sqrt(fan in), whose variance is a third of the square.
        ("default", lambda fan_in, fan_out: 1 / (3 * 9 * fan_in)),
        ("constant", lambda fan_in, fan_out: 0.01**2),
    ],
)
def test_variance_follows_the_constructors_rule_at_the_new_fan(rule, variance) -> None:
    space = trace(
        "architecture_networks:initialised",
        arguments={"rule": rule, "width": WIDTH},
        input_shape=(3, 8, 8),
    )
    for first, second in [(WIDTH // 2, WIDTH // 2), (WIDTH // 4, WIDTH), (WIDTH, WIDTH // 4)]:
        network = build(space.architecture(widths={"0": first, "2": second}), seed=1, trust=True)
        weight = network.get_parameter("2.weight")
        assert weight.shape == (second, first, 3, 3)
        # A sample variance of n draws scatters by sqrt(2 / n) (normal): six of these are allowed.
        allowed = 6 * math.sqrt(2 / weight.numel())
        assert weight.var().item() == pytest.approx(variance(first, second), rel=allowed)


def test_torchvision_resnet_at_half_width_has_he_fan_out() -> None:
    space = trace("torchvision/resnet18", arguments={"num_classes": 10}, input_shape=(3, 32, 32))
    network = build(space.architecture(0.5), seed=0)
    weight = network.get_parameter("layer4.1.conv2.weight")
    assert weight.shape == (256, 256, 3, 3)
    assert weight.var().item() * 9 * 256 == pytest.approx(2, rel=0.02)


def test_a_seed_decides_the_weights_and_leaves_the_global_generator_alone() -> None:
    architecture = trace("vgg_mini", input_shape=(1, 28, 28)).architecture(0.5)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, again, other = (build(architecture, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    states = [network.state_dict() for network in (first, again, other)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])


def test_substitution_ends_with_the_construction() -> None:
    architecture = trace("vgg_mini", input_shape=(1, 28, 28)).architecture(0.5)
    build(architecture, seed=0)
    assert nn.Conv2d(3, 5, 1).weight.shape == (5, 3, 1, 1)
    broken = replace(architecture, layers=architecture.layers[:2])
    with pytest.raises(SourceError, match="2 layers"):
        build(broken)
    assert nn.Linear(4, 2).weight.shape == (2, 4)


def test_layers_of_another_version_are_refused() -> None:
    architecture = trace("vgg_mini", input_shape=(1, 28, 28)).dense
    first, *rest = architecture.layers
    renamed = replace(architecture, layers=(Layer("other", first.kind, first.sizes), *rest))
    with pytest.raises(SourceError, match="where the architecture has 'other'"):
        build(renamed)
    with pytest.raises(SourceError, match="the architecture has "):
        build(replace(architecture, layers=(*architecture.layers, first)))


def test_a_users_module_needs_trust() -> None:
    space = trace("architecture_networks:Literal", input_shape=(3, 8, 8))
    with pytest.raises(SourceError, match="--trust"):
        build(space.dense)


def test_vgg16_counts_what_the_papers_print() -> None:
    space = trace("vgg16", input_shape=(3, 32, 32))
    assert space.dense.flops == 313_201_664  # Li et al. 2017, Table 1: 3.13e8
    assert count_flops(build(space.dense), (3, 32, 32)) == 313_201_664


def test_counting_leaves_modes_and_devices_alone() -> None:
    network = build(trace("vgg_mini", input_shape=(1, 28, 28)).dense)
    network.train()
    inner = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    inner.eval()
    before = inner.running_mean.clone()
    count_flops(network, (1, 28, 28))
    assert network.training
    assert not inner.training
    assert torch.equal(inner.running_mean, before)


def test_grouped_and_transposed_convolutions_count_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1, groups=2), nn.ConvTranspose2d(8, 6, 2, stride=2)
    )
    by_hand = 25 * 9 * (4 // 2) * 8 + 25 * 4 * 8 * 6  # 5x5 places each: outputs, then inputs
    assert count_flops(network, (4, 5, 5)) == by_hand


def test_an_architecture_needs_no_training_data_to_rebuild(tmp_path) -> None:
    architecture = trace("torchvision/resnet18", input_shape=(3, 64, 64)).architecture(0.3)
    again = Architecture.from_dict(architecture.to_dict())
    shapes = [
        {key: value.shape for key, value in build(a, seed=0).state_dict().items()}
        for a in (architecture, again)
    ]
    assert shapes[0] == shapes[1]
