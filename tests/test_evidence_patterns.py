"""Patterns by hand, and guided networks that meet their budget and have one share a stage."""

import pytest

from prunenas.architecture import Architecture, Space, trace
from prunenas.evidence.patterns import guided, matched_shares, pattern

VGG = trace("vgg_mini", input_shape=(1, 28, 28))  # widths 16, 32, 64, 64 in stages 0, 1, 2, 2
RESNET = trace("resnet20", arguments={"in_channels": 1}, input_shape=(1, 28, 28))


def architecture(*widths: int) -> Architecture:
    names = [group.name for group in VGG.groups]
    return VGG.architecture(widths=dict(zip(names, widths, strict=True)))


def test_means_over_networks_and_groups_by_hand() -> None:
    found = pattern(VGG, [architecture(16, 16, 32, 16), architecture(8, 8, 32, 48)])
    assert list(found.parts.values()) == [0.75, 0.375, 0.5, 0.5]
    assert dict(found.stages) == {0: 0.75, 1: 0.375, 2: 0.5}
    # of 0.5, 0.5, 0.25, 0.75 about 0.5
    assert found.spreads[2] == pytest.approx((2 * 0.25**2 / 4) ** 0.5)
    assert found.n == 2
    mean = (0.75 + 0.375 + 0.5) / 3
    variance = sum((share - mean) ** 2 for share in (0.75, 0.375, 0.5)) / 3
    assert found.spread == pytest.approx(variance**0.5 / mean)


def test_equal_shares_have_no_spread() -> None:
    assert pattern(VGG, [architecture(8, 16, 32, 32)]).spread == 0.0
    with pytest.raises(ValueError, match="at least"):
        pattern(VGG, [])


@pytest.mark.parametrize("space", [VGG, RESNET], ids=["guided", "transferred"])
@pytest.mark.parametrize("share", [0.5, 0.25])
def test_a_guided_network_meets_its_budget(space: Space, share: float) -> None:
    budget = int(share * space.dense_flops)
    found = guided(space, {0: 0.9, 1: 0.6, 2: 0.2}, flops=budget)
    assert 0.97 * budget <= found.flops <= budget
    kept: dict[int, list[float]] = {}
    for group in space.groups:
        kept.setdefault(group.stage, []).append(found.widths[group.name] / group.width)
    means = [sum(shares) / len(shares) for _, shares in sorted(kept.items())]
    assert means[0] >= means[1] > means[2]  # none keeps more than all


def test_stages_are_matched_by_their_place() -> None:
    assert matched_shares({0: 0.9, 2: 0.5, 5: 0.1}, [0, 1, 2]) == {0: 0.9, 1: 0.5, 2: 0.1}
    assert matched_shares({0: 0.9, 1: 0.1}, [0, 1, 2, 3]) == {0: 0.9, 1: 0.9, 2: 0.1, 3: 0.1}
    assert matched_shares({0: 0.9, 1: 0.1}, [3]) == {3: 0.9}
