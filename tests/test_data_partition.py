"""Stratified splits against counting by hand."""

import pytest
import torch

from prunenas.data._base import generator
from prunenas.data.partition import hold_out, limit, stratified
from prunenas.errors import DataError

UNEVEN = torch.tensor([0] * 50 + [1] * 30 + [2] * 17 + [5] * 3)


@pytest.mark.parametrize("count", [0, 1, 7, 10, 50, 99, 100])
def test_each_class_gets_its_share_to_within_one(count: int) -> None:
    labels = UNEVEN[torch.randperm(100, generator=generator("shuffle"))]
    picked, rest = stratified(labels, count, generator(0))
    assert len(picked) == count
    assert sorted(picked.tolist() + rest.tolist()) == list(range(100))
    for label, members in ((0, 50), (1, 30), (2, 17), (5, 3)):
        assert abs(int((labels[picked] == label).sum()) - members * count / 100) < 1


def test_largest_remainders_get_the_images_that_rounding_leaves() -> None:
    # 10 of 50/30/17/3: shares 5, 3, 1.7, 0.3: the one left over goes to the class with 0.7.
    picked, _ = stratified(UNEVEN, 10, generator(0))
    assert torch.bincount(UNEVEN[picked], minlength=6).tolist() == [5, 3, 2, 0, 0, 0]


def test_a_tie_is_broken_by_the_random_numbers() -> None:
    labels = torch.tensor([0, 1])
    winners = {int(labels[stratified(labels, 1, generator(seed))[0]]) for seed in range(20)}
    assert winners == {0, 1}


def test_a_split_depends_on_its_seed_alone() -> None:
    torch.manual_seed(0)
    first = hold_out(UNEVEN, 0.2, generator("split", 3))
    torch.manual_seed(1)
    again = hold_out(UNEVEN, 0.2, generator("split", 3))
    other = hold_out(UNEVEN, 0.2, generator("split", 4))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])
    assert (len(first[0]), len(first[1])) == (80, 20)


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_an_empty_part_is_refused(share: float) -> None:
    with pytest.raises(DataError, match="images on both sides"):
        hold_out(UNEVEN, share, generator(0))


def test_nothing_is_held_out_where_nothing_is_asked_for() -> None:
    train, validation = hold_out(UNEVEN, 0.0, generator(0))
    assert train.tolist() == list(range(100))
    assert len(validation) == 0


def test_a_limit_is_stratified_and_stays_inside() -> None:
    indices = torch.arange(0, 100, 2)
    kept = limit(indices, UNEVEN, 10, generator(0))
    assert set(kept.tolist()) <= set(indices.tolist())
    assert torch.bincount(UNEVEN[kept]).tolist()[:2] == [5, 3]
    assert torch.equal(limit(indices, UNEVEN, None, generator(0)), indices)
    assert torch.equal(limit(indices, UNEVEN, 50, generator(0)), indices)


def test_random_numbers_leave_torchs_global_ones_alone() -> None:
    state = torch.get_rng_state()
    torch.rand(3, generator=generator("a", 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert generator("a", 1).initial_seed() != generator("a", 2).initial_seed()
