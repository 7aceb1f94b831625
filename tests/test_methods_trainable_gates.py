"""Trainable gates: values and gradients against the formula, targets met, cut networks exact."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from methods_networks import RECIPE, dense, space
from pydantic import ValidationError
from torch import Tensor, nn

from prunenas.architecture import Space, build, trace
from prunenas.cache import Cache
from prunenas.data import load
from prunenas.errors import BudgetError, MethodError
from prunenas.methods import Dense
from prunenas.methods._gates import Gates, fitting, gated, of, opened, put_on, shaped
from prunenas.methods._sites import find_sites
from prunenas.methods.trainable_gates import TrainableGates
from prunenas.training import Recipe

POINTS = torch.tensor([-0.7, -0.2, -1e-3, 1e-3, 0.3, 0.9], dtype=torch.float64)
M = 1e5


def mlp() -> nn.Module:
    """The multilayer perceptron 64-128-64-10 on the digits' 64 pixels."""
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU()),
        nn.Linear(64, 10),
    )


def paper(w: np.ndarray, g: np.ndarray) -> np.ndarray:
    """The paper's gate, b + s g."""
    return (w > 0) + (M * w - np.floor(M * w)) / M * g


def test_gates_are_the_papers_within_1_over_m() -> None:
    assert gated(POINTS).tolist() == [0, 0, 0, 1, 1, 1]
    w = np.linspace(-1, 1, 10_001)
    ours = gated(torch.from_numpy(w)).numpy()
    assert np.abs(ours - paper(w, np.ones_like(w))).max() <= 1 / M + 1e-9


@pytest.mark.parametrize("shape", ["constant", "bump"])
def test_gradients_are_the_shaping_function_and_the_papers_slope(shape: str) -> None:
    w = POINTS.clone().requires_grad_()
    gated(w, shape).sum().backward()
    assert w.grad is not None
    if shape == "constant":
        g = np.ones(6)
        assert w.grad.tolist() == [1.0] * 6
    else:
        s = 1 / (1 + np.exp(-POINTS.numpy()))
        g = 4 * s * (1 - s)
        assert w.grad.numpy() == pytest.approx(g, abs=1e-12)
    # The sawtooth's slope between two of its jumps, taken in the middle of a tooth.
    middle = (np.floor(M * POINTS.numpy()) + 0.5) / M
    step = 1e-8
    either = [shaped(torch.from_numpy(middle + d), shape).numpy() for d in (step, -step)]
    slope = (paper(middle + step, either[0]) - paper(middle - step, either[1])) / (2 * step)
    assert slope == pytest.approx(g, abs=1e-4)


def test_the_highest_gate_of_a_group_stays_open() -> None:
    assert opened(torch.tensor([-0.3, -0.1, -0.2])).tolist() == [False, True, False]
    assert opened(torch.tensor([0.3, -0.1, 0.2])).tolist() == [True, False, True]


def gated_network(name: str, seed: int = 0) -> tuple[nn.Module, Gates]:
    here, network = space(name), build(space(name).dense, seed=seed, trust=True)
    sites = {n: (*s.first, *s.later) for n, s in find_sites(here, network).items()}
    gates = Gates(here, [group for group in here.groups if group.name in sites], "constant")
    put_on(network, gates, sites)
    return network, gates


def draw(gates: Gates, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        gates.weight.copy_(torch.randn(len(gates.weight), generator=generator))


def test_a_closed_gate_has_a_gradient_and_the_weights_behind_it_hardly_any() -> None:
    network, gates = gated_network("vgg_mini")
    draw(gates, 1)
    images = torch.rand(8, 1, 8, 8)
    nn.functional.cross_entropy(network(images), torch.arange(8)).backward()
    assert gates.weight.grad is not None
    (part,) = space("vgg_mini").producers(gates.groups[0].name)
    weight = network.get_parameter(f"{part.layer}.weight")
    assert weight.grad is not None
    closed = ~opened(gates.weight[gates.places[gates.groups[0].name]])
    assert closed.any()
    assert (~closed).any()
    assert (gates.weight.grad[gates.places[gates.groups[0].name]][closed] != 0).any()
    behind, others = weight.grad[closed].abs().max(), weight.grad[~closed].abs().max()
    assert 0 < behind < 1e-4 * others


@pytest.mark.parametrize("cost", ["flops", "params"])
@pytest.mark.parametrize("network", ["vgg_mini", "resnet20_b", "grouped", "concatenated"])
def test_the_costs_gradient_is_the_closed_forms(network: str, cost: str) -> None:
    _, gates = gated_network(network)
    draw(gates, 2)
    here, widths = gates.space, gates.widths()
    count = here.flops if cost == "flops" else here.params
    whole, share = count({}), 0.4
    gradient = gates.cost_gradient(cost, share)
    for group in gates.groups:
        # Central differences are exact for a form of second degree.
        step = group.divisor
        more, less = (count({**widths, group.name: widths[group.name] + d}) for d in (step, -step))
        slope = (more - less) / 2 / whole
        expected = 2 * (count(widths) / whole - share) * slope
        own = gradient[gates.places[group.name]]
        assert own.tolist() == pytest.approx([expected] * len(own), rel=1e-5)


def test_a_step_of_the_gates_by_hand() -> None:
    _, gates = gated_network("vgg_mini")
    with torch.no_grad():
        gates.weight.fill_(0.5)
    expected, velocity = np.full(len(gates.weight), 0.5), 0.0
    for _ in range(3):  # all stay open, so the cost's gradient stays what it is
        pull = 5.0 * gates.cost_gradient("flops", 0.5).numpy()
        gates.weight.grad = torch.full_like(gates.weight, 0.25)
        velocity = 0.9 * velocity + 0.25 + pull
        expected = expected - 0.02 * velocity
        gates.step(0.02, 0.9, 5.0, "flops", 0.5)
        assert gates.weight.grad is None
        assert gates.weight.detach().numpy() == pytest.approx(expected, abs=1e-6)


def test_gates_that_are_all_closed_open_again_up_to_the_target() -> None:
    _, gates = gated_network("vgg_mini")
    gates.start(-0.1, 1e-2, seed=0)
    assert set(gates.widths().values()) == {1}
    for _ in range(3000):
        gates.weight.grad = torch.zeros_like(gates.weight)
        gates.step(0.02, 0.9, 5.0, "flops", 0.5)
    share = gates.space.flops(gates.widths()) / gates.space.dense.flops
    assert share == pytest.approx(0.5, abs=0.05)


def test_what_fits_is_the_highest_gates_by_brute_force() -> None:
    here = space("grouped")
    generator = torch.Generator().manual_seed(4)
    weights = {g.name: torch.randn(g.width // g.divisor, generator=generator) for g in here.groups}
    budget = int(0.5 * here.dense.flops)
    decided = fitting(here, here.groups, weights, "flops", budget)
    widths = {g.name: int(decided[g.name].sum()) * g.divisor for g in here.groups}
    assert 0.8 * budget < here.flops(widths) <= budget
    for group in here.groups:
        own, mask = weights[group.name], decided[group.name]
        assert mask[int(own.argmax())]
        if not mask.all():  # a group is opened from its highest gate down; none more fits
            assert own[mask].min() > own[~mask].max()
            wider = {**widths, group.name: widths[group.name] + group.divisor}
            assert here.flops(wider) > budget


@pytest.mark.parametrize(
    "network", ["vgg_mini", "resnet20", "resnet20_b", "grouped", "concatenated", "transposed"]
)
def test_the_cut_network_is_the_gated_one(network: str) -> None:
    whole, gates = gated_network(network, seed=3)
    draw(gates, 5)
    here = space(network)
    for module in whole.modules():  # statistics and shifts that would betray a channel
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
    kept = gates.kept()
    widths = {name: len(indices) for name, indices in kept.items()}
    small = build(here.architecture(widths=widths, kept=kept), trust=True)
    own = {n: t for n, t in whole.state_dict().items() if not n.startswith("channel_gates.")}
    small.load_state_dict(here.inherit(own, kept))
    assert widths != here.dense.widths
    images = torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        expected = whole.eval()(images)
        torch.testing.assert_close(small.eval()(images), expected, rtol=1e-5, atol=1e-5)


QUICK = RECIPE.model_copy(update={"epochs": 3})


@pytest.mark.parametrize(
    ("fields", "cost"),
    [
        ({"target": 0.4}, 0.4),
        ({"target": 0.4, "cost": "params"}, 0.4),
        ({"target": 0.5, "unit": "multiplier"}, None),
        ({"target": 200_000, "unit": "absolute"}, 200_000),
    ],
)
def test_the_target_is_met_to_the_channel(
    fields: dict[str, float | str], cost: float | None, tmp_path: Path
) -> None:
    source = dense("vgg_mini", tmp_path, recipe=QUICK)
    method = TrainableGates.model_validate(fields)
    here = source.space
    count = here.params if method.cost == "params" else here.flops
    target = {None: here.flops(here.widths(0.5)), 0.4: 0.4 * count({})}.get(cost, cost)
    assert target is not None
    reached = count(dict(method.derive(source).architecture.widths))
    assert 0.97 * target <= reached <= target  # a channel may be 2 % of the parameters


def test_the_weights_go_on_from_the_dense_networks_and_adapt(tmp_path: Path) -> None:
    told: list[str] = []
    source = dense("vgg_mini", tmp_path, recipe=QUICK, report=lambda what, epoch: told.append(what))
    first = TrainableGates().derive(source)
    assert told == ["dense network"] * 3 + ["trainable_gates (50.0% of flops)"] * 3
    again = TrainableGates().derive(source, flops=source.space.dense.flops // 2)
    assert len(told) == 6  # the same target, the same training
    assert again.architecture == first.architecture


def test_an_interrupted_training_goes_on_to_the_same_gates(tmp_path: Path) -> None:
    def interrupt(what: str, metrics: object) -> None:
        if what != "dense network" and getattr(metrics, "epoch", 0) == 2:
            raise KeyboardInterrupt

    whole = TrainableGates().derive(dense("grouped", tmp_path / "a", recipe=QUICK))
    source = dense("grouped", tmp_path / "b", recipe=QUICK)
    with pytest.raises(KeyboardInterrupt):
        TrainableGates().derive(replace(source, report=interrupt))
    resumed = TrainableGates().derive(source)
    assert resumed.architecture == whole.architecture
    assert resumed.notes == whole.notes
    one, other = resumed.weights(), whole.weights()
    assert one is not None
    assert other is not None
    assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.parametrize(
    "fields", [{"target": 1.5}, {"target": 0.5, "unit": "absolute"}, {"target": 0}]
)
def test_targets_outside_their_unit_are_refused(fields: dict[str, float | str]) -> None:
    with pytest.raises(ValidationError, match="target"):
        TrainableGates.model_validate(fields)


def test_a_budget_of_flops_does_not_go_with_parameters(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="params"):
        TrainableGates(cost="params").derive(dense("grouped", tmp_path), flops=100_000)


def test_an_unreachable_target_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="target is 1"):
        TrainableGates(target=1, unit="absolute").derive(dense("vgg_mini", tmp_path))
    assert not list(tmp_path.rglob("*.safetensors"))


def perceptron(folder: Path, seed: int, share: float, shape: str = "constant") -> tuple[float, ...]:
    """What 60 epochs of gates on the digits come to: cost before it is decided, and accuracies."""
    here: Space = trace("test_methods_trainable_gates:mlp", input_shape=(1, 8, 8))
    recipe = Recipe(epochs=60, batch_size=64, lr=0.05, augment=False, schedule="cosine")
    source = Dense(here, load("digits"), recipe, Cache(folder), seed=seed)
    derived = TrainableGates.model_validate({"target": share, "shape": shape}).derive(source)
    notes = derived.notes
    assert derived.architecture.flops <= share * here.dense.flops
    return notes["found"], notes["dense_accuracy"], notes["gated_accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_gates_come_to_their_target_on_digits(share: float, seed: int, tmp_path: Path) -> None:
    found, before, after = perceptron(tmp_path, seed, share)
    assert found == pytest.approx(share, abs=0.015)
    assert after >= before - 0.01
    assert math.isfinite(found)


@pytest.mark.slow
def test_the_bump_comes_to_its_target_too(tmp_path: Path) -> None:
    found, before, after = perceptron(tmp_path, 0, 0.5, "bump")
    assert found == pytest.approx(0.5, abs=0.015)
    assert after >= before - 0.01


def test_gates_can_be_read_off_a_network() -> None:
    network, gates = gated_network("grouped")
    assert of(network) is gates
    values: Tensor = gates.of(gates.groups[0].name)
    assert values.tolist() == [1.0] * gates.groups[0].width
