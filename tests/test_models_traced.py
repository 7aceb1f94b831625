"""Our networks as dense networks: every width can be cut, and the papers' cuts have their sizes."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from models_counted import SHAPES

from prunenas.architecture import Architecture, Space, build, count_flops, trace

COLOUR, GREY = (3, 32, 32), (1, 28, 28)

DEEP = ("densenet", "preresnet", "resnet32", "resnet44", "resnet50", "resnet56", "resnet110")
"""Beginnings of the names of networks that take seconds to trace."""

QUICK = (("densenet40", COLOUR), ("preresnet110", COLOUR))
"""Those of them in the default suite: one of each kind that has channel selections."""

CASES = [
    pytest.param(
        name,
        shape,
        id=f"{name}-{shape[1]}",
        marks=pytest.mark.slow if name.startswith(DEEP) and (name, shape) not in QUICK else (),
    )
    for name in sorted(SHAPES)
    for shape in (COLOUR, GREY)
]


@cache
def space_of(name: str, shape: tuple[int, int, int] | None = None, **arguments: Any) -> Space:
    """A dense network's space on the images it was made for, or on others."""
    channels, side, _ = shape = shape or SHAPES[name]
    given = {"in_channels": channels, "input_size": side, **arguments}
    return trace(name, arguments=given, input_shape=shape)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_random_widths_build_learn_and_count(name: str, shape: tuple[int, int, int]) -> None:
    space = space_of(name) if shape == SHAPES[name] else space_of(name, shape)
    generator = np.random.default_rng(0)
    widths = {group.name: int(generator.integers(1, group.width + 1)) for group in space.groups}
    architecture = space.architecture(widths=widths)
    network = build(architecture, seed=0)
    assert count_flops(network, shape) == architecture.flops == space.flops(widths)
    assert sum(p.numel() for p in network.parameters()) == architecture.params
    logits = network(torch.randn(4, *shape))
    assert logits.ndim == 2
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def cut(space: Space, widths: list[int], where: str = "") -> tuple[Architecture, float, float]:
    """The architecture with these widths in the groups whose names contain ``where``, in order.

    Also the shares of the dense network's parameters and multiply-adds that it is without.
    """
    names = [group.name for group in space.groups if where in group.name]
    architecture = space.architecture(widths=dict(zip(names, widths, strict=True)))
    whole = space.dense
    return (
        architecture,
        1 - architecture.params / whole.params,
        1 - architecture.flops / whole.flops,
    )


def test_li_et_als_vgg16() -> None:
    """Pruning Filters for Efficient ConvNets, Table 2: −64.0 % parameters, −34.2 % FLOPs."""
    widths = [32, 64, 128, 128, 256, 256, 256, *[256] * 6]
    pruned, parameters, flops = cut(space_of("vgg16", hidden=512), widths, "features")
    assert round(pruned.params / 1e6, 1) == 5.4
    assert (round(100 * parameters, 1), round(100 * flops, 1)) == (64.0, 34.2)


@pytest.mark.parametrize(
    ("name", "widths", "published"),
    [
        # Table 1 of the same paper, by the rules of its section 4.2: the first convolutions of the
        # blocks in a stage lose one share of their filters, sensitive blocks none.
        ("resnet56", [*[14] * 7, 16, 14, 32, *[28] * 8, 64, *[57] * 7, 64], (9.4, 10.4)),
        (
            "resnet56",
            [*[6] * 7, 16, 16, 32, *[22] * 6, 32, 22, 64, *[57] * 7, 64],
            (13.7, 27.6),
        ),
        pytest.param(
            "resnet110",
            [*[8] * 17, 16, 32, *[19] * 17, 64, *[44] * 17],
            (32.4, 38.6),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["56-A", "56-B", "110-B"],
)
def test_li_et_als_residual_networks(name, widths, published) -> None:
    _, parameters, flops = cut(space_of(name), widths, ".conv1")
    assert (100 * parameters, 100 * flops) == pytest.approx(published, abs=0.15)


def test_thinets_vggs() -> None:
    """ThiNet's abstract: 3.31 times fewer FLOPs than VGG-16, 16.63 times fewer parameters; 5.05 MB.

    VGG-16 itself, with its three linear layers, has 138.36 million parameters and 15.47 billion
    multiply-adds (torchvision's documentation of its weights).
    """
    space = space_of("vgg16_gap")
    gap, _, _ = cut(space, [32, 32, 64, 64, *[128] * 3, *[256] * 3, *[512] * 3])
    assert 138.36e6 / gap.params == pytest.approx(16.63, abs=0.01)
    assert 15.47e9 / gap.flops == pytest.approx(3.31, abs=0.01)
    tiny, _, _ = cut(space, [16, 16, 32, 32, *[64] * 3, *[128] * 3, 128, 128, 256])
    assert tiny.params * 4 / 2**20 == pytest.approx(5.05, abs=0.01)


PROJECTIONS = 256 + 512 + 1024 + 2048
"""Channels of the four projections, which have biases in the reference networks of ResNet-50."""


def test_channel_prunings_resnet50() -> None:
    """ResNet-50-2x of He, Zhang and Sun: sampled inputs, then both inner widths of each block.

    Counted from these widths without this code: 19.70 million parameters, and 33.1 % fewer FLOPs
    where the operations of normalisation, ReLU and pooling count too.
    """
    widths = [
        *(35, 64, 55, 101, 51, 39, 97, 50, 37),
        *(144, 128, 106, 205, 105, 72, 198, 105, 72, 288, 128, 110),
        *(278, 256, 225, 418, 209, 147, 407, 204, 158, 423, 212, 155, 412, 211, 148, 595, 256, 213),
        *(606, 512, 433, 1222, 512, 437, 1147, 512, 440),
    ]
    pruned, _, flops = cut(space_of("resnet50_sampled"), widths)
    assert round((pruned.params + PROJECTIONS) / 1e6, 2) == 19.70
    assert 100 * flops == pytest.approx(33.1, abs=0.2)


def test_thinets_resnet50() -> None:
    """ThiNet-50 keeps half of both inner widths of each block; counted likewise."""
    space = space_of("resnet50_sampled")
    inner = [group.name for group in space.groups if "sampler" not in group.name]
    pruned = space.architecture(dict.fromkeys(inner, 0.5))
    assert round((pruned.params + PROJECTIONS) / 1e6, 2) == 12.39
    assert 100 * (1 - pruned.flops / space.dense.flops) == pytest.approx(55.3, abs=0.2)


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        # The defaults of the network slimming code: what a block reads and its two inner widths;
        # what a dense layer, transition or the linear layer reads.
        pytest.param(
            "preresnet164",
            [16, 16, 16]
            + [64, 16, 16] * 17
            + [64, 32, 32]
            + [128, 32, 32] * 17
            + [128, 64, 64]
            + [256, 64, 64] * 17
            + [256],
            marks=pytest.mark.slow,
        ),
        ("densenet40", [start + 12 * i for start in (24, 168, 312) for i in range(13)]),
    ],
)
def test_network_slimmings_widths_are_the_groups(name: str, widths: list[int]) -> None:
    assert [group.width for group in space_of(name).groups] == widths
