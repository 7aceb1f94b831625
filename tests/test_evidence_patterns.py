"""Patterns by hand, and guided networks that meet their budget and have one share a stage."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import stdev

import pytest
import torch

from prunenas.architecture import Architecture, Space, build, masked_weights, trace, with_masks
from prunenas.cache import Cache
from prunenas.data import load
from prunenas.errors import BudgetError
from prunenas.evidence.patterns import Pattern, guided, matched_shares, pattern
from prunenas.methods import Dense
from prunenas.training import Recipe

VGG = trace("vgg_mini", input_shape=(1, 28, 28))  # widths 16, 32, 64, 64 in stages 0, 1, 2, 2
RESNET = trace("resnet20", arguments={"in_channels": 1}, input_shape=(1, 28, 28))
LENET = trace("lenet5", input_shape=(1, 28, 28))  # its kernels are 5 x 5
CROSS = torch.tensor([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=torch.bool)
MIDDLE = torch.tensor([[0, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=torch.bool)


def dense(space: Space, folder: Path) -> Dense:
    return Dense(space, load("digits", train_limit=50), Recipe(epochs=1), Cache(folder))


def architecture(*widths: int) -> Architecture:
    names = [group.name for group in VGG.groups]
    return VGG.architecture(widths=dict(zip(names, widths, strict=True)))


def masked(
    space: Space, kernel: torch.Tensor, layers: Mapping[str, float] | None = None
) -> Architecture:
    """Masks with one kernel everywhere, or with a share of a layer's weights, the first ones."""
    keep = {}
    for name, weight in masked_weights(build(space.dense)).items():
        if layers is not None and name.removesuffix(".weight") in layers:
            share = layers[name.removesuffix(".weight")]
            keep[name] = (torch.arange(weight.numel()) < share * weight.numel()).view(weight.shape)
        elif layers is None and weight.shape[2:] == kernel.shape:
            keep[name] = kernel.expand(weight.shape).clone()
    return with_masks(space, space.dense, build(space.dense), keep)


def test_means_over_networks_and_groups_by_hand() -> None:
    found = pattern(VGG, [architecture(16, 16, 32, 16), architecture(8, 8, 32, 48)])
    assert found.of == "channels"
    assert list(found.parts.values()) == [0.75, 0.375, 0.5, 0.5]
    assert dict(found.stages) == {0: 0.75, 1: 0.375, 2: 0.5}
    # of 0.5, 0.5, 0.25, 0.75 about 0.5
    assert found.spreads[2] == pytest.approx((2 * 0.25**2 / 4) ** 0.5)
    assert list(found.part_deviations.values()) == pytest.approx(
        [stdev([1, 0.5]), stdev([0.5, 0.25]), 0.0, stdev([0.25, 0.75])]
    )
    # of stage 2 the networks keep (0.5 + 0.25) / 2 and (0.5 + 0.75) / 2
    assert found.stage_deviations[2] == pytest.approx(stdev([0.375, 0.625]))
    assert found.n == 2
    mean = (0.75 + 0.375 + 0.5) / 3
    variance = sum((share - mean) ** 2 for share in (0.75, 0.375, 0.5)) / 3
    assert found.spread == pytest.approx(variance**0.5 / mean)


def test_equal_shares_have_no_spread() -> None:
    found = pattern(VGG, [architecture(8, 16, 32, 32)])
    assert found.spread == 0.0
    assert set(found.part_deviations.values()) == {0.0}
    assert "not expected to beat uniform" in found.prediction
    with pytest.raises(ValueError, match="at least"):
        pattern(VGG, [])


@pytest.mark.parametrize(
    ("shares", "spread", "told"),
    [  # the two networks that the paper tells of
        ((0.8, 0.97, 0.97), 0.09, "not expected to beat uniform"),
        ((0.85, 0.85, 0.85, 0.22, 0.22), 0.5, "may beat uniform"),
        ((0.5, 0.8), 0.23, "does not say"),
    ],
)
def test_the_spread_tells_the_papers_cases_apart(
    shares: tuple[float, ...], spread: float, told: str
) -> None:
    found = replace(pattern(VGG, [VGG.dense]), stages=dict(enumerate(shares)))
    assert found.spread == pytest.approx(spread, abs=0.03)
    assert told in found.prediction


def test_of_masks_the_pattern_has_maps_and_densities_by_hand() -> None:
    found = pattern(VGG, [masked(VGG, CROSS), masked(VGG, MIDDLE)])
    assert found.of == "weights"
    assert not found.linear
    assert list(found.parts) == ["features.0", "features.4", "features.8", "features.11"]
    assert list(found.stages.values()) == pytest.approx([(5 / 9 + 1 / 9) / 2] * 3)
    assert list(found.stage_deviations.values()) == pytest.approx([stdev([5 / 9, 1 / 9])] * 3)
    assert found.spread == pytest.approx(0.0)
    for rows in found.maps.values():
        assert torch.allclose(torch.tensor(rows).double(), (CROSS.double() + MIDDLE.double()) / 2)


def test_layers_without_masks_keep_all_and_linear_ones_count_where_they_lose() -> None:
    found = pattern(VGG, [masked(VGG, CROSS, {"features.4": 0.25, "classifier": 0.5})])
    assert found.linear
    assert found.parts == {
        "features.0": 1.0,
        "features.4": 0.25,
        "features.8": 1.0,
        "features.11": 1.0,
        "classifier": 0.5,
    }


def test_narrow_networks_with_masks_have_no_one_pattern() -> None:
    both = replace(masked(VGG, CROSS), widths=architecture(8, 8, 8, 8).widths)
    with pytest.raises(ValueError, match="narrow and have masks"):
        pattern(VGG, [both])


def stagewise(shares: dict[int, float]) -> Pattern:
    return replace(pattern(VGG, [VGG.dense]), stages=shares)


@pytest.mark.parametrize("space", [VGG, RESNET], ids=["guided", "transferred"])
@pytest.mark.parametrize("share", [0.5, 0.25])
def test_a_guided_network_meets_its_budget(space: Space, share: float, tmp_path: Path) -> None:
    budget = int(share * space.dense_flops)
    found = guided(dense(space, tmp_path), stagewise({0: 0.9, 1: 0.6, 2: 0.2}), flops=budget)
    assert 0.97 * budget <= found.flops <= budget
    kept: dict[int, list[float]] = {}
    for group in space.groups:
        kept.setdefault(group.stage, []).append(found.widths[group.name] / group.width)
    means = [sum(shares) / len(shares) for _, shares in sorted(kept.items())]
    assert means[0] >= means[1] > means[2]  # none keeps more than all


@pytest.mark.parametrize("space", [VGG, RESNET, LENET], ids=["guided", "transferred", "5 x 5"])
def test_guided_masks_meet_their_budget_and_keep_the_places(space: Space, tmp_path: Path) -> None:
    budget = int(0.3 * space.dense_flops)
    found = pattern(VGG, [masked(VGG, CROSS), masked(VGG, MIDDLE)])
    if space is LENET:  # its linear layers cost too much to be left whole
        found = replace(found, linear=True)
    one, other = (guided(dense(space, tmp_path), found, flops=budget, seed=s) for s in (0, 1))
    for each in (one, other):
        assert 0.999 * budget <= each.flops <= budget
        for mask in each.masks.values():
            if mask.shape[2:] == (3, 3):
                kept = mask.tensor().double().mean((0, 1))
                assert kept[~CROSS].max() == 0.0  # the corners never survived
                assert kept[1, 1] > kept[0, 1]
    assert one.digest != other.digest
    assert one == guided(dense(space, tmp_path), found, flops=budget, seed=0)


def test_masks_without_small_kernels_guide_nothing(tmp_path: Path) -> None:
    lenet = masked(LENET, torch.ones(5, 5, dtype=torch.bool).tril())
    found = pattern(LENET, [lenet])
    assert found.maps == {}
    assert set(found.stages.values()) == {15 / 25}
    with pytest.raises(ValueError, match="3 x 3 kernels"):
        guided(dense(LENET, tmp_path), found, flops=LENET.dense_flops // 2)


def test_a_budget_that_nothing_meets_is_told(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="narrowest"):
        guided(dense(VGG, tmp_path), stagewise({0: 1.0, 1: 1.0, 2: 1.0}), flops=10)


def test_stages_are_matched_by_their_place() -> None:
    assert matched_shares({0: 0.9, 2: 0.5, 5: 0.1}, [0, 1, 2]) == {0: 0.9, 1: 0.5, 2: 0.1}
    assert matched_shares({0: 0.9, 1: 0.1}, [0, 1, 2, 3]) == {0: 0.9, 1: 0.9, 2: 0.1, 3: 0.1}
    assert matched_shares({0: 0.9, 1: 0.1}, [3]) == {3: 0.9}
