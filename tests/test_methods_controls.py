"""The two controls: uniform and random widths."""

from pathlib import Path

import pytest
from methods_networks import dense
from pydantic import ValidationError

from prunenas.methods.random import Random
from prunenas.methods.uniform import Uniform


def test_uniform_keeps_one_share_of_every_group(tmp_path: Path) -> None:
    source = dense("vgg_mini", tmp_path)
    widths = Uniform(ratio=0.25).derive(source).architecture.widths
    assert list(widths.values()) == [4, 8, 16, 16]
    assert Uniform(ratio=0.25).derive(source).notes["channels_kept"] == 44 / 176


def test_a_budget_takes_the_place_of_uniforms_ratio(tmp_path: Path) -> None:
    source = dense("vgg_mini", tmp_path)
    budget = source.space.dense.flops // 2
    narrow, wide = (
        Uniform(ratio=ratio).derive(source, flops=budget).architecture for ratio in (0.1, 0.9)
    )
    assert narrow == wide


def test_random_draws_lie_between_low_and_high_and_are_spread(tmp_path: Path) -> None:
    source = dense("vgg_mini", tmp_path)
    method = Random(low=0.25, high=0.75)
    drawn = [
        ratio
        for seed in range(100)
        for ratio in method.derive(source, seed=seed).notes["drawn"].values()
    ]
    assert len(drawn) == 400
    assert min(drawn) >= 0.25
    assert max(drawn) <= 0.75
    # A uniform law of mean 0.5 and deviation 0.144: the mean of 400 lies within 4 of 0.0072.
    assert sum(drawn) / 400 == pytest.approx(0.5, abs=0.029)
    quarters = [
        sum(low <= ratio < low + 0.125 for ratio in drawn) for low in (0.25, 0.375, 0.5, 0.625)
    ]
    assert min(quarters) > 60


def test_random_widths_are_the_drawn_ratios(tmp_path: Path) -> None:
    source = dense("vgg_mini", tmp_path)
    derived = Random().derive(source, seed=5)
    for group in source.space.groups:
        ratio = derived.notes["drawn"][group.name]
        assert abs(derived.architecture.widths[group.name] - ratio * group.width) <= 1


def test_other_seeds_give_other_widths_of_the_same_cost(tmp_path: Path) -> None:
    source = dense("vgg_mini", tmp_path)
    budget = source.space.dense.flops // 3
    found = {Random().derive(source, flops=budget, seed=seed).architecture for seed in range(10)}
    assert len(found) == 10
    assert all(0.95 * budget < architecture.flops <= budget for architecture in found)


def test_random_refuses_low_above_high() -> None:
    with pytest.raises(ValidationError, match=r"low <= high must hold, but low=0\.6 "):
        Random(low=0.6, high=0.4)
