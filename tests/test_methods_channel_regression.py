"""Channel regression against scikit-learn's LASSO path, numpy's lstsq, and the dense network."""

from pathlib import Path

import numpy as np
import pytest
import torch
from methods_networks import NORMED, RECIPE, dense, masked
from sklearn.linear_model import lasso_path
from torch import Tensor, nn

from prunenas.architecture import ChannelGroup, Slice, Space, build
from prunenas.methods import METHODS, Dense
from prunenas.methods._base import Inheritance
from prunenas.methods._front_to_back import trained
from prunenas.methods._reading import Reader, See, readers, watched
from prunenas.methods._reconstruction import Target, targets
from prunenas.methods._sampling import Sample
from prunenas.methods._shortcuts import shortcuts
from prunenas.methods.channel_regression import choose, lasso
from prunenas.training import Recipe

ChannelRegression = METHODS["channel_regression"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def problem(rows: int, columns: int, seed: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    z = torch.randn(rows, columns, generator=random, dtype=torch.float64)
    z = z @ (torch.eye(columns) + 0.3 * torch.randn(columns, columns, generator=random)).double()
    return z, z.sum(dim=1) + 0.1 * torch.randn(rows, generator=random, dtype=torch.float64)


@pytest.mark.parametrize("width", [1, 3, 6, 9])
@pytest.mark.parametrize("seed", range(4))
def test_the_support_is_one_on_scikit_learns_path(width: int, seed: int) -> None:
    z, y = problem(200, 10, seed)
    beta = lasso(z.T @ z, z.T @ y, width)
    found = beta.nonzero().flatten().tolist()
    assert len(found) == width
    # Where beta is optimal, its penalty is what the kept channels share with what is left over.
    highest, penalty = (float((z.T @ rest).abs().max()) / len(y) for rest in (y, y - z @ beta))
    alphas = np.geomspace(highest, penalty, 50)
    _, betas, _ = lasso_path(z.numpy(), y.numpy(), alphas=alphas, tol=1e-6, max_iter=100_000)
    assert np.flatnonzero(betas[:, -1]).tolist() == found
    np.testing.assert_allclose(betas[:, -1], beta.numpy(), rtol=1e-2, atol=1e-2)


def test_each_block_is_left_with_as_many() -> None:
    z, y = problem(200, 12, 0)
    beta = lasso(z.T @ z, z.T @ y, 6, 3)
    assert ((beta != 0).reshape(3, 4).sum(dim=1) >= 2).all()


def test_channels_that_add_nothing_go_first() -> None:
    z, y = problem(200, 8, 1)
    z[:, [2, 5]] = 0.0
    beta = lasso(z.T @ z, z.T @ y, 8)
    assert (beta == 0).nonzero().flatten().tolist() == [2, 5]
    nothing = torch.zeros(4, 4, dtype=torch.float64)
    assert not lasso(nothing, nothing[0], 2).any()


def convolution(groups: int = 1) -> tuple[Reader, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.Conv2d(6, 4, 3, padding=1, groups=groups)
    random = torch.Generator().manual_seed(1)
    return Reader("conv", layer, (Slice("conv", 0, 1),), 6), torch.randn(
        8, 6, 5, 5, generator=random
    )


def filled(reader: Reader, inputs: Tensor, wanted: Tensor) -> Target:
    """The sums of all places of all images."""
    target = Target(reader, whole=True)
    with torch.no_grad():
        output = reader.layer(inputs)
        places = torch.arange(reader.places(output)).expand(len(inputs), -1)
        target.add(reader.columns(inputs, output, places), reader.at(wanted, places))
    return target


@pytest.mark.parametrize("groups", [1, 2])
def test_the_problem_of_the_channels_is_that_of_all_outputs_of_all_samples(groups: int) -> None:
    reader, inputs = convolution(groups)
    wanted = torch.randn(8, 4, 5, 5)
    gram, cross, squares = filled(reader, inputs, wanted).for_channels()
    with torch.no_grad():
        layer = reader.layer
        nothing = layer(torch.zeros_like(inputs))
        each = []
        for channel in range(6):
            alone = torch.zeros_like(inputs)
            alone[:, channel] = inputs[:, channel]
            each.append((layer(alone) - nothing).flatten().double())
    z = torch.stack(each, dim=1)
    torch.testing.assert_close(gram, z.T @ z, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(cross, z.T @ wanted.flatten().double(), rtol=1e-4, atol=1e-4)
    weight = reader.weight().double()
    torch.testing.assert_close(squares, weight.square().sum(dim=(0, 2)))


@pytest.mark.parametrize("groups", [1, 2])
def test_the_weights_are_numpys_least_squares(groups: int) -> None:
    reader, inputs = convolution(groups)
    wanted = torch.randn(8, 4, 5, 5)
    kept = torch.tensor([0, 2, 3, 5])
    with torch.no_grad():
        output = reader.layer(inputs)
        places = torch.arange(25).expand(8, -1)
        columns = reader.columns(inputs, output, places).double()
        samples = reader.at(wanted, places).flatten(0, 1).double().numpy()
    expected = np.zeros((4, 6, 9))
    for block in range(groups):
        own = [c for c in kept.tolist() if c // (6 // groups) == block]
        rows = slice(block * 4 // groups, (block + 1) * 4 // groups)
        x = columns[:, :, own].flatten(0, 1).flatten(1).numpy()
        solution, *_ = np.linalg.lstsq(x, samples[:, rows])
        expected[rows, own] = solution.T.reshape(-1, len(own), 9)
    filled(reader, inputs, wanted).apply(kept)
    np.testing.assert_allclose(reader.weight().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_channels_of_unit_norm_are_compared() -> None:
    # Channel 1 adds as much as before, from large weights and small activations. With |W| = 1 it
    # needs a larger beta for it, so it is the first to go.
    reader, inputs = convolution()
    with torch.no_grad():
        reader.scale(torch.tensor([1.0, 10.0, 1.0, 1.0, 1.0, 1.0]))
        inputs[:, 1] /= 10
        wanted = reader.layer(inputs) - reader.layer.get_parameter("bias")[:, None, None]
    group = ChannelGroup("conv", 6, 1, 0, ("conv",))
    target = filled(reader, inputs, wanted)
    assert choose([target], group, 6).tolist() == list(range(6))
    assert choose([target], group, 5).tolist() == [0, 2, 3, 4, 5]


def half(source: Dense, **fields: object) -> Inheritance:
    budget = source.space.dense.flops // 2
    derived = ChannelRegression(**fields).derive(source, flops=budget, seed=1)
    assert derived.inherit is not None
    return derived.inherit()


@pytest.mark.slow  # other networks than the conformance tests'
@pytest.mark.parametrize("network", [*NORMED, "flattened"])
def test_the_cut_network_computes_what_the_masked_one_does(network: str, folder: Path) -> None:
    source = dense(network, folder)
    inherited = half(source)
    assert inherited.rebuilt is not None
    widths = {name: len(kept) for name, kept in inherited.kept.items()}
    small = build(source.space.architecture(widths=widths, kept=inherited.kept), trust=True)
    small.load_state_dict(inherited.weights)
    whole = masked(network, inherited.rebuilt, inherited.kept)
    images = torch.rand(5, *source.space.input_shape, dtype=torch.float64)
    with torch.no_grad():
        expected = whole.double().eval()(images)
        torch.testing.assert_close(small.double().eval()(images), expected, rtol=1e-8, atol=1e-8)


def observed(
    space: Space, source: Dense, group: ChannelGroup, network: nn.Module, memory: int = 10**9
) -> list[Target]:
    sample = Sample(source.data.train, 100, None, seed=2, memory=memory)
    random = torch.Generator().manual_seed(2)
    reading = readers(space, group, network)
    return targets(space, network, trained(source), reading, sample, 10, random)


@pytest.mark.parametrize("network", ["vgg_mini", "resnet20_b", "concatenated", "grouped"])
def test_in_the_dense_network_itself_nothing_has_to_change(network: str, folder: Path) -> None:
    source = dense(network, folder)
    whole = trained(source)
    for group in source.space.groups:
        for target in observed(source.space, source, group, whole):
            before = target.reader.weight().clone()
            target.apply(torch.arange(group.width))
            torch.testing.assert_close(target.reader.weight(), before, rtol=1e-3, atol=1e-4)


def keep_output(made: list[Tensor]) -> See:
    return lambda reader, inputs, output: made.append(output.clone())


@pytest.mark.parametrize("network", ["resnet20", "resnet20_b"])
def test_the_shortcut_beside_a_branch_is_found(network: str, folder: Path) -> None:
    source = dense(network, folder)
    whole = trained(source)
    for block in (whole.get_submodule("stage1.1"), whole.get_submodule("stage2.0")):
        last = block.get_submodule("conv2")
        assert isinstance(last, nn.Conv2d)
        reader = Reader("last", last, (Slice("last", 0, 1),), last.in_channels)
        stream = torch.randn(2, block.get_submodule("conv1").in_channels, 8, 8)
        made: list[Tensor] = []
        with torch.no_grad(), shortcuts(block, [reader]) as beside:
            with watched([reader], keep_output(made)):
                output = block(stream)
            branch = block.get_submodule("bn2")(made[0])
        torch.testing.assert_close(output, torch.relu(branch + beside.found["last"]))
        shift = branch - made[0] * beside.scales["last"][:, None, None]
        torch.testing.assert_close(shift, shift[:1, :, :1, :1].expand_as(shift))


def test_an_addition_to_a_changed_tensor_is_no_shortcut() -> None:
    class Rectified(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, maps: Tensor) -> Tensor:
            return self.conv(maps).relu_() + maps

    class Plain(Rectified):
        def forward(self, maps: Tensor) -> Tensor:
            out = self.conv(maps)
            out += maps
            return out

    maps = torch.randn(2, 3, 4, 4)
    for kind, count in ((Rectified, 0), (Plain, 1)):
        block = kind()
        reader = Reader("conv", block.conv, (Slice("conv", 0, 1),), 3)
        with torch.no_grad(), shortcuts(block, [reader]) as beside:
            block(maps)
        assert len(beside.found) == count
        assert not beside.scales
        for found in beside.found.values():
            assert torch.equal(found, maps)


def test_a_branchs_last_layer_makes_up_for_what_the_shortcut_lost(folder: Path) -> None:
    """With the stream changed before a block, block output is nearer the dense one's afterwards."""
    source = dense("resnet20", folder)
    network, original = trained(source), trained(source)
    with torch.no_grad():
        network.get_parameter("bn1.bias").add_(0.3)  # the stream that all blocks pass on
    group = next(g for g in source.space.groups if g.layers == ("stage1.0.conv1",))
    (images, _) = next(source.data.train.batches(100))

    def error() -> float:
        outputs: list[Tensor] = []
        for each in (network, original):
            block = each.get_submodule("stage1.0")
            handle = block.register_forward_hook(lambda m, i, out: outputs.append(out))
            with torch.no_grad():
                each(images)
            handle.remove()
        return float((outputs[0] - outputs[1]).square().mean())

    before = error()
    (target,) = observed(source.space, source, group, network)
    assert target.scale is not None
    target.apply(torch.arange(group.width))
    assert error() < 0.9 * before


def test_a_layer_whose_sums_do_not_fit_is_rescaled(folder: Path) -> None:
    source = dense("vgg_mini", folder)
    network = trained(source)
    group = source.space.groups[1]
    (target,) = observed(source.space, source, group, network, memory=10**6)
    assert not target.whole
    before = target.reader.weight().clone()
    kept = choose([target], group, 16)
    target.apply(kept)
    after = target.reader.weight()
    gone = torch.ones(group.width, dtype=torch.bool)
    gone[kept] = False
    assert (after[:, gone] == 0).all()
    factors = (after[:, kept] * before[:, kept]).sum(dim=(0, 2))
    factors /= before[:, kept].square().sum(dim=(0, 2))
    torch.testing.assert_close(after[:, kept], before[:, kept] * factors[:, None])
    assert not torch.equal(factors, torch.ones_like(factors))


def test_equal_seeds_give_equal_weights(folder: Path) -> None:
    source = dense("vgg_mini", folder)
    first, again = half(source).weights, half(source).weights
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_reconstruction_brings_the_network_nearer_to_the_dense_one(tmp_path: Path) -> None:
    recipe = Recipe(**{**RECIPE.model_dump(), "epochs": 12})
    source = dense("vgg_mini", tmp_path, recipe=recipe)
    inherited = half(source)
    widths = {name: len(kept) for name, kept in inherited.kept.items()}
    architecture = source.space.architecture(widths=widths)
    (images, _) = next(source.data.train.batches(100))
    answers = []
    for weights in (inherited.weights, source.space.inherit(source.state(), inherited.kept)):
        small = build(architecture, trust=True)
        small.load_state_dict(weights)
        with torch.no_grad():
            answers.append(small.eval()(images) - trained(source)(images))
    rebuilt, cut = (float(answer.square().mean()) for answer in answers)
    assert rebuilt < 0.5 * cut
