"""Where inherited weights do not compute what a mask does, and what they compute instead.

The cases are those of the second table in docs/methods.md.

Every case has its counterpart: under the condition that the page names, nothing is lost.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from exactness import Recorded, Row, distance, oracle, recorded, small
from methods_networks import RECIPE, digits, silence
from torch import Tensor, nn
from torch.nn import functional

from prunenas.architecture import Space, trace
from prunenas.cache import Cache
from prunenas.methods import Inheritance
from prunenas.methods.soft_filter_pruning import filter_lengths

SHAPE = (1, 8, 8)


def sigmoid() -> nn.Module:
    """A squashing function that answers 0.5 to 0."""
    first = (nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.Sigmoid())
    second = (nn.Conv2d(12, 10, 3, padding=1), nn.BatchNorm2d(10), nn.ReLU())
    return nn.Sequential(*first, *second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 10))


def group_normed() -> nn.Module:
    """Statistics over four channels at a time."""
    first = (nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU())
    second = (nn.Conv2d(16, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU())
    return nn.Sequential(*first, *second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


def unpadded() -> nn.Module:
    """Every output of a convolution sees as much of its input as any other."""
    first = (nn.Conv2d(1, 12, 3), nn.BatchNorm2d(12), nn.ReLU())
    second = (nn.Conv2d(12, 10, 3, bias=False), nn.BatchNorm2d(10), nn.ReLU())
    return nn.Sequential(*first, *second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 10))


def made(constructor: str, folder: Path) -> Recorded:
    space = trace(f"test_methods_inexact:{constructor}", arguments={}, input_shape=SHAPE)
    return Recorded(space, digits(), RECIPE, Cache(folder))


def halved(source: Recorded, method: str) -> tuple[nn.Module, nn.Module, Inheritance]:
    """The pruned network, the masked dense one, and what is left."""
    row = Row(method, share=0.6)
    derived = row.derive(source)
    assert derived.inherit is not None
    inherited = derived.inherit()
    assert any(len(inherited.kept[g.name]) < g.width for g in source.space.groups)
    return small(derived, inherited.weights), oracle(row, source, derived, inherited), inherited


@pytest.mark.parametrize("method", ["l1_norm", "taylor"])
def test_a_function_that_answers_zero_with_something_else(method: str, tmp_path: Path) -> None:
    source = made("sigmoid", tmp_path)
    pruned, masked, inherited = halved(source, method)
    assert distance(pruned, masked, SHAPE, torch.float64) > 1e-3
    # Held at zero where it is read instead, the channel is gone.
    whole = source.network()
    whole.load_state_dict(source.states[-1])
    unread(source.space, whole, inherited)
    assert distance(pruned, whole, SHAPE, torch.float64) <= 1e-9


def unread(space: Space, network: nn.Module, inherited: Inheritance) -> None:
    """Zero the weights that read channels which aren't kept."""
    for group in space.groups:
        gone = torch.ones(group.width, dtype=torch.bool)
        gone[inherited.kept[group.name]] = False
        for part in space.consumers(group.name):
            columns = part.start + gone.repeat_interleave(part.repeat).nonzero().flatten()
            with torch.no_grad():
                network.get_submodule(part.layer).get_parameter("weight")[:, columns] = 0.0


@pytest.mark.parametrize("method", ["l1_norm", "group_norm", "thinet"])
def test_a_normalisation_over_channels_sees_only_those_left(method: str, tmp_path: Path) -> None:
    source = made("group_normed", tmp_path)
    pruned, masked, inherited = halved(source, method)
    assert distance(pruned, masked, SHAPE, torch.float64) > 1e-3
    # A mask whose statistics leave out what is masked is what the pruned network computes.
    for group in source.space.groups:
        for part in source.space.norms(group.name):
            norm = masked.get_submodule(part.layer)
            assert isinstance(norm, nn.GroupNorm)
            norm.register_forward_hook(_over(inherited.kept[group.name]))
    assert distance(pruned, masked, SHAPE, torch.float64) <= 1e-9


def _over(kept: Tensor) -> Callable[[nn.GroupNorm, tuple[Tensor], Tensor], Tensor]:
    def hook(norm: nn.GroupNorm, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        parts = norm.weight[kept], norm.bias[kept]
        own = functional.group_norm(inputs[0][:, kept], norm.num_groups, *parts, norm.eps)
        return torch.zeros_like(output).index_copy(1, kept, own)

    return hook


@pytest.mark.parametrize("network", ["VGG", "ResNet-20 B", "DenseNet"])
def test_constants_of_soft_filters_differ_at_padded_borders(network: str, tmp_path: Path) -> None:
    source = recorded(network, tmp_path)
    pruned, _, inherited = halved(source, "soft_filter_pruning")
    zeroed = the_zeroed(source, inherited)
    assert distance(pruned, zeroed, source.space.input_shape, torch.float64) > 1e-3


def test_constants_of_soft_filters_go_into_layers_that_do_not_pad(tmp_path: Path) -> None:
    source = made("unpadded", tmp_path)
    pruned, _, inherited = halved(source, "soft_filter_pruning")
    # The constants were measured in single precision.
    assert distance(pruned, the_zeroed(source, inherited), SHAPE, torch.float64) <= 1e-5


def the_zeroed(source: Recorded, inherited: Inheritance) -> nn.Module:
    """The very network whose accuracy chose the epoch."""
    zeroed = source.network()
    zeroed.load_state_dict(source.states[-1])
    for group in source.space.groups:
        gone = filter_lengths(source.space, group, zeroed) == 0
        assert int(gone.sum()) == group.width - len(inherited.kept[group.name])
    return zeroed


def test_a_dropped_branch_takes_its_constant_along(tmp_path: Path) -> None:
    source = recorded("ResNet-20 B", tmp_path)
    derived = Row("network_slimming", {"empty": "drop"}, 0.17).derive(source)
    assert derived.inherit is not None
    inherited = derived.inherit()
    inside = {group.name for group in source.space.groups} - set(inherited.kept)
    assert inside
    masked = source.network()
    masked.load_state_dict(source.states[-1])
    gone = dict.fromkeys(inside, torch.tensor([], dtype=torch.int64))
    silence(source.space, masked, {**inherited.kept, **gone})
    pruned = small(derived, inherited.weights)
    assert distance(pruned, masked, SHAPE, torch.float64) > 1e-6
    # With the shifts of what ends the branch at zero there is no constant.
    for block in source.space.blocks:
        if block.name in derived.architecture.removed:
            end = masked.get_submodule(block.modules[-1])
            assert isinstance(end, nn.BatchNorm2d)
            end.register_forward_hook(_without_shift)
    assert distance(pruned, masked, SHAPE, torch.float64) <= 1e-9


def _without_shift(norm: nn.BatchNorm2d, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    assert norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return inputs[0] * scale[:, None, None]
