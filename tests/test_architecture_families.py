"""Channel groups, FLOPs and building on torchvision's CNN families, against three oracles.

fvcore counts the rebuilt networks; autograd runs them; Torch-Pruning finds the groups and cuts the
weights in its own way.
"""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, family_arguments
from torch import nn

from prunenas.architecture import Space, build, count_flops, trace
from prunenas.errors import BudgetError


@cache
def space_of(name: str) -> Space:
    side = FAMILIES[name]
    return trace(
        f"torchvision/{name}", arguments=family_arguments(name), input_shape=(3, side, side)
    )


def random_widths(space: Space, seed: int) -> dict[str, int]:
    generator = np.random.default_rng(seed)
    return {
        group.name: int(generator.integers(1, group.width // group.divisor + 1)) * group.divisor
        for group in space.groups
    }


LARGE = ("densenet", "efficientnet", "inception", "mnasnet", "regnet_y", "wide_resnet")
"""Beginnings of the names of networks that take seconds to trace and have smaller ones' layers."""


def families(*left_out: str) -> list[Any]:
    """The networks, the large ones marked slow."""
    return [
        pytest.param(name, marks=pytest.mark.slow if name.startswith(LARGE) else ())
        for name in FAMILIES
        if name not in left_out
    ]


SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]


@pytest.mark.parametrize("name", families())
@pytest.mark.parametrize("seed", SEEDS)
def test_closed_forms_equal_fvcore_and_autograd_runs(name: str, seed: int) -> None:
    space = space_of(name)
    widths = random_widths(space, seed)
    architecture = space.architecture(widths=widths)
    network = build(architecture, seed=seed)
    assert count_flops(network, space.input_shape) == architecture.flops == space.flops(widths)
    assert sum(p.numel() for p in network.parameters()) == architecture.params
    output = network.train()(torch.randn(2, *space.input_shape))
    output.sum().backward()
    assert output.shape == (2, 10)
    for layer in architecture.layers:
        if layer.name is not None and layer.kind != "norm":
            weight = network.get_parameter(f"{layer.name}.weight")
            assert weight.grad is not None, layer.name
            assert weight.shape[:2] == _shape(layer.kind, layer.sizes)


def _shape(kind: str, sizes: tuple[int, ...]) -> tuple[int, int]:
    return (sizes[1], sizes[0] // (sizes[2] if kind == "conv" else 1))


@pytest.mark.parametrize("name", families())
@pytest.mark.parametrize("share", [0.7, 0.5, 0.3])
def test_fit_meets_budgets_from_below(name: str, share: float) -> None:
    space = space_of(name)
    least = space.flops({group.name: group.divisor for group in space.groups})
    if least > share * space.dense.flops:  # most channels are frozen: says the nearest
        with pytest.raises(BudgetError, match=f"the narrowest network has {least:,}"):
            space.fit(flops_ratio=share)
        return
    architecture = space.fit(flops_ratio=share)
    assert 0.995 * share <= architecture.flops / space.dense.flops <= share
    assert architecture.flops == space.flops(architecture.widths)


@pytest.mark.parametrize("name", families("shufflenet_v2_x1_0"))  # Torch-Pruning crashes on it
def test_groups_and_cut_weights_equal_torch_prunings(name: str) -> None:
    tp = pytest.importorskip("torch_pruning")
    space = space_of(name)
    network = build(space.dense, seed=0).eval()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    example = torch.randn(1, *space.input_shape)
    # It would warn of layer scales, shape (C, 1, 1), and take the same axis.
    scales = [(p, 0) for name, p in network.named_parameters() if name.endswith("layer_scale")]
    graph = tp.DependencyGraph().build_dependency(network, example, unwrapped_parameters=scales)
    names = {module: name for name, module in network.named_modules()}
    theirs = {
        frozenset(
            names[dependency.target.module]
            for dependency, _ in group
            if dependency.handler.__name__ in ("prune_out_channels", "prune_depthwise_conv")
            or "out" in dependency.handler.__name__
            if isinstance(dependency.target.module, (nn.Conv2d, nn.Linear))
        )
        for group in graph.get_all_groups(ignored_layers=[])
    }
    head = frozenset(space.frozen[-1].layers)
    assert {frozenset(group.layers) for group in space.groups} == theirs - {head}

    generator = torch.Generator().manual_seed(1)
    kept = {}
    for group in space.groups:
        block = group.width // group.divisor
        stay = int(torch.randint(1, block + 1, (), generator=generator))
        within = torch.randperm(block, generator=generator)[:stay].sort().values
        # The same positions in each block: what Torch-Pruning can be told for grouped convolutions.
        kept[group.name] = torch.cat([within + block * b for b in range(group.divisor)])
        gone = sorted(set(range(group.width)) - set(kept[group.name].tolist()))
        if gone:
            first = network.get_submodule(group.layers[0])
            graph.get_pruning_group(
                first,
                tp.prune_conv_out_channels
                if isinstance(first, nn.Conv2d)
                else tp.prune_linear_out_channels,
                idxs=gone,
            ).prune()
    widths = {group: len(indices) for group, indices in kept.items()}
    ours = space.inherit(state, kept)
    theirs_state = network.state_dict()
    built = build(space.architecture(widths=widths), seed=0).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in built.items()}
    for key, value in theirs_state.items():
        torch.testing.assert_close(ours[key], value, rtol=0, atol=0, msg=key)
