"""Groups of grouped convolutions taken out: counts, weights and what the network computes."""

import pytest
import torch
from methods_networks import space
from resnext_networks import GROUPED, STEM, resnext, together
from torch import nn

from prunenas.architecture import Architecture, Space, build, count_flops, trace
from prunenas.architecture.paths import (
    grouped_paths,
    inherit_paths,
    kept_channels,
    without_paths,
)
from prunenas.errors import WidthError

GONE = {"1.0": [0, 2]}


def silence(network: nn.Module, here: Space, gone: dict[str, list[int]]) -> None:
    """Zero what the paths' convolutions make, behind the normalisations that follow."""
    outputs = {paths.layer: paths.outputs for paths in grouped_paths(here)}
    for layer in gone:
        kept = kept_channels(here, {layer: gone[layer]})[outputs[layer]]
        for part in here.norms(outputs[layer]):
            mask = torch.zeros(here.dense.widths[outputs[layer]])
            mask[kept] = 1
            shape = mask.reshape(-1, 1, 1)
            network.get_submodule(part.layer).register_forward_hook(
                lambda module, inputs, output, shape=shape: output * shape
            )


def test_paths_are_the_groups_of_grouped_convolutions() -> None:
    (paths,) = grouped_paths(space("grouped"))
    assert (paths.layer, paths.count, paths.inputs, paths.outputs) == ("1.0", 4, "0.0", "1.0")
    assert grouped_paths(space("vgg_mini")) == ()
    kept = kept_channels(space("grouped"), GONE)
    assert kept["0.0"].tolist() == [2, 3, 6, 7]
    assert kept["1.0"].tolist() == [4, 5, 6, 7, 12, 13, 14, 15]


def test_counts_are_those_of_the_network_that_is_built() -> None:
    architecture = without_paths(space("grouped"), GONE)
    network = build(architecture, trust=True)
    assert count_flops(network, (1, 8, 8)) == architecture.flops
    assert sum(p.numel() for p in network.parameters()) == architecture.params
    assert Architecture.from_dict(architecture.to_dict()) == architecture
    assert network.get_submodule("1.0").groups == 2
    assert without_paths(space("grouped"), {}) == space("grouped").dense


def test_the_rest_computes_what_the_network_does_with_silent_paths() -> None:
    here = space("grouped")
    whole = build(here.dense, seed=1, trust=True).eval()
    small = build(without_paths(here, GONE), trust=True).eval()
    small.load_state_dict(inherit_paths(here, whole.state_dict(), GONE))
    silence(whole, here, GONE)
    images = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(small(images), whole(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gone", [{"1.0": [0, 1, 2, 3]}, {"1.0": [4]}, {"0.0": [0]}, {"no": [1]}])
def test_what_is_no_path_or_leaves_none_is_refused(gone: dict[str, list[int]]) -> None:
    with pytest.raises(WidthError, match="must stay"):
        without_paths(space("grouped"), gone)


@pytest.mark.parametrize("before", [True, False], ids=["input", "output"])
@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("batch", True),
        ("instance", True),
        ("plain", False),
        ("group 1", False),
        ("group 2", False),
        ("group 4", False),
    ],
)
def test_channels_that_are_normalised_together_are_no_paths(
    kind: str, found: bool, before: bool
) -> None:
    here = together(kind, before=before)
    assert [paths.layer for paths in grouped_paths(here)] == (["grouped.0"] if found else [])
    if not found:
        with pytest.raises(WidthError, match="must stay"):
            without_paths(here, {"grouped.0": [0]})


def test_paths_and_branches_go_together() -> None:
    here = resnext().without(["blocks.1"])
    assert GROUPED[1] not in [paths.layer for paths in grouped_paths(here)]
    gone = {STEM: [1], GROUPED[2]: [0, 3]}
    architecture = without_paths(here, gone)
    assert list(architecture.removed) == ["blocks.1"]
    whole = build(resnext().dense, seed=4, trust=True)
    small = build(architecture, trust=True)
    assert count_flops(small, (1, 8, 8)) == architecture.flops
    assert sum(p.numel() for p in small.parameters()) == architecture.params
    small.load_state_dict(inherit_paths(here, whole.state_dict(), gone))
    kept = torch.tensor([2, 3, 4, 5])
    torch.testing.assert_close(
        small.state_dict()[f"{GROUPED[2]}.weight"], whole.state_dict()[f"{GROUPED[2]}.weight"][kept]
    )


@pytest.mark.slow
def test_paths_of_resnext() -> None:
    here = trace("torchvision/resnext50_32x4d", input_shape=(3, 64, 64))
    assert [paths.count for paths in grouped_paths(here)] == [32] * 16
    gone = {"layer1.0.conv2": list(range(0, 32, 3)), "layer4.2.conv2": [5]}
    architecture = without_paths(here, gone)
    whole, small = build(here.dense, seed=0).eval(), build(architecture).eval()
    assert count_flops(small, (3, 64, 64)) == architecture.flops
    assert sum(p.numel() for p in small.parameters()) == architecture.params
    small.load_state_dict(inherit_paths(here, whole.state_dict(), gone))
    silence(whole, here, gone)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(small(images), whole(images), rtol=1e-4, atol=1e-4)
