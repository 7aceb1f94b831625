"""Residual branches taken out: what can go, what is left, and that it computes the same."""

import pytest
import torch
from torch import nn

import prunenas
from prunenas.architecture import Architecture, build, count_flops, trace
from prunenas.errors import BudgetError, SourceError, WidthError

SIZES = {
    "resnet20": (3, 32, 32),
    "torchvision/resnet18": (3, 64, 64),
    "torchvision/resnet50": (3, 64, 64),
    "torchvision/mobilenet_v2": (3, 64, 64),
    "torchvision/regnet_y_400mf": (3, 64, 64),
}

# Additions in the networks' own code, counted by hand: blocks of ResNets and RegNets; inverted
# residuals of MobileNetV2 with stride 1 and equal channels (its table 2: 1+2+3+2+2).
BRANCHES = {
    "resnet20": 9,
    "torchvision/resnet18": 8,
    "torchvision/resnet50": 16,
    "torchvision/mobilenet_v2": 10,
    "torchvision/regnet_y_400mf": 16,
}


@pytest.fixture(scope="module", params=SIZES)
def space(request: pytest.FixtureRequest) -> prunenas.architecture.Space:
    return trace(request.param, input_shape=SIZES[request.param])


def test_every_residual_block_is_found(space: prunenas.architecture.Space) -> None:
    assert len(space.blocks) == BRANCHES[space.source]
    assert sum(space.layer_flops().values()) == space.dense.flops


def test_a_network_without_branches_is_the_network_whose_branches_are_zero(
    space: prunenas.architecture.Space,
) -> None:
    gone = space.blocks[::2]
    rest = space.without([block.name for block in gone])
    network = build(space.dense, seed=0).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    smaller = build(rest.dense).eval()
    smaller.load_state_dict(rest.inherit(network.state_dict(), {}))
    for block in gone:
        network.get_submodule(block.modules[-1]).register_forward_hook(lambda m, i, out: out * 0)
    images = torch.randn(2, *space.input_shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(smaller(images), network(images), rtol=0, atol=0)


def test_counts_agree_with_fvcore_and_torch(space: prunenas.architecture.Space) -> None:
    rest = space.without([block.name for block in space.blocks[1::2]])
    architecture = rest.architecture(0.6)
    network = build(architecture, seed=0)
    assert count_flops(network, space.input_shape) == architecture.flops
    assert sum(p.numel() for p in network.parameters()) == architecture.params
    network(torch.randn(2, *space.input_shape)).sum().backward()


def test_what_a_branch_costs_is_what_goes_with_it(space: prunenas.architecture.Space) -> None:
    block = space.blocks[0]
    network = build(space.without([block.name]).dense)
    assert count_flops(network, space.input_shape) == space.dense.flops - block.flops


def test_a_transition_keeps_its_projection() -> None:
    space = trace("torchvision/resnet18", input_shape=(3, 64, 64))
    network = build(space.without(["layer2.0"]).dense)
    names = {name for name, _ in network.named_parameters() if name.startswith("layer2.0.")}
    assert names == {f"layer2.0.downsample.{name}" for name in ("0.weight", "1.weight", "1.bias")}


def test_without_removes_the_groups_that_lived_in_the_branch() -> None:
    space = trace("resnet20", input_shape=(3, 32, 32))
    rest = space.without(["stage1.0", "stage3.2"])
    gone = {group.name for group in space.groups} - {group.name for group in rest.groups}
    assert gone == {"stage1.0.conv1", "stage3.2.conv1"}
    assert gone.isdisjoint(rest.dense.widths)
    assert all("stage1.0" not in layer for group in rest.groups for layer in group.layers)
    twice = space.without(["stage1.0"]).without(["stage3.2"])
    assert twice.dense == rest.dense


def test_removal_survives_a_round_trip() -> None:
    space = trace("resnet20", input_shape=(3, 32, 32))
    architecture = space.without(["stage2.1"]).fit(flops_ratio=0.5)
    assert architecture.flops <= 0.5 * space.dense.flops
    again = Architecture.from_dict(architecture.to_dict())
    assert again == architecture
    assert again.removed == {
        "stage2.1": tuple(f"stage2.1.{name}" for name in ("conv1", "bn1", "conv2", "bn2"))
    }
    first, second = build(architecture, seed=3), build(again, seed=3)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(first(images), second(images))


def test_a_ratio_is_a_share_of_the_whole_network() -> None:
    space = trace("resnet20", input_shape=(3, 32, 32))
    rest = space.without([block.name for block in space.blocks[:5]])
    assert rest.dense_flops == space.dense.flops > rest.dense.flops
    with pytest.raises(BudgetError, match="narrowest"):
        rest.fit(flops_ratio=1e-4)


def test_a_branch_that_is_none_is_refused() -> None:
    space = trace("resnet20", input_shape=(3, 32, 32))
    with pytest.raises(WidthError, match=r"unknown removable branch .*'stage1.7'.*stage1\.0"):
        space.without(["stage1.7"])
    plain = space.without(["stage1.0"]).dense.to_dict()
    plain["removed"] = {"stage1.0": ["stage1.0.convolution"]}
    with pytest.raises(SourceError, match=r"no 'stage1\.0\.convolution'"):
        build(Architecture.from_dict(plain))


class Unsure(nn.Module):
    """Two sides of equal weight: neither is the shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = (nn.Conv2d(n, 8, 3, padding=1) for n in (3, 8, 8))
        self.head = nn.Linear(8, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        stream = self.stem(images)
        return self.head((self.left(stream) + self.right(stream)).mean((2, 3)))


class Leaking(nn.Module):
    """A block whose inner maps are read again outside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.outer = (nn.Conv2d(n, 8, 3, padding=1) for n in (3, 8, 8))
        self.head = nn.Linear(8, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        stream = self.stem(images)
        inside = self.inner(stream)
        return self.head((stream + self.outer(inside) + inside.relu()).mean((2, 3)))


@pytest.mark.parametrize("network", [Unsure, Leaking])
def test_what_is_no_branch_is_not_offered(network: type[nn.Module]) -> None:
    space = trace(f"test_architecture_branches:{network.__name__}", input_shape=(3, 8, 8))
    assert space.blocks == ()
