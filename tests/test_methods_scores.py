"""What fpgm, group_norm and taylor say of a channel, against direct computations."""

from pathlib import Path

import numpy as np
import pytest
import torch
from methods_networks import RECIPE, dense, space
from torch import Tensor, nn
from torch.nn import functional

from prunenas.architecture import build, trace
from prunenas.methods import METHODS
from prunenas.methods._weights import columns, group_norms, rows
from prunenas.methods.fpgm import distance_sums
from prunenas.methods.taylor import gate_importance

CHAINS = ("vgg_mini", "resnet20_b", "grouped", "concatenated", "transposed", "separable")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def drawn(network: str, seed: int = 0) -> nn.Module:
    """The dense network with weights of its own initialisation, and no channel like another."""
    built = build(space(network).dense, seed=seed, trust=True)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in built.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values in (module.weight, module.bias, module.running_var):
                    values.copy_(torch.rand(values.shape, generator=generator) + 0.5)
    return built


def tiny() -> nn.Module:
    """One convolution and one linear layer."""
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(nn.Conv2d(1, 5, 3, padding=1), nn.ReLU(), *pool, nn.Linear(5, 10))


# fpgm


def test_the_distances_are_those_of_whole_filters() -> None:
    network = drawn("vgg_mini")
    group = space("vgg_mini").groups[1]
    filters = network.get_submodule(group.layers[0]).get_parameter("weight").detach().numpy()
    expected = [
        sum(float(np.sqrt(((a.astype(float) - b) ** 2).sum())) for b in filters) for a in filters
    ]
    scores = distance_sums(space("vgg_mini"), group, network)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-9)


def test_a_streams_filters_are_one_long_vector() -> None:
    here, network = space("resnet20_b"), drawn("resnet20_b")
    stream = next(group for group in here.groups if "conv1" in group.layers)
    layers = ("conv1", "stage1.0.conv2", "stage1.1.conv2", "stage1.2.conv2")
    filters = np.concatenate(
        [
            network.get_submodule(name).get_parameter("weight").detach().double().flatten(1).numpy()
            for name in layers
        ],
        axis=1,
    )
    assert filters.shape == (16, 9 + 3 * 144)
    expected = [np.linalg.norm(row - filters, axis=1).sum() for row in filters]
    scores = distance_sums(here, stream, network)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-9)


def test_the_filter_that_others_can_replace_goes_though_it_is_not_the_smallest() -> None:
    here = trace("test_methods_scores:tiny", input_shape=(1, 8, 8))
    network = tiny()
    with torch.no_grad():  # on a line; the last one is the largest, the first one has no neighbour
        network[0].weight.zero_()
        network[0].weight[:, 0, 1, 1] = torch.tensor([-9.0, 1.0, 2.0, 3.0, 30.0])
    scores = distance_sums(here, here.groups[0], network)
    assert scores.tolist() == pytest.approx([72.0, 42.0, 41.0, 42.0, 123.0])
    assert int(scores.argmin()) == 2  # the median


def test_equal_filters_have_no_distance() -> None:
    here = trace("test_methods_scores:tiny", input_shape=(1, 8, 8))
    network = tiny()
    with torch.no_grad():
        network[0].weight.copy_(torch.rand(1, 1, 3, 3).expand(5, 1, 3, 3))
    # The root of a rounding error; and no NaN.
    assert float(distance_sums(here, here.groups[0], network).max()) < 1e-6


def test_fpgm_keeps_the_most_distant(folder: Path) -> None:
    source = dense("vgg_mini", folder)
    ratios = {group.name: 0.5 for group in source.space.groups}
    kept = METHODS["fpgm"]().derive(source, ratios=ratios).kept()
    assert kept is not None
    for group in source.space.groups:
        filters = source.state()[f"{group.layers[0]}.weight"].double().flatten(1)
        order = torch.cdist(filters, filters).sum(dim=1).argsort(descending=True)
        assert kept[group.name].tolist() == sorted(order[: group.width // 2].tolist())


# group_norm


def numbers(network: str, name: str, channel: int) -> np.ndarray:
    """All weights of one channel, written out for each network."""
    built = drawn(network)

    def weight(layer: str) -> np.ndarray:
        values: np.ndarray = built.get_submodule(layer).get_parameter("weight").detach().numpy()
        return values.astype(float)

    parts = {
        # its own filter, and where the second and the third convolution and their blocks read it
        ("grouped", "0.0"): lambda c: [
            weight("0.0")[c],
            weight("1.0")[4 * (c // 2) : 4 * (c // 2) + 4, c % 2],
        ],
        ("grouped", "1.0"): lambda c: [weight("1.0")[c], weight("2.0")[:, c]],
        ("concatenated", "second"): lambda c: [weight("second")[c], weight("third.0")[:, 8 + c]],
        ("concatenated", "first.0"): lambda c: [
            weight("first.0")[c],
            weight("second")[:, c],
            weight("third.0")[:, c],
        ],
        # depthwise: its filter is the channel's own, and counts once
        ("separable", "0.0"): lambda c: [
            weight("0.0")[c],
            weight("1.0")[c],
            weight("2.0")[:, c],
        ],
        ("transposed", "0.0"): lambda c: [weight("0.0")[c], weight("1")[c]],
        ("transposed", "1"): lambda c: [
            weight("1")[4 * (c // 6) : 4 * (c // 6) + 4, c % 6],
            weight("4.0")[:, c],
        ],
    }
    return np.concatenate([part.flatten() for part in parts[network, name](channel)])


@pytest.mark.parametrize("normalise", ["mean", "max"])
@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize(
    ("network", "name"),
    [
        ("grouped", "0.0"),
        ("grouped", "1.0"),
        ("concatenated", "second"),
        ("concatenated", "first.0"),
        ("separable", "0.0"),
        ("transposed", "0.0"),
        ("transposed", "1"),
    ],
)
def test_all_coupled_weights_count_once(network: str, name: str, norm: str, normalise: str) -> None:
    here = space(network)
    group = next(group for group in here.groups if group.name == name)
    norms = np.array(
        [
            np.linalg.norm(numbers(network, name, channel), ord=1 if norm == "l1" else 2)
            for channel in range(group.width)
        ]
    )
    expected = norms / (norms.mean() if normalise == "mean" else norms.max())
    found = group_norms(here, group, drawn(network), norm, normalise)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("network", CHAINS)
def test_weights_come_with_a_row_for_each_channel(network: str) -> None:
    here, built = space(network), drawn(network)
    for group in here.groups:
        for part, values in zip(here.producers(group.name), rows(here, group, built), strict=True):
            count = built.get_submodule(part.layer).get_parameter("weight").numel()
            assert values.shape[0] == group.width
            assert values.numel() <= count
        for values in columns(here, group, built):
            assert values.shape[0] == group.width


def test_a_group_of_zeros_has_scores_of_zero() -> None:
    here, built = space("vgg_mini"), drawn("vgg_mini")
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.zero_()
    for group in here.groups:
        assert not group_norms(here, group, built, "l2", "mean").any()


# taylor


def test_the_gates_gradient_is_that_of_softmax_regression() -> None:
    here = trace("test_methods_scores:tiny", input_shape=(1, 8, 8))
    torch.manual_seed(0)
    network = tiny()
    batches = [(torch.rand(7, 1, 8, 8), torch.arange(7)), (torch.rand(4, 1, 8, 8), torch.arange(4))]
    weight, bias = (network[4].get_parameter(n).detach().double() for n in ("weight", "bias"))
    expected = np.zeros(5)
    for images, labels in batches:
        with torch.no_grad():
            hidden = network[:4](images).double().numpy()  # (N, 5)
        logits = hidden @ weight.numpy().T + bias.numpy()
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        for channel in range(5):
            gate = 0.0
            for image, label in enumerate(labels.tolist()):
                for cls in range(10):
                    error = shares[image, cls] - (cls == label)
                    gate += error * weight[cls, channel].item() * hidden[image, channel]
            expected[channel] += (gate / len(labels)) ** 2 / len(batches)
    (scores,) = gate_importance(here, network, batches).values()
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-4)


class Gated(nn.Module):
    """The network with a gate on what each reader of a group's channels is given."""

    def __init__(self, network: str, group: str, built: nn.Module) -> None:
        super().__init__()
        width = next(g.width for g in space(network).groups if g.name == group)
        self.built, self.gate = built, nn.Parameter(torch.ones(width, dtype=torch.float64))
        for part in space(network).consumers(group):
            layer = built.get_submodule(part.layer)
            layer.register_forward_pre_hook(self._gated(part.start, part.repeat))

    def _gated(self, start: int, repeat: int):
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
            (images,) = inputs
            gates = torch.ones(images.shape[1], dtype=torch.float64)
            end = start + len(self.gate) * repeat
            whole = torch.cat((gates[:start], self.gate.repeat_interleave(repeat), gates[end:]))
            return (images * whole.reshape(1, -1, *[1] * (images.dim() - 2)),)

        return hook

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.built(images)
        return logits


@pytest.mark.parametrize("network", CHAINS)
def test_the_score_is_the_squared_gradient_of_a_gate(network: str) -> None:
    generator = torch.Generator().manual_seed(1)
    batches = [
        (torch.rand(6, 1, 8, 8, generator=generator, dtype=torch.float64), torch.arange(6)),
        (torch.rand(3, 1, 8, 8, generator=generator, dtype=torch.float64), torch.arange(3)),
    ]
    scores = gate_importance(space(network), drawn(network).double(), batches)
    for group in space(network).groups:
        gated = Gated(network, group.name, drawn(network).double()).eval()
        squares = []
        for images, labels in batches:
            gated.zero_grad()
            functional.cross_entropy(gated(images).float(), labels).backward()
            assert gated.gate.grad is not None
            squares.append(gated.gate.grad.square())
        expected = torch.stack(squares).mean(dim=0)
        torch.testing.assert_close(scores[group.name], expected, rtol=1e-5, atol=1e-14)
        assert expected.any()


def test_behind_relu_it_is_the_papers_gate_behind_normalisation() -> None:
    # A gate on the normalisation's output has the gradient gamma * dE/dgamma + beta * dE/dbeta.
    here, network = space("vgg_mini"), drawn("vgg_mini").double().eval()
    images = torch.rand(6, 1, 8, 8, dtype=torch.float64)
    scores = gate_importance(here, network, [(images, torch.arange(6))])
    functional.cross_entropy(network(images).float(), torch.arange(6)).backward()
    for group in here.groups:
        (part,) = here.norms(group.name)
        norm = network.get_submodule(part.layer)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.weight.grad is not None
        assert norm.bias.grad is not None
        gate = norm.weight * norm.weight.grad + norm.bias * norm.bias.grad
        torch.testing.assert_close(scores[group.name], gate.detach().square(), rtol=1e-6, atol=0)


def test_scoring_changes_nothing_in_the_network() -> None:
    network = drawn("concatenated")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    gate_importance(space("concatenated"), network, [(torch.rand(6, 1, 8, 8), torch.arange(6))])
    after = network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_seed_draws_the_batches(folder: Path) -> None:
    source = dense("vgg_mini", folder, recipe=RECIPE.model_copy(update={"batch_size": 8}))
    method = METHODS["taylor"](batches=2)
    found = [method.derive(source, seed=seed).notes["threshold"] for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
