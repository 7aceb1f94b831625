"""Masks from scores, and densities: by brute force and by the formula."""

import itertools

import pytest
import torch
from torch import Tensor

from prunenas.errors import BudgetError
from prunenas.methods._units import erk_densities, strongest, uniform_densities, within


def scores(seed: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        "a": torch.rand(2, 3, generator=random),
        "b": torch.rand(4, generator=random),
        "c": torch.rand(1, 2, generator=random),
    }


@pytest.mark.parametrize("seed", range(5))
def test_the_strongest_of_all_layers_are_kept_and_one_of_each(seed: int) -> None:
    given = scores(seed)
    flat = [(float(s), name) for name, each in given.items() for s in each.flatten()]
    for count in range(1, 13):
        masks = strongest(given, count)
        assert sum(int(mask.sum()) for mask in masks.values()) == max(3, count)
        top = {name: float(each.max()) for name, each in given.items()}
        forced = set(top.items())
        rest = sorted(((s, n) for s, n in flat if (n, s) not in forced), reverse=True)
        expected = {s for _, s in forced} | {s for s, _ in rest[: max(0, count - 3)]}
        kept = {float(s) for n, m in masks.items() for s in given[n][m]}
        assert kept == expected
        assert {name: mask.shape for name, mask in masks.items()} == {
            name: each.shape for name, each in given.items()
        }


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("budget", [7, 12, 19, 30, 47])
def test_a_budget_takes_the_highest_as_long_as_they_fit_then_what_still_does(
    seed: int, budget: int
) -> None:
    given, costs = scores(seed), {"a": 5, "b": 2, "c": 0}
    left, expected = budget - 7, {name: float(each.max()) for name, each in given.items()}
    kept = list(expected.items())
    others = sorted(
        (
            (float(s), name)
            for name, each in given.items()
            for s in each.flatten()
            if float(s) != expected[name]
        ),
        reverse=True,
    )
    for score, name in others:  # one by one, without any vectors
        if costs[name] <= left:
            left -= costs[name]
            kept.append((name, score))
    masks = within(given, costs, budget)
    found = [(name, float(s)) for name, mask in masks.items() for s in given[name][mask]]
    assert sorted(found) == sorted(kept)
    assert sum(costs[name] for name, _ in found) <= budget


def test_a_budget_below_one_unit_of_each_layer_is_refused() -> None:
    with pytest.raises(BudgetError, match="7 FLOPs of masked layers"):
        within(scores(0), {"a": 5, "b": 2, "c": 0}, 6)


def test_of_equal_scores_the_first_are_kept() -> None:
    masks = strongest({"a": torch.ones(3), "b": torch.ones(3)}, 3)
    assert masks["a"].tolist() == [True, True, False]
    assert masks["b"].tolist() == [True, False, False]


SHAPES = {"first": (8, 1, 3, 3), "second": (16, 8, 3, 3), "last": (10, 64)}


@pytest.mark.parametrize("density", [0.05, 0.2, 0.5, 0.9])
def test_erk_densities_have_the_mean_that_is_asked_and_the_papers_proportions(
    density: float,
) -> None:
    found = erk_densities(SHAPES, density)
    sizes = {name: torch.Size(shape).numel() for name, shape in SHAPES.items()}
    total = sum(found[name] * sizes[name] for name in SHAPES)
    assert total == pytest.approx(density * sum(sizes.values()))
    assert all(0 < each <= 1 for each in found.values())
    raw = {name: sum(shape) / sizes[name] for name, shape in SHAPES.items()}
    for one, other in itertools.combinations([n for n in SHAPES if found[n] < 1], 2):
        assert found[one] / found[other] == pytest.approx(raw[one] / raw[other])


def test_a_full_density_keeps_all() -> None:
    assert erk_densities(SHAPES, 1.0) == pytest.approx(dict.fromkeys(SHAPES, 1.0))
    assert uniform_densities(SHAPES, 0.3) == dict.fromkeys(SHAPES, 0.3)
