"""The papers' architectures, against the papers' own rules and published figures."""

import functools
from collections.abc import Iterable

import pytest
import torch
from torch import nn

from prunenas.architecture import Architecture, build, count_flops
from prunenas.architectures import describe, named, names
from prunenas.errors import SourceError
from prunenas.training import scratch_epochs

RETHINKING = "Liu et al. 2019, Rethinking the Value of Network Pruning, and its code"


@functools.cache
def pair(name: str) -> tuple[Architecture, Architecture]:
    pruned, space = named(name)
    return pruned, space.dense


def lost(name: str, figure: str) -> float:
    pruned, dense = pair(name)
    return 100 * (1 - getattr(pruned, figure) / getattr(dense, figure))


# --- how many filters stay, by the papers' rules --------------------------------------------------


def li_resnet(blocks: int, shares: tuple[float, ...], skip: set[int]) -> list[int]:
    """Filters of each block's first convolution in a CIFAR ResNet (Li et al. 2017, section 4.2).

    Convolutions are numbered from 1, the stem; those of even number are first ones. A stage prunes
    its share of each, rounded down in what stays, but for the sensitive ones.
    """
    kept = []
    for block in range(3 * blocks):
        number, stage = 2 + 2 * block, block // blocks
        width = 16 << stage
        share = 0.0 if number in skip else shares[stage]
        kept.append(int(width * (1 - share) + 1e-9))
    return kept


@pytest.mark.parametrize(
    ("name", "blocks", "shares", "skip"),
    [
        ("resnet56-a", 9, (0.1, 0.1, 0.1), {16, 20, 38, 54}),
        ("resnet56-b", 9, (0.6, 0.3, 0.1), {16, 18, 20, 34, 38, 54}),
        ("resnet110-a", 18, (0.5, 0.0, 0.0), {36}),
        ("resnet110-b", 18, (0.5, 0.4, 0.3), {36, 38, 74}),
    ],
)
def test_cifar_resnets_follow_the_papers_rule(
    name: str, blocks: int, shares: tuple[float, ...], skip: set[int]
) -> None:
    pruned, dense = pair(name)
    groups = [f"stage{s}.{b}.conv1" for s in (1, 2, 3) for b in range(blocks)]
    assert [pruned.widths[group] for group in groups] == li_resnet(blocks, shares, skip)
    others = set(dense.widths) - set(groups)
    assert all(pruned.widths[group] == dense.widths[group] for group in others)


@pytest.mark.parametrize(
    ("name", "shares"), [("resnet34-a", (0.3, 0.3, 0.3, 0)), ("resnet34-b", (0.5, 0.6, 0.4, 0))]
)
def test_resnet34_follows_the_papers_rule(name: str, shares: tuple[float, ...]) -> None:
    pruned, _ = pair(name)
    number, expected = 2, {}
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            share = 0 if number in {2, 8, 14, 16, 26, 28, 30, 32} else shares[stage]
            expected[f"layer{stage + 1}.{block}.conv1"] = int((64 << stage) * (1 - share) + 1e-9)
            number += 2
    assert {group: pruned.widths[group] for group in expected} == expected


@pytest.mark.parametrize("keep", [30, 50, 70])
def test_thinet_keeps_its_share_of_the_inner_filters(keep: int) -> None:
    pruned, _ = pair(f"thinet-resnet50-{keep}")
    for stage in range(4):
        for layer in ("conv1", "conv2"):
            assert pruned.widths[f"layer{stage + 1}.0.{layer}"] == (64 << stage) * keep // 100


@pytest.mark.parametrize("depth", [26, 32, 41])
def test_sss_resnets_are_as_deep_as_they_are_called(depth: int) -> None:
    # Each of ResNet-50's 16 bottlenecks has three convolutions; stem and classifier stay.
    pruned, _ = pair(f"sss-resnet{depth}")
    assert 2 + 3 * (16 - len(pruned.removed)) == depth


# --- published figures ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "params", "flops"),
    [
        # Li et al. 2017, table 1, as recomputed with the counting rule of RETHINKING's code.
        ("vgg16-a", 64.0, 34.2),
        ("resnet56-a", 9.3, 10.4),
        ("resnet56-b", 13.75, 27.5),
        ("resnet110-b", 32.4, 38.5),
        ("resnet34-a", 7.55, 15.4),
        # ThiNet and Channel Pruning, by the same rule.
        ("thinet-resnet50-50", None, 55.3),
        ("channel-pruning-resnet50-2x", None, 33.1),
    ],
)
def test_shares_lost_are_the_published_ones(name: str, params: float | None, flops: float) -> None:
    if params is not None:
        assert lost(name, "params") == pytest.approx(params, abs=0.05)
    pruned, dense = pair(name)
    by_rule = 100 * (1 - reference_count(pruned) / reference_count(dense))
    assert by_rule == pytest.approx(flops, abs=0.051)
    # fvcore's multiply-adds leave normalisations out: a little more is lost.
    assert lost(name, "flops") == pytest.approx(by_rule, abs=0.25)


def reference_count(architecture: Architecture) -> int:
    """Operations as RETHINKING's code counts them: two for a multiply-add, one for a bias, two for
    a normalised value, one for a rectified one."""
    total = 0

    def convolution(module: nn.Module, given: object, out: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        fan_in = module.weight[0].numel()
        total += (2 * fan_in + (module.bias is not None)) * out[0].numel()

    def linear(module: nn.Module, given: object, out: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Linear)
        total += 2 * module.weight.numel() + out[0].numel()

    def normalisation(module: nn.Module, given: object, out: torch.Tensor) -> None:
        nonlocal total
        total += (2 + 1) * out[0].numel()  # each has a ReLU behind it, if after an addition

    network = build(architecture).to("meta").eval()
    hooks = {nn.Conv2d: convolution, nn.Linear: linear}
    hooks |= {nn.BatchNorm1d: normalisation, nn.BatchNorm2d: normalisation}
    for module in network.modules():
        if type(module) in hooks:
            module.register_forward_hook(hooks[type(module)])
    network(torch.empty((1, *architecture.input_shape), device="meta"))
    return total


@pytest.mark.parametrize(
    ("name", "dense", "pruned", "biases"),
    [
        ("vgg16-a", 14.99, 5.40, 0),
        # The reference code's four projections have biases, torchvision's have none.
        ("thinet-resnet50-50", 25.56, 12.39, 256 + 512 + 1024 + 2048),
        ("channel-pruning-resnet50-2x", 25.56, 19.70, 256 + 512 + 1024 + 2048),
    ],
)
def test_millions_of_parameters(name: str, dense: float, pruned: float, biases: int) -> None:
    small, whole = pair(name)
    assert round(whole.params / 1e6, 2) == dense
    assert round((small.params + biases) / 1e6, 2) == pruned


@pytest.mark.parametrize(
    ("name", "published"),
    [
        # RETHINKING's code and README: int(160 x ratio) on CIFAR; on ImageNet int(90 x ratio), or
        # 180 where half of the FLOPs or more are gone; int(100 x ratio) for SSS.
        ("vgg16-a", 243),
        ("resnet56-a", 178),
        ("resnet56-b", 220),
        ("resnet110-b", 260),
        ("resnet34-a", 106),
        ("thinet-resnet50-30", 180),
        ("thinet-resnet50-50", 180),
        ("thinet-resnet50-70", 141),
        ("thinet-vgg-gap", 180),
        ("thinet-vgg-tiny", 180),
        ("sss-resnet41", 117),
        ("sss-resnet32", 145),
        ("sss-resnet26", 179),
    ],
)
def test_scratch_b_takes_the_published_epochs(name: str, published: int) -> None:
    assert describe(name).scratch_b == published


@pytest.mark.parametrize("name", names())
def test_scratch_b_is_what_the_rule_gives(name: str) -> None:
    paper, (pruned, dense) = describe(name), pair(name)
    epochs = scratch_epochs(
        "scratch_b",
        paper.epochs,
        dense_flops=dense.flops,
        flops=pruned.flops,
        cap=paper.scratch_b_cap,
    )
    assert epochs == paper.scratch_b


@pytest.mark.parametrize("name", names())
def test_each_is_whole(name: str) -> None:
    paper, (pruned, dense) = describe(name), pair(name)
    assert pruned.flops < dense.flops
    assert f"{100 * pruned.flops / dense.flops:.0f} % of the" in paper.description
    assert all(width < dense.widths[group] for group, width in paper.widths.items())
    assert pruned.input_shape == paper.input_shape
    assert paper.source
    assert paper.description


@pytest.mark.parametrize("name", ["resnet56-b", "sss-resnet26", "channel-pruning-resnet50-2x"])
def test_they_are_built_for_other_data(name: str) -> None:
    pruned, _ = named(name, classes=7, input_shape=(3, 64, 64))
    network = build(pruned, seed=0)
    assert network(torch.randn(2, 3, 64, 64)).shape == (2, 7)
    assert count_flops(network, (3, 64, 64)) == pruned.flops


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(SourceError, match=r"unknown architecture 'resnet56-c' .*did you mean"):
        describe("resnet56-c")


def test_names_are_sorted_and_many() -> None:
    found: Iterable[str] = names()
    assert list(found) == sorted(found)
    assert {"vgg16-a", "resnet110-a", "channel-pruning-vgg16-5x", "thinet-vgg-conv"} <= set(found)
