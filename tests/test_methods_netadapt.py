"""NetAdapt's greedy search against brute force."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from methods_networks import dense, space
from torch import nn

from prunenas.architecture import Space, trace
from prunenas.errors import BudgetError
from prunenas.methods.netadapt import NetAdapt, Sample, adapted, proposals


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def toy() -> nn.Module:
    """Two channel groups, of 6 and 9 channels."""
    layers = (nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 9, 3, padding=1), nn.ReLU())
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(9, 10))


def traced() -> Space:
    return trace("test_methods_netadapt:toy", input_shape=(1, 8, 8))


@pytest.mark.parametrize("step", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_each_step_is_the_best_of_all_smallest_cuts(step: float, seed: int) -> None:
    here = traced()
    first, second = (group.name for group in here.groups)
    generator = torch.Generator().manual_seed(seed)
    accuracy = torch.rand(7, 10, generator=generator).tolist()  # of each pair of widths
    saving, budget = step * here.dense.flops, int(0.3 * here.dense.flops)

    def cost(a: int, b: int) -> int:
        return 64 * (9 * a + 9 * a * b) + 10 * b

    assert here.dense.flops == cost(6, 9)
    a, b = 6, 9
    while cost(a, b) > budget:
        needed = min(saving, cost(a, b) - budget)
        cuts = []
        for narrow in range(a - 1, 0, -1):
            if cost(a, b) - cost(narrow, b) >= needed:
                cuts.append((narrow, b))
                break
        for narrow in range(b - 1, 0, -1):
            if cost(a, b) - cost(a, narrow) >= needed:
                cuts.append((a, narrow))
                break
        if not cuts:
            cuts = [(1, b)] * (a > 1) + [(a, 1)] * (b > 1)
        a, b = max(cuts, key=lambda cut: accuracy[cut[0]][cut[1]])
    *_, last = adapted(
        here,
        here.groups,
        budget,
        saving,
        lambda widths: (accuracy[widths[first]][widths[second]], 0.0),
    )
    assert last.values["widths"] == {first: a, second: b}


def test_where_no_group_saves_enough_each_offers_all_it_has() -> None:
    here = traced()
    first, second = (group.name for group in here.groups)
    offered = proposals(here, here.groups, {first: 2, second: 2}, here.dense.flops)
    assert offered == [{first: 1, second: 2}, {first: 2, second: 1}]
    assert proposals(here, here.groups, {first: 1, second: 2}, 1e9) == [{first: 1, second: 1}]
    assert proposals(here, here.groups, {first: 1, second: 1}, 1) == []


def test_cuts_are_whole_divisors() -> None:
    here = space("grouped")
    middle = next(group for group in here.groups if group.divisor == 4 and group.width == 16)
    offered = proposals(here, [middle], here.dense.widths, 1)
    assert [widths[middle.name] for widths in offered] == [12]


@pytest.mark.parametrize("share", [0.7, 0.4])
def test_evaluations_stay_within_the_bound_that_is_told(share: float, folder: Path) -> None:
    source = dense("vgg_mini", folder)
    budget = int(share * source.space.dense.flops)
    derived = NetAdapt(step=0.1, images=40).derive(source, flops=budget)
    groups, steps = len(source.space.groups), math.ceil((1 - share) / 0.1)
    assert 0 < derived.notes["evaluations"] <= groups * (steps + groups)
    again = NetAdapt(step=0.1, images=40).derive(source, flops=budget)
    assert again.architecture == derived.architecture


def test_without_a_budget_its_own_share_is_met(folder: Path) -> None:
    source = dense("vgg_mini", folder)
    dense_flops = source.space.dense.flops
    flops = NetAdapt(flops_ratio=0.6, step=0.2, images=32).derive(source).architecture.flops
    assert 0.57 * dense_flops < flops <= 0.6 * dense_flops
    whole = NetAdapt(flops_ratio=1.0).derive(source)
    assert whole.architecture == source.space.dense
    assert whole.notes["evaluations"] == 0


def test_a_budget_below_the_narrowest_network_costs_no_evaluation(folder: Path) -> None:
    source = dense("vgg_mini", folder)
    least = source.space.flops({group.name: 1 for group in source.space.groups})
    with pytest.raises(BudgetError, match=f"{least:,}"):
        NetAdapt().derive(source, flops=least - 1)


def test_the_sample_is_drawn_from_the_training_images(tmp_path: Path) -> None:
    source = dense("vgg_mini", tmp_path)
    sample = Sample.of(source, 40, seed=3)
    assert len(sample) == 40
    (images, labels), *others = sample.batches(512)
    assert not others
    every, _ = next(source.data.train.batches(len(source.data.train)))
    for image in images:
        assert (every == image).flatten(1).all(dim=1).any()
    assert torch.equal(labels, next(Sample.of(source, 40, seed=3).batches(1))[1])
    assert not torch.equal(labels, next(Sample.of(source, 40, seed=4).batches(1))[1])
    assert len(Sample.of(source, 10_000, seed=0)) == len(source.data.train)


def test_every_step_is_told(folder: Path) -> None:
    told: list[tuple[str, int, int, float]] = []
    source = replace(dense("vgg_mini", folder), progress=lambda *step: told.append(step))
    NetAdapt(step=0.1, images=32).derive(source, flops=source.space.dense.flops // 2)
    assert [done for _, done, _, _ in told] == list(range(1, len(told) + 1))
    assert all(what == "netadapt" and 0 <= accuracy <= 1 for what, _, _, accuracy in told)
    assert [total for _, _, total, _ in told][-1] == len(told) <= 5
