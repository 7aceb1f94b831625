"""Sparse structure selection: its update in numpy, and what is taken out against what is zero."""

from pathlib import Path

import numpy as np
import pytest
import torch
from methods_networks import RECIPE, dense, space
from torch import nn

from prunenas.architecture import build
from prunenas.errors import BudgetError, MethodError
from prunenas.methods import Dense
from prunenas.methods._factors import (
    Factors,
    block_structures,
    channel_structures,
    fold,
    path_structures,
    put_on,
    read,
    without_factors,
)
from prunenas.methods.sparse_structure import SparseStructure

FIND = {"blocks": block_structures, "groups": path_structures, "channels": channel_structures}
STILL = RECIPE.model_copy(update={"lr": 1e-12})
HARSH = RECIPE.model_copy(update={"lr": 0.1, "epochs": 2, "schedule": "constant"})


def test_three_steps_equal_the_papers_formula_in_numpy() -> None:
    # Gradients that shrink one factor past 0, leave one alone and let one grow.
    gradients = np.array([[3.0, 0.0, -1.0], [4.0, 0.2, -0.5], [5.0, -0.1, 0.3]])
    lr, sparsity, momentum = 0.1, 0.5, 0.9
    value, velocity = np.ones(3), np.zeros(3)
    factors = Factors(3)
    for gradient in gradients:
        z = value - lr * gradient
        z = np.sign(z) * np.maximum(np.abs(z) - lr * sparsity, 0)
        velocity = z - value + momentum * velocity
        value = np.maximum(z + momentum * velocity, 0)
        factors.value.grad = torch.tensor(gradient, dtype=torch.float32)
        factors.step(lr, sparsity, momentum)
        assert factors.value.grad is None  # the optimiser has nothing left to do
        assert factors.value.detach().numpy() == pytest.approx(value, abs=1e-6)
        assert factors.velocity.numpy() == pytest.approx(velocity, abs=1e-6)
    # By hand, the second factor's first step: z = 0.95, v = -0.05, f = 0.905.
    assert value[0] == 0.0


def test_the_first_step_by_hand() -> None:
    factors = Factors(1)
    factors.value.grad = torch.zeros(1)
    factors.step(0.1, 0.5, 0.9)
    assert factors.value.item() == pytest.approx(0.905)
    assert factors.velocity.item() == pytest.approx(-0.05)


def test_a_gradient_that_is_not_finite_is_no_step() -> None:
    factors = Factors(2)
    factors.value.grad = torch.tensor([1.0, float("inf")])
    factors.step(0.1, 0.5, 0.9)
    assert factors.value.tolist() == [1.0, 1.0]
    assert factors.velocity.tolist() == [0.0, 0.0]


def test_every_block_of_a_residual_network_has_a_factor() -> None:
    here = space("resnet20_b")
    found = block_structures(here, build(here.dense))
    assert [structure.name for structure in found] == [block.name for block in here.blocks]
    assert [site.layer for structure in found for site in structure.sites] == [
        f"{block.name}.bn2" for block in here.blocks
    ]


def test_channels_have_a_factor_behind_the_normalisation_that_follows() -> None:
    here = space("resnet20_b")
    found = {s.name: s for s in channel_structures(here, build(here.dense))}
    stream = [site.layer for site in found["conv1"].sites]
    assert stream == ["bn1", "stage1.0.bn2", "stage1.1.bn2", "stage1.2.bn2"]
    assert set(found) == {group.name for group in here.groups}


def test_channels_that_are_normalised_again_have_their_factors_there_too() -> None:
    here = space("concatenated")
    found = {s.name: s for s in channel_structures(here, build(here.dense, trust=True))}
    layers = {name: [site.layer for site in s.sites] for name, s in found.items()}
    # The first unit's output is read raw by `second` and, beside its channels, by `norm`.
    assert layers == {
        "first.0": ["first.1", "norm"],
        "second": ["second", "norm"],
        "third.0": ["third.1"],
    }


def test_a_layer_without_normalisation_has_its_factors_itself() -> None:
    here = space("half_normed")
    network = build(here.dense, trust=True)
    found = channel_structures(here, network)
    layers = [site.layer for structure in found for site in structure.sites]
    assert layers == ["0.1", "1", "3.1"]


@pytest.mark.parametrize(
    ("network", "kind"),
    [
        ("resnet20", "blocks"),
        ("resnet20_b", "channels"),
        ("grouped", "channels"),
        ("concatenated", "channels"),
        ("grouped", "groups"),
    ],
)
def test_folded_factors_compute_what_factors_do(network: str, kind: str) -> None:
    here = space(network)
    whole, folded = (build(here.dense, seed=2, trust=True).eval() for _ in range(2))
    found = FIND[kind](here, whole)
    put_on(whole, found)
    factors = whole.get_submodule("structure_factors")
    with torch.no_grad():
        factors.get_parameter("value").uniform_(0.2, 1.5)
    fold(folded, found, read(whole.state_dict(), found))
    assert without_factors(whole.state_dict()).keys() == folded.state_dict().keys()
    images = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(folded(images), whole(images), rtol=1e-5, atol=1e-5)


def trained_with_factors(source: Dense, method: SparseStructure) -> nn.Module:
    """The very network that was trained, factors and all."""
    found = FIND[method.structures](source.space, source.network())
    trained = source.train(
        prepare=lambda network: pytest.fail("it was trained before"),
        key={
            "method": "sparse_structure",
            "sparsity": method.sparsity,
            "kind": method.structures,
            "structures": [structure.name for structure in found],
        },
    )
    network = source.network()
    put_on(network, found)
    network.load_state_dict(trained.state)
    return network.eval()


@pytest.mark.parametrize("network", ["resnet20", "resnet20_b"])
def test_blocks_at_zero_are_gone_and_nothing_changes(network: str, tmp_path: Path) -> None:
    source = dense(network, tmp_path, recipe=HARSH)
    method = SparseStructure(structures="blocks", sparsity=0.3)
    derived = method.derive(source)
    whole = trained_with_factors(source, method)
    values = whole.state_dict()["structure_factors.value"]
    gone = [b.name for b, value in zip(source.space.blocks, values, strict=True) if value == 0]
    assert 0 < len(gone) < len(source.space.blocks)
    assert derived.notes["factors_at_zero"] == len(gone)
    assert set(derived.architecture.removed) == set(gone)
    small = build(derived.architecture, trust=True)
    weights = derived.weights()
    assert weights is not None
    small.load_state_dict(weights)
    images = torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(small.eval()(images), whole(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("network", "sparsity"), [("vgg_mini", 0.3), ("resnet20_b", 0.3)])
def test_channels_at_zero_are_gone_and_nothing_changes(
    network: str, sparsity: float, tmp_path: Path
) -> None:
    source = dense(network, tmp_path, recipe=HARSH)
    method = SparseStructure(structures="channels", sparsity=sparsity)
    derived = method.derive(source)
    whole = trained_with_factors(source, method)
    assert derived.notes["factors_at_zero"] > 0
    assert derived.architecture.widths != source.space.dense.widths
    small = build(derived.architecture, trust=True)
    weights = derived.weights()
    assert weights is not None
    small.load_state_dict(weights)
    images = torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(small.eval()(images), whole(images), rtol=1e-5, atol=1e-5)


def test_a_budget_takes_the_blocks_of_smallest_factor(tmp_path: Path) -> None:
    source = dense("resnet20_b", tmp_path)
    method = SparseStructure(structures="blocks")
    method.derive(source)
    values = trained_with_factors(source, method).state_dict()["structure_factors.value"]
    names = [block.name for block in source.space.blocks]
    order = [names[index] for index in np.argsort(values.numpy(), kind="stable")]
    for count in range(len(names) + 1):
        rest = source.space.without(order[:count]).dense
        derived = method.derive(source, flops=rest.flops)
        assert derived.architecture == rest
    with pytest.raises(BudgetError, match=f"{rest.flops:,}"):
        method.derive(source, flops=rest.flops - 1)


def test_groups_at_zero_are_gone_and_nothing_changes(tmp_path: Path) -> None:
    source = dense("grouped", tmp_path, recipe=HARSH)
    method = SparseStructure(structures="groups", sparsity=0.3)
    derived = method.derive(source)
    whole = trained_with_factors(source, method)
    values = whole.state_dict()["structure_factors.value"]
    left = max(1, int((values > 0).sum()))
    assert left < 4
    small = build(derived.architecture, trust=True)
    convolution = small.get_submodule("1.0")
    assert isinstance(convolution, nn.Conv2d)
    assert (convolution.in_channels, convolution.out_channels) == (2 * left, 4 * left)
    assert convolution.groups == left
    weights = derived.weights()
    assert weights is not None
    small.load_state_dict(weights)
    images = torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(small.eval()(images), whole(images), rtol=1e-5, atol=1e-5)


def test_blocks_of_a_plain_network_are_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="vgg_mini"):
        SparseStructure(structures="blocks").derive(dense("vgg_mini", tmp_path))
    assert not list(tmp_path.rglob("*.safetensors"))
