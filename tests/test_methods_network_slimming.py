"""Network Slimming against hand computation, the paper's rule and brute force."""

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from methods_networks import NORMED, RECIPE, dense, digits, space
from torch import Tensor, nn

from prunenas.architecture import build
from prunenas.errors import BudgetError, MethodError
from prunenas.methods import Dense
from prunenas.methods._ranking import (
    BELOW_ALL,
    budget_threshold,
    global_threshold,
    widths_above,
)
from prunenas.methods.network_slimming import (
    NetworkSlimming,
    add_subgradient,
    channel_scales,
    scale_layers,
)

STILL = RECIPE.model_copy(update={"lr": 1e-12})  # a training that leaves weights as they start


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def random_state(network: str, seed: int) -> dict[str, Tensor]:
    """A state whose scales are drawn anew, of both signs."""
    fresh = build(space(network).dense, seed=seed, trust=True)
    state, generator = fresh.state_dict(), torch.Generator().manual_seed(seed)
    for layer in scale_layers(space(network), fresh):
        state[f"{layer}.weight"] = torch.randn(state[f"{layer}.weight"].shape, generator=generator)
    return state


def test_the_subgradient_is_added_to_the_scales_and_nothing_else() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([-0.3, 0.0, 0.2]))
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    add_subgradient(network, ("1",), 0.1)
    torch.testing.assert_close(network[1].weight.grad, torch.tensor([0.4, 0.5, 0.6]))
    for name in ("0.weight", "0.bias", "1.bias"):
        assert torch.all(network.get_parameter(name).grad == 0.5)


def test_one_step_of_training_moves_the_scales_by_the_subgradient(tmp_path: Path) -> None:
    # One batch, no momentum, no decay: scale' = 0.5 - lr (gradient + sparsity * sign(0.5)).
    recipe = RECIPE.model_copy(
        update={
            "batch_size": len(digits().train),
            "momentum": 0.0,
            "weight_decay": 0.0,
            "schedule": "constant",
            "lr": 0.01,
        }
    )
    source = dense("grouped", tmp_path, recipe=recipe)
    free, penalised = (
        trained_state(source, NetworkSlimming(keep=1.0, sparsity=sparsity))
        for sparsity in (0.0, 3.0)
    )
    scales = {f"{layer}.weight" for layer in scale_layers(source.space, source.network())}
    assert len(scales) == 3
    for name, value in penalised.items():
        moved = free[name] - 0.01 * 3.0 if name in scales else free[name]
        torch.testing.assert_close(value, moved, rtol=0, atol=1e-6)


def trained_state(source: Dense, method: NetworkSlimming) -> dict[str, Tensor]:
    weights = method.derive(source).weights()
    assert weights is not None
    return weights


@pytest.mark.parametrize("value", [0.5, 1.0])
def test_scales_start_at_scale_init(value: float, tmp_path: Path) -> None:
    source = dense("grouped", tmp_path, recipe=STILL)
    state = trained_state(source, NetworkSlimming(keep=1.0, sparsity=0.0, scale_init=value))
    for layer in scale_layers(source.space, source.network()):
        torch.testing.assert_close(
            state[f"{layer}.weight"], torch.full_like(state[f"{layer}.weight"], value)
        )


def test_each_sparsity_is_trained_once_whatever_is_kept(tmp_path: Path) -> None:
    told: list[str] = []
    source = dense("grouped", tmp_path, report=lambda what, metrics: told.append(what))
    for sparsity in (1e-4, 1e-3):
        for keep in (0.3, 0.8):
            NetworkSlimming(keep=keep, sparsity=sparsity).derive(source)
    NetworkSlimming(sparsity=1e-3).derive(source, flops=source.space.dense.flops // 2)
    assert told == ["network_slimming (sparsity 0.0001)", "network_slimming (sparsity 0.001)"]


@pytest.mark.parametrize("total", [1, 7, 10, 100, 176, 1000])
@pytest.mark.parametrize("keep", ["0.01", "0.1", "0.3", "0.5", "0.6", "0.7", "0.9", "0.99"])
def test_the_threshold_is_the_papers_index_in_exact_arithmetic(total: int, keep: str) -> None:
    ascending = torch.arange(1, total + 1, dtype=torch.float64)
    shuffled = ascending[torch.randperm(total, generator=torch.Generator().manual_seed(total))]
    index = int(total * (1 - Fraction(keep)))
    parts = {"a": shuffled[: total // 3], "b": shuffled[total // 3 :]}
    assert global_threshold(parts, float(keep)) == ascending[index]


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.75])
def test_kept_are_the_channels_above_the_threshold_of_all_scales(keep: float) -> None:
    # The paper's own procedure, on the modules of the network rather than on its groups.
    state = random_state("vgg_mini", 1)
    network = build(space("vgg_mini").dense)
    network.load_state_dict(state)
    scales = [m.weight.detach().abs() for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    ascending = torch.cat(scales).sort().values
    threshold = ascending[int(len(ascending) * (1 - keep))]
    counts = [int((scale > threshold).sum()) for scale in scales]
    scores = channel_scales(space("vgg_mini"), state)
    widths = widths_above(space("vgg_mini"), scores, global_threshold(scores, keep))
    assert list(widths.values()) == counts
    assert sum(counts) == 176 - int(176 * (1 - keep)) - 1


def test_a_scale_at_the_threshold_goes_and_ties_go_together() -> None:
    first, second, *_ = space("vgg_mini").groups
    scores = {
        first.name: torch.tensor([0.1] * 8 + [0.2] * 8, dtype=torch.float64),
        second.name: torch.tensor([0.1] * 4 + [0.3] * 28, dtype=torch.float64),
    }
    threshold = global_threshold(scores, keep=0.9)  # index 4 of 48, one of twelve equals
    assert threshold == pytest.approx(0.1)
    widths = widths_above(space("vgg_mini"), scores, threshold)
    assert (widths[first.name], widths[second.name]) == (8, 28)


@pytest.mark.parametrize("network", NORMED)
def test_no_group_is_left_empty(network: str, folder: Path) -> None:
    widths = NetworkSlimming(keep=1e-6).derive(dense(network, folder)).architecture.widths
    for group in space(network).groups:
        scaled = bool(space(network).norms(group.name))
        assert widths[group.name] == (group.divisor if scaled else group.width)


def test_keeping_all_cuts_nothing(folder: Path) -> None:
    derived = NetworkSlimming(keep=1.0).derive(dense("vgg_mini", folder))
    assert derived.architecture == space("vgg_mini").dense
    assert derived.notes["threshold"] == BELOW_ALL


def test_counts_are_rounded_up_to_the_divisor() -> None:
    group = next(group for group in space("grouped").groups if group.width == 16)
    assert group.divisor == 4
    for above, width in ((0, 4), (1, 4), (4, 4), (5, 8), (13, 16)):
        scores = {group.name: torch.tensor([1.0] * above + [0.0] * (16 - above))}
        assert widths_above(space("grouped"), scores, 0.5)[group.name] == width


@pytest.mark.parametrize("network", NORMED)
@pytest.mark.parametrize("share", [0.9, 0.6, 0.35])
def test_the_bisected_threshold_is_the_best_of_all(network: str, share: float) -> None:
    here = space(network)
    scores = channel_scales(here, random_state(network, 2))
    budget = int(share * here.dense.flops)
    every = [BELOW_ALL, *sorted(float(value) for score in scores.values() for value in score)]
    costs = {at: here.flops(widths_above(here, scores, at)) for at in every}
    best = min(at for at, cost in costs.items() if cost <= budget)
    found = budget_threshold(here, scores, budget)
    assert found == best
    assert costs[found] == max(cost for cost in costs.values() if cost <= budget)


def test_a_budget_below_the_narrowest_network_names_its_cost() -> None:
    here = space("vgg_mini")
    scores = channel_scales(here, random_state("vgg_mini", 3))
    least = here.flops({group.name: 1 for group in here.groups})
    widths = widths_above(here, scores, budget_threshold(here, scores, least))
    assert set(widths.values()) == {1}
    with pytest.raises(BudgetError, match=f"{least:,}"):
        budget_threshold(here, scores, least - 1)


def test_a_residual_stream_counts_by_the_largest_of_its_scales() -> None:
    here = space("resnet20_b")
    state = random_state("resnet20_b", 4)
    stream = next(group for group in here.groups if "conv1" in group.layers)
    inner = next(group for group in here.groups if "stage1.1.conv1" in group.layers)
    norms = ("bn1", "stage1.0.bn2", "stage1.1.bn2", "stage1.2.bn2")
    rows = [state[f"{layer}.weight"].tolist() for layer in norms]
    expected = [max(abs(value) for value in column) for column in zip(*rows, strict=True)]
    scores = channel_scales(here, state)
    assert scores[stream.name].tolist() == expected
    assert scores[inner.name].tolist() == [abs(v) for v in state["stage1.1.bn1.weight"].tolist()]


def test_concatenated_channels_are_read_where_they_lie() -> None:
    here = space("concatenated")
    state = random_state("concatenated", 5)
    first = next(group for group in here.groups if "first.0" in group.layers)
    second = next(group for group in here.groups if "second" in group.layers)
    both = state["norm.weight"].double().abs()
    alone = state["first.1.weight"].double().abs()
    scores = channel_scales(here, state)
    assert torch.equal(scores[first.name], torch.maximum(alone, both[:8]))
    assert torch.equal(scores[second.name], both[8:])


def test_a_group_without_scales_stays_full_and_is_reported(folder: Path) -> None:
    source = dense("half_normed", folder)
    bare = next(group for group in source.space.groups if not source.space.norms(group.name))
    derived = NetworkSlimming(keep=0.2).derive(source)
    assert derived.architecture.widths[bare.name] == bare.width == 6
    assert derived.notes["groups_without_scale"] == [bare.name]


def test_a_network_without_scales_is_refused_before_it_is_trained(tmp_path: Path) -> None:
    source = dense("lenet5", tmp_path)
    with pytest.raises(MethodError, match="lenet5"):
        NetworkSlimming().derive(source)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_normalisation_without_scales_decides_nothing() -> None:
    network = build(space("vgg_mini").dense)
    state = random_state("vgg_mini", 6)
    first = space("vgg_mini").groups[0]
    (part,) = space("vgg_mini").norms(first.name)
    network.set_submodule(part.layer, nn.BatchNorm2d(first.width, affine=False))
    del state[f"{part.layer}.weight"]
    assert part.layer not in scale_layers(space("vgg_mini"), network)
    assert len(scale_layers(space("vgg_mini"), network)) == 3
    assert first.name not in channel_scales(space("vgg_mini"), state)


def test_which_channels_are_selected_is_part_of_the_architecture(folder: Path) -> None:
    derivation = NetworkSlimming(keep=0.4).derive(dense("selecting", folder, recipe=STILL, seed=3))
    kept = derivation.kept()
    assert kept is not None
    network = build(derivation.architecture, seed=1, trust=True)  # from scratch: no weights needed
    for name in ("selection", "chosen"):
        index = network.get_submodule(name).get_buffer("index")
        assert index.tolist() == kept[name].tolist()
        assert len(index) == derivation.architecture.widths[name]
    stream = [layer for layer in derivation.architecture.layers if layer.name in ("stem", "outer")]
    assert [layer.sizes[1] for layer in stream] == [12, 12]  # others read it whole
