"""Scores to widths: one threshold over the network, and the budget used up behind it."""

import pytest
import torch
from methods_networks import space
from torch import Tensor

from prunenas.errors import BudgetError
from prunenas.methods._ranking import (
    BELOW_ALL,
    budget_threshold,
    filled,
    global_threshold,
    nearest,
    ranked_channels,
    ranked_widths,
    widths_above,
)

NETWORKS = ("vgg_mini", "grouped", "resnet20", "concatenated", "separable")


def random_scores(network: str, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        group.name: torch.rand(group.width, generator=generator, dtype=torch.float64)
        for group in space(network).groups
    }


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("share", [0.9, 0.5, 0.25])
def test_a_budget_is_used_up_in_the_order_of_scores(network: str, share: float) -> None:
    # All steps above the first of each group, strongest first; one that doesn't fit is passed over,
    # and with it its group, whose next steps come later and cost no less.
    here, scores = space(network), random_scores(network, 3)
    budget = int(share * here.dense.flops)
    groups = {group.name: group for group in here.groups}
    steps = sorted(
        (-sorted(scores[name].tolist(), reverse=True)[width], index, width, name)
        for index, (name, group) in enumerate(groups.items())
        for width in range(group.divisor, group.width, group.divisor)
    )
    widths = {name: group.divisor for name, group in groups.items()}
    shut: set[str] = set()
    for _, _, width, name in steps:
        if name not in shut:
            assert widths[name] == width
            wider = {**widths, name: width + groups[name].divisor}
            if here.flops(wider) <= budget:
                widths = wider
            else:
                shut.add(name)
    above = widths_above(here, scores, budget_threshold(here, scores, budget))
    assert filled(here, scores, above, budget) == widths
    assert all(above[name] <= width for name, width in widths.items())


def test_equal_scores_are_split_by_a_budget_in_the_order_of_the_network() -> None:
    here = space("vgg_mini")
    scores = {group.name: torch.ones(group.width, dtype=torch.float64) for group in here.groups}
    budget = here.dense.flops // 2
    assert widths_above(here, scores, budget_threshold(here, scores, budget)) == {
        group.name: 1 for group in here.groups
    }
    _, widths = ranked_widths(here, scores, keep=0.5, flops=budget)
    assert here.flops(widths) <= budget
    for group in here.groups:
        wider = {**widths, group.name: widths[group.name] + 1}
        assert widths[group.name] == group.width or here.flops(wider) > budget
    first, *_, last = here.groups
    assert widths[first.name] == first.width
    assert widths[last.name] < last.width
    kept = ranked_channels(here, scores, widths)
    assert kept[first.name].tolist() == list(range(first.width))
    assert kept[last.name].tolist() == list(range(widths[last.name]))


def test_a_group_without_scores_stays_full() -> None:
    here = space("vgg_mini")
    first, *others = here.groups
    scores = random_scores("vgg_mini", 1)
    del scores[first.name]
    _, widths = ranked_widths(here, scores, keep=0.1, flops=None)
    assert widths[first.name] == first.width
    assert sum(widths[group.name] for group in others) == 160 - int(160 * 0.9) - 1
    least = here.flops({group.name: 1 for group in others})
    with pytest.raises(BudgetError, match=f"{least:,}"):
        ranked_widths(here, scores, keep=0.5, flops=least - 1)


def test_without_any_scores_nothing_goes() -> None:
    here = space("vgg_mini")
    assert global_threshold({}, 0.5) == BELOW_ALL
    assert ranked_widths(here, {}, keep=0.5, flops=None)[1] == here.dense.widths


def test_what_is_full_is_not_filled() -> None:
    here = space("grouped")
    scores = random_scores("grouped", 2)
    assert filled(here, scores, here.dense.widths, 10 * here.dense.flops) == here.dense.widths


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("share", [0.9, 0.5, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_a_trade_brings_a_budget_nearer(network: str, share: float, seed: int) -> None:
    here, scores = space(network), random_scores(network, seed)
    budget = int(share * here.dense.flops)
    above = widths_above(here, scores, budget_threshold(here, scores, budget))
    plain = filled(here, scores, above, budget)
    found = nearest(here, scores, above, budget)
    assert here.flops(plain) <= here.flops(found) <= budget
    if here.flops(plain) >= 0.995 * budget:
        assert found == plain
        return
    # One by one: a step more for a group, the weakest channels of the others gone until it fits.
    divisors = {group.name: group.divisor for group in here.groups}
    traded = [plain]
    for name, divisor in divisors.items():
        widths = {**plain, name: plain[name] + divisor}
        if widths[name] > len(scores[name]):
            continue
        while here.flops(widths) > budget:
            weakest = [
                (sorted(scores[other].tolist(), reverse=True)[widths[other] - 1], other)
                for other in divisors
                if other != name and widths[other] > divisors[other]
            ]
            if not weakest:
                break
            widths[min(weakest)[1]] -= divisors[min(weakest)[1]]
        if here.flops(widths) <= budget:
            traded.append(filled(here, scores, widths, budget))
    assert here.flops(found) == max(map(here.flops, traded))
