"""Networks that once gave wrong figures, wrong groups or crashes; expectations by hand."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import nn

from prunenas.architecture import Space, build, count_flops, trace
from prunenas.errors import TraceError

INPUT = (3, 8, 8)
STEM, HEAD = 64 * 27 * 16, 160  # multiply-adds of the stem, and of the head on 16 channels


def space_of(name: str) -> Space:
    return trace(f"architecture_networks:{name}", input_shape=INPUT)


def groups_of(space: Space) -> dict[str, tuple[int, int, tuple[str, ...]]]:
    return {g.name: (g.width, g.divisor, g.layers) for g in space.groups}


def reasons_of(space: Space) -> dict[str, str]:
    return {group.name: group.reason for group in space.frozen}


def holds(space: Space) -> None:
    """At several widths, the narrowest among them: runs, counts, and takes inherited weights."""
    state = build(space.dense, seed=0, trust=True).state_dict()
    for seed in range(4):
        generator = np.random.default_rng(seed)
        widths, kept = {}, {}
        for group in space.groups:
            block = group.width // group.divisor
            stay = int(generator.integers(1, block + 1)) if seed else 1
            widths[group.name] = stay * group.divisor
            kept[group.name] = torch.cat(
                [
                    torch.tensor(np.sort(generator.permutation(block)[:stay])) + start * block
                    for start in range(group.divisor)
                ]
            )
        architecture = space.architecture(widths=widths)
        network = build(architecture, seed=0, trust=True)
        assert count_flops(network, INPUT) == architecture.flops
        assert sum(p.numel() for p in network.parameters()) == architecture.params
        network.load_state_dict(space.inherit(state, kept), strict=True)
        for train in (True, False):
            network.train(train)(torch.randn(2, *INPUT)).sum().backward()


ALONE: Mapping[str, Mapping[str, tuple[int, int, tuple[str, ...]]]] = {
    "GroupedConcatenation": {"stem": (16, 1, ("stem",)), "grouped": (24, 2, ("grouped",))},
    "GroupedPlaces": {
        "stem": (16, 1, ("stem",)),
        "a": (8, 2, ("a",)),
        "grouped": (24, 2, ("grouped",)),
    },
    "DepthwiseTransposed": {"stem": (16, 1, ("stem", "depthwise")), "a": (20, 1, ("a",))},
    "Moves": {"stem": (16, 1, ("stem",)), "b": (16, 1, ("b",))},
    "LargerOfTwo": {
        "stem": (16, 1, ("stem",)),
        "a": (12, 1, ("a", "b")),
        "c": (16, 1, ("c",)),
    },
    # 24 channels of `a` become 6 of 2x2 places: a group of 6.
    "Reshuffles": {
        "stem": (16, 1, ("stem",)),
        "a": (6, 1, ("a",)),
        "c": (12, 1, ("c",)),
        "d": (6, 1, ("d",)),
    },
    "Squeezes": {"stem": (16, 1, ("stem",)), "b": (16, 1, ("b",))},
    "LowRankTerm": {"b": (12, 1, ("b",))},
    "NormInsideConvolution": {
        "stem": (16, 1, ("stem",)),
        "a": (12, 1, ("a",)),
        "b": (16, 1, ("b",)),
    },
    "WeightNorm": {"stem": (16, 1, ("stem",)), "a": (12, 1, ("a",)), "b": (16, 1, ("b",))},
    "SpectralNorm": {"a": (12, 1, ("a",)), "b": (16, 1, ("b",))},
    "Gains": {"stem": (16, 1, ("stem",)), "a": (12, 1, ("a",)), "b": (16, 1, ("b",))},
    "TwoNames": {"stem": (16, 1, ("stem", "z")), "c": (16, 1, ("c",))},
    # Both modes' layers end in the head.
    "OtherLayersInTraining": {
        "stem": (16, 1, ("stem",)),
        "a": (12, 1, ("a",)),
        "b": (16, 1, ("b", "d")),
        "c": (12, 1, ("c",)),
    },
    "SamePadding": {"stem": (16, 1, ("stem",)), "a": (12, 1, ("a",)), "b": (16, 1, ("b",))},
    "Wrapped": {"stem": (16, 1, ("stem",)), "a": (12, 1, ("a",)), "b": (16, 1, ("b",))},
}


@pytest.mark.parametrize("name", ALONE)
def test_groups_figures_and_inherited_weights_hold(name: str) -> None:
    space = space_of(name)
    assert groups_of(space) == ALONE[name]
    assert all(group.reason for group in space.frozen)
    holds(space)


@pytest.mark.parametrize(
    ("name", "group", "reason"),
    [
        ("GroupedConcatenation", "a", "its 2 blocks span channels of several layers"),
        ("Moves", "a", "(flip) moves channels"),
        ("Squeezes", "a", "(squeeze) drops its channels' axis where one is left"),
        ("LowRankTerm", "a", "uses a weight that no layer made by the constructor holds"),
        ("SpectralNorm", "stem", "'a.parametrizations.weight.0._v' does not follow the sizes"),
    ],
)
def test_frozen_channels_say_why(name: str, group: str, reason: str) -> None:
    assert reason in reasons_of(space_of(name))[group]


def test_products_count_once_for_each_input_and_parameters_own_once_in_all() -> None:
    space = space_of("Products")
    by_hand = (
        STEM
        + 64 * 16 * 24  # query
        + 2 * (5 * 7 * 24)  # key and value, of five tokens
        + 2 * (64 * 5 * 24)  # attention: scores, then values
        + 2 * (64 * 24 * 24)  # einsum, baddbmm
        + 64 * 24  # by a vector
        + 3 * 64 * 24 * 24  # by a stack of three matrices
        + 24 * 24  # addmm
        + 24 * 10
    )
    assert space.dense.flops == by_hand
    holds(space)


def test_same_padding_counts_like_any_convolution() -> None:
    network = nn.Sequential(nn.Conv2d(4, 8, 3, padding="same"), nn.Conv2d(8, 6, 3, padding="same"))
    assert count_flops(network, (4, 5, 5)) == 25 * 9 * (4 * 8 + 8 * 6)


@pytest.mark.parametrize("need_weights", [True, False])
def test_attention_counts_alike_fused_or_written_out(need_weights: bool) -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(12, 3, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.attention(x, x, x, need_weights=need_weights)[0]

    projections, scores = 4 * (9 * 12 * 12), 2 * (9 * 9 * 12)
    assert count_flops(Attends(), (9, 12)) == projections + scores


def test_channels_whose_cost_is_no_closed_form_are_frozen_with_both_counts() -> None:
    space = space_of("CostsByWidth")
    assert set(groups_of(space)) == {"a", "b"}
    assert "fvcore counts" in reasons_of(space)["stem"]
    assert space.dense.flops == STEM + 2 * (64 * 16 * 12) + HEAD
    holds(space)


def test_double_precision_is_refused_in_one_line() -> None:
    with pytest.raises(TraceError) as caught:
        trace("architecture_networks:in_double_precision", input_shape=INPUT)
    assert "double" in str(caught.value)
    assert "\n" not in str(caught.value)
