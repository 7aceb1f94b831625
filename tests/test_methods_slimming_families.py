"""Network slimming on the paper's families, and branches that would go empty."""

from pathlib import Path

import pytest
import torch
from methods_networks import RECIPE, dense, masked, space
from test_methods_network_slimming import random_state

from prunenas.architecture import Architecture, build, count_flops
from prunenas.methods._ranking import global_threshold, ranked_channels, widths_above
from prunenas.methods.network_slimming import (
    NetworkSlimming,
    channel_scales,
    droppable_branches,
    dropping_threshold,
    empty_branches,
)

FAMILIES = {"vgg19": 5504, "preresnet164": 12112, "densenet40": 9360}
"""Scales of each: the sums of the paper's default configurations, written out in test below."""


@pytest.mark.slow
@pytest.mark.parametrize("network", FAMILIES)
@pytest.mark.parametrize("keep", [0.6, 0.4])
def test_the_papers_families_compute_what_their_masks_do(network: str, keep: float) -> None:
    here = space(network)
    state = random_state(network, 7)
    scores = channel_scales(here, state)
    assert sum(map(len, scores.values())) == FAMILIES[network]
    widths = widths_above(here, scores, global_threshold(scores, keep))
    kept = ranked_channels(here, scores, widths)
    architecture = here.architecture(widths=widths, kept=kept)
    small = build(architecture).eval()
    small.load_state_dict(here.inherit(state, kept))
    images = torch.rand(2, *here.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = masked(network, state, kept).double().eval()(images.double())
        answer = small.double()(images.double())
    torch.testing.assert_close(answer, expected, rtol=1e-5, atol=1e-5)
    assert sum(widths.values()) == pytest.approx(keep * FAMILIES[network], abs=2)


@pytest.mark.slow
def test_scales_are_as_many_as_in_the_papers_configurations() -> None:
    vgg19 = 2 * 64 + 2 * 128 + 4 * 256 + 8 * 512
    inner = [16, 32, 64]
    first = [16, *[64] * 18, *[128] * 18, *[256] * 18]  # what each block's first scale sees
    preresnet = sum(first) + sum(2 * 18 * planes for planes in inner)
    starts = (24, 168, 312)
    densenet = sum(start + 12 * layer for start in starts for layer in range(13))
    assert {"vgg19": vgg19, "preresnet164": preresnet, "densenet40": densenet} == FAMILIES


def test_branches_with_an_empty_layer_are_dropped(tmp_path: Path) -> None:
    source = dense("resnet20", tmp_path)
    kept = NetworkSlimming(keep=1e-6).derive(source)
    dropped = NetworkSlimming(keep=1e-6, empty="drop").derive(source)
    names = [block.name for block in source.space.blocks]
    assert list(dropped.architecture.removed) == names == dropped.notes["branches_dropped"]
    assert not kept.architecture.removed
    assert dropped.architecture.flops < kept.architecture.flops
    network = build(dropped.architecture, trust=True)
    assert count_flops(network, (1, 8, 8)) == dropped.architecture.flops
    assert Architecture.from_dict(dropped.architecture.to_dict()) == dropped.architecture
    weights = dropped.weights()
    assert weights is not None
    network.load_state_dict(weights)


def test_only_branches_with_an_empty_layer_are_dropped() -> None:
    here = space("resnet20_b")
    scores = channel_scales(here, random_state("resnet20_b", 3))
    inner = "stage2.1.conv1"
    scores[inner] = torch.full_like(scores[inner], 0.01)
    branches = droppable_branches(here, frozenset())
    assert branches["stage2.1"] == (inner,)
    assert len(branches) == len(here.blocks)
    assert empty_branches(scores, branches, 0.01) == ["stage2.1"]
    assert empty_branches(scores, branches, 0.009) == []
    assert "stage2.1" not in droppable_branches(here, frozenset({inner}))


@pytest.mark.parametrize("share", [0.6, 0.3, 0.05])
def test_the_threshold_with_dropped_branches_is_the_best_of_all(share: float) -> None:
    here = space("resnet20_b")
    scores = channel_scales(here, random_state("resnet20_b", 3))
    branches = droppable_branches(here, frozenset())
    budget = int(share * here.dense.flops)
    costs = {}
    for at in sorted(float(value) for score in scores.values() for value in score):
        rest = here.without(empty_branches(scores, branches, at))
        costs[at] = rest.flops(widths_above(rest, scores, at))
    best = min(at for at, cost in costs.items() if cost <= budget)
    assert dropping_threshold(here, scores, branches, budget) == best


def test_a_budget_is_met_with_dropped_branches(tmp_path: Path) -> None:
    source = dense("resnet20", tmp_path, recipe=RECIPE)
    for share in (0.5, 0.05):
        budget = int(share * source.space.dense.flops)
        derived = NetworkSlimming(empty="drop").derive(source, flops=budget)
        assert 0.9 * budget <= derived.architecture.flops <= budget
        assert derived.weights() is not None
