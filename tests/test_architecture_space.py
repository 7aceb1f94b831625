"""Spaces: widths, budgets against brute force, inheritance by hand, and the value itself."""

import itertools
import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunenas.architecture import Architecture, Space, build, trace
from prunenas.errors import BudgetError, ExportError, WidthError

INPUT = (1, 12, 12)


@pytest.fixture(scope="module")
def space() -> Space:
    return trace("vgg_mini", arguments={"input_size": 12}, input_shape=INPUT)


def test_ratios_round_to_the_nearest_channel_and_never_to_none(space: Space) -> None:
    name, width = space.groups[0].name, space.groups[0].width
    assert space.widths(1.0) == {group.name: group.width for group in space.groups}
    assert space.widths({name: 1e-6})[name] == 1
    assert space.widths({name: 0.5})[name] == width // 2
    assert space.widths({name: 2.5 / width})[name] == 3  # a half rounds up
    assert space.widths({name: 0.5})[space.groups[1].name] == space.groups[1].width


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.0001, float("nan")])
def test_a_ratio_outside_its_range_is_refused(space: Space, ratio: float) -> None:
    with pytest.raises(WidthError, match="0 < ratio <= 1 must hold"):
        space.widths(ratio)


def test_unknown_groups_and_widths_are_refused_by_name(space: Space) -> None:
    name, width = space.groups[0].name, space.groups[0].width
    with pytest.raises(WidthError, match="unknown channel group of vgg_mini 'nothing'"):
        space.architecture({"nothing": 0.5})
    with pytest.raises(WidthError, match=f"1 <= width <= {width} must hold"):
        space.architecture(widths={name: width + 1})
    with pytest.raises(WidthError, match="unknown channel group"):
        space.flops({"nothing": 1})


def test_flops_by_hand(space: Space) -> None:
    a, b, c, d = 5, 7, 3, 11
    names = [group.name for group in space.groups]
    widths = dict(zip(names, (a, b, c, d), strict=True))
    by_hand = 144 * 9 * a + 36 * 9 * a * b + 9 * 9 * (b * c + c * d) + 10 * d
    assert space.flops(widths) == by_hand


def brute_force(space: Space, budget: int) -> int:
    """The most FLOPs within the budget over all width vectors."""
    vectors = itertools.product(*(range(1, group.width + 1) for group in space.groups))
    names = [group.name for group in space.groups]
    found = (space.flops(dict(zip(names, vector, strict=True))) for vector in vectors)
    return max(flops for flops in found if flops <= budget)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.31, 0.22])
def test_fit_comes_near_the_best_of_all_width_vectors(share: float) -> None:
    small = trace(
        "architecture_networks:AddedToConcatenation", input_shape=(3, 4, 4)
    )  # 6 x 4 vectors
    budget = int(share * small.dense.flops)
    fitted = small.fit(flops=budget, tolerance=None)
    assert fitted.flops <= budget
    assert fitted.flops >= 0.93 * brute_force(small, budget)


@settings(deadline=None, max_examples=60)
@given(
    share=st.floats(0.05, 1.0),
    ratios=st.lists(st.floats(0.05, 1.0), min_size=4, max_size=4),
)
def test_fit_never_exceeds_and_keeps_the_proportions(
    space: Space, share: float, ratios: list[float]
) -> None:
    named = {group.name: ratio for group, ratio in zip(space.groups, ratios, strict=True)}
    fitted = space.fit(named, flops_ratio=share, tolerance=None)
    budget = int(share * space.dense.flops + 1e-6)  # a binary product may fall just below
    assert fitted.flops <= budget
    for group in space.groups:  # no channel more fits
        wider = {**fitted.widths, group.name: fitted.widths[group.name] + 1}
        assert wider[group.name] > group.width or space.flops(wider) > budget
    if not 0.2 <= share <= 0.9:
        return  # a handful of channels, or all but full: too coarse for more
    assert budget - fitted.flops <= 0.01 * budget
    # Scaled by one factor and cut at 1, up to the 8 single steps that may close the gap.
    dense = np.array([group.width for group in space.groups])
    widths = np.array([fitted.widths[group.name] for group in space.groups])
    factors = np.geomspace(0.05, 20, 2000)[:, None]
    scaled = np.clip(factors * np.array(ratios) * dense, 1, dense)
    assert np.abs(scaled - widths).max(axis=1).min() <= 8.5


def test_fixed_groups_keep_their_ratio(space: Space) -> None:
    first = space.groups[0]
    fitted = space.fit({first.name: 0.25}, flops_ratio=0.4, fixed=[first.name])
    assert fitted.widths[first.name] == first.width // 4


def test_a_budget_that_nothing_meets_says_the_least(space: Space) -> None:
    least = space.flops({group.name: 1 for group in space.groups})
    with pytest.raises(BudgetError, match=f"the narrowest network has {least:,}"):
        space.fit(flops=least - 1)
    assert space.fit(flops=least).flops == least
    with pytest.raises(BudgetError, match=r"0 < flops_ratio <= 1 must hold, but got 1\.5"):
        space.fit(flops_ratio=1.5)
    with pytest.raises(BudgetError, match="exactly one of"):
        space.fit(flops=5, flops_ratio=0.5)


def test_a_budget_between_two_coarse_widths_names_the_nearest_below() -> None:
    one = trace("architecture_networks:PaddedShortcut", input_shape=(3, 4, 4))
    steps = sorted(one.flops({"narrow": width}) for width in range(1, 9))
    between = (steps[3] + steps[4]) // 2
    with pytest.raises(BudgetError, match=f"the nearest have {steps[3]:,}"):
        one.fit(flops=between)
    assert one.fit(flops=between, tolerance=None).flops == steps[3]


def test_inherited_weights_by_hand() -> None:
    network_space = trace("architecture_networks:AddedToConcatenation", input_shape=(3, 4, 4))
    state = build(network_space.dense, seed=0, trust=True).state_dict()
    kept = {"a": torch.tensor([1, 4]), "b": torch.tensor([3])}
    cut = network_space.inherit(state, kept)
    both = torch.tensor([1, 4, 6 + 3])  # c is the sum's other side: a's six channels, then b's
    assert torch.equal(cut["a.weight"], state["a.weight"][[1, 4]])
    assert torch.equal(cut["c.weight"], state["c.weight"][both])
    assert torch.equal(cut["c.bias"], state["c.bias"][both])
    assert torch.equal(cut["head.weight"], state["head.weight"][:, both])
    assert torch.equal(cut["head.bias"], state["head.bias"])


def test_flattened_maps_keep_each_channels_positions() -> None:
    space = trace("lenet5", input_shape=(1, 28, 28))
    state = build(space.dense, seed=0).state_dict()
    linear = next(name for name in state if state[name].shape == (500, 800))
    group = space.groups[1]  # 50 channels of 4x4 maps
    cut = space.inherit(state, {group.name: torch.tensor([0, 49])})
    columns = [*range(16), *range(49 * 16, 50 * 16)]
    assert torch.equal(cut[linear], state[linear][:, columns])


@pytest.mark.parametrize("bad", [[], [3, 1], [1, 1], [99], [-1]])
def test_indices_that_are_none_are_refused(space: Space, bad: list[int]) -> None:
    state = build(space.dense, seed=0).state_dict()
    with pytest.raises(WidthError, match="sorted indices"):
        space.inherit(state, {space.groups[0].name: torch.tensor(bad, dtype=torch.int64)})


def test_blocks_of_a_grouped_convolution_keep_as_many() -> None:
    space = trace("torchvision/resnext50_32x4d", input_shape=(3, 32, 32))
    group = next(group for group in space.groups if group.divisor == 32)
    state = build(space.dense, seed=0).state_dict()
    with pytest.raises(WidthError, match="each of the 32 blocks"):
        space.inherit(state, {group.name: torch.arange(group.width // 2)})
    with pytest.raises(WidthError, match="a multiple of 32"):
        space.architecture(widths={group.name: 33})


def test_producers_and_norms_say_where_channels_lie(space: Space) -> None:
    group = space.groups[1]
    (producer,), (norm,) = space.producers(group.name), space.norms(group.name)
    assert (producer.layer, producer.start, producer.repeat) == (group.name, 0, 1)
    assert (norm.start, norm.repeat) == (0, 1)
    assert norm.layer != producer.layer


# --- the value ---------------------------------------------------------------------------------


def test_an_architecture_round_trips_and_is_a_value(space: Space) -> None:
    architecture = space.architecture(0.5)
    again = Architecture.from_dict(json.loads(json.dumps(architecture.to_dict())))
    assert again == architecture
    assert hash(again) == hash(architecture)
    assert pickle.loads(pickle.dumps(architecture)) == architecture
    assert {architecture: 1}[again] == 1
    assert space.architecture(0.25) != architecture
    with pytest.raises(TypeError):
        architecture.widths["new"] = 1
    with pytest.raises(AttributeError):
        architecture.flops = 0


def test_a_digest_is_the_same_for_ever() -> None:
    """Golden: stored studies and exports name architectures by it."""
    plain = {
        "source": "vgg_mini",
        "arguments": {"num_classes": 10},
        "input_shape": [1, 28, 28],
        "widths": {"conv": 3},
        "layers": [["conv", "conv", 1, 3, 1], [None, "norm", 3]],
        "flops": 5,
        "params": 7,
    }
    architecture = Architecture.from_dict(plain)
    # sha256 of the canonical JSON of everything but flops and params, by `sha256sum`.
    assert architecture.digest == "35476b075b81ca20"
    assert Architecture.from_dict({**plain, "flops": 6}) == architecture


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": {"a": -1}}, "widths must map group names to sizes"),
        ({"widths": {"a": 10**12}}, "widths must map group names to sizes"),
        ({"widths": [1]}, "widths must map"),
        ({"layers": [["a", "conv", 1, 2]]}, "a conv layer must have in_channels"),
        ({"layers": [["a", "convolution", 1, 2, 1]]}, "kind must be one of conv, linear, norm"),
        ({"layers": [["a"]]}, "a layer must be"),
        ({"layers": "abc"}, "layers must be a list"),
        ({"layers": [[3, "norm", 1]]}, "name must be a string or null"),
        ({"input_shape": []}, "input_shape must hold"),
        ({"input_shape": [1, True]}, "input_shape must hold"),
        ({"source": 3}, "source must be a string"),
        ({"arguments": [1]}, "arguments must be a mapping"),
        ({"flops": -1}, "flops must be an int >= 0"),
        ({"more": 1}, "unknown: more"),
    ],
)
def test_nonsense_is_refused_in_one_line(
    space: Space, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ExportError) as caught:
        Architecture.from_dict({**space.dense.to_dict(), **change})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ExportError, match="missing: flops"):
        Architecture.from_dict({k: v for k, v in space.dense.to_dict().items() if k != "flops"})
