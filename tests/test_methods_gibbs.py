"""Gibbs pruning's layers: scale, temperature, convergence; and the method on real digits."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from methods_networks import dense, space
from torch import Tensor, nn
from training_digits import digits

from prunenas.cache import Cache
from prunenas.data import load
from prunenas.methods import METHODS, Dense, Derivation
from prunenas.methods._gibbs import off_probability, unit_means
from prunenas.methods._gibbs_layers import (
    MEAN_SQUARE,
    Drawing,
    Unit,
    beta_at,
    cool,
    disagreement,
    plain_state,
    put_on,
)
from prunenas.training import EpochMetrics, Recipe

UNITS: tuple[Unit, ...] = ("weight", "kernel", "filter")
every_unit = pytest.mark.parametrize("unit", UNITS)


def he(*shape: int, seed: int = 0) -> Tensor:
    """Weights as He's initialisation has them behind 16 channels: N(0, 2 / 144)."""
    random = torch.Generator().manual_seed(seed)
    return math.sqrt(2 / 144) * torch.randn(*shape, generator=random)


def drawn(unit: Unit, weight: Tensor, beta: float, *, relative: bool = True) -> Tensor:
    drawing = Drawing(unit, 0.1, relative=relative)
    drawing.beta.fill_(beta)
    return drawing.draw(weight, torch.Generator().manual_seed(1))


def test_the_schedules_ends_and_steps() -> None:
    for unit in ("weight", "kernel"):
        assert beta_at(unit, 0, 128) == pytest.approx(1)
        assert beta_at(unit, 127, 128) == beta_at(unit, 199, 128) == pytest.approx(10_000)
        assert beta_at(unit, 51, 128) / beta_at(unit, 50, 128) == pytest.approx(1.0752, abs=5e-5)
    assert beta_at("filter", 0, 128) == pytest.approx(0.0031623, rel=1e-5)
    assert beta_at("filter", 127, 128) == pytest.approx(1)
    assert beta_at("weight", 0, 1) == pytest.approx(10_000)


@every_unit
def test_draws_are_the_same_at_any_scale(unit: Unit) -> None:
    beta = 0.05 if unit == "filter" else 30.0
    weight = he(40, 16, 3, 3)
    at_first = drawn(unit, weight, beta)
    for scale in (1e-4, 100.0, 1e6):
        # A weight whose chance and number agree to the last digit may tip over.
        assert (drawn(unit, scale * weight, beta) == at_first).float().mean() > 0.999
    assert (drawn(unit, 100 * weight, beta, relative=False) != at_first).any()


@pytest.mark.parametrize(("beta", "off"), [(1, 0.506), (10, 0.558), (100, 0.847), (1e4, 0.9)])
@pytest.mark.parametrize("shape", [(64, 64, 3, 3), (128, 288, 1, 1), (512, 3, 5, 5)])
def test_the_share_that_is_off_is_the_measured_one_in_any_layer(
    beta: float, off: float, shape: tuple[int, ...]
) -> None:
    weight = 37 * he(*shape)
    squares, least = Drawing("weight", 0.1, relative=True).scaled(weight)
    assert squares.mean() == pytest.approx(MEAN_SQUARE, rel=1e-4)
    assert off_probability(least - squares, beta).mean() == pytest.approx(off, abs=2e-3)


@pytest.mark.parametrize(
    ("shape", "uncoupled"),
    [((64, 32, 3, 3), 0), ((64, 32, 5, 5), 0), ((64, 32, 7, 7), 0), ((99, 64, 1, 1), 1)],
)
def test_kernels_of_all_sizes_go_as_wholes_as_measured(
    shape: tuple[int, ...], uncoupled: int
) -> None:
    for beta, alike, off in ((10, 0.650, 0.760), (100, 1.0, 0.903), (1e4, 1.0, 0.898)):
        on = drawn("kernel", 0.01 * he(*shape), beta).flatten(2).double().mean(dim=2)
        if not uncoupled and (beta > 10 or shape[-1] == 3):
            assert ((on == 0) | (on == 1)).double().mean() == pytest.approx(alike, abs=0.03)
            assert 1 - on.mean() == pytest.approx(off, abs=0.03)
        if beta == 1e4:
            assert 1 - on.mean() == pytest.approx(0.9, abs=0.005)


@pytest.mark.parametrize(
    "shape",
    [(40, 16, 3, 3), (40, 256, 3, 3), (40, 64, 1, 1), (40, 3, 3, 3), (40, 3, 1, 1), (40, 1, 3, 3)],
)
def test_filters_of_all_sizes_harden_as_measured(shape: tuple[int, ...]) -> None:
    weight = 0.01 * he(*shape)
    hard = Drawing("filter", 0.1, relative=True).hard(weight)
    assert int(hard.flatten(1)[:, 0].sum()) == 4
    assert 1 - drawn("filter", weight, 10**-2.5).double().mean() == pytest.approx(0.5, abs=0.12)
    assert torch.equal(drawn("filter", weight, 1.0), hard)
    if math.prod(shape[1:]) >= 64:
        assert torch.equal(drawn("filter", weight, 0.4), hard)
        assert (drawn("filter", weight, 0.1) == hard).double().mean() > 0.99


def test_a_filter_of_a_single_weight_is_hard_at_once() -> None:
    weight = he(40, 1, 1, 1)
    hard = Drawing("filter", 0.1, relative=True).hard(weight)
    assert torch.equal(drawn("filter", weight, 10**-2.5), hard)


@every_unit
def test_convergence_is_a_coins_when_hot_and_nothing_when_cold(unit: Unit) -> None:
    weight = he(64, 16, 3, 3)
    drawing = Drawing(unit, 0.1, relative=True)
    # Each weight is on half of the time, and so differs half of the time, whatever it should be.
    draws = 4 * weight.numel()
    assert disagreement(drawing, weight, 1e-9) == pytest.approx(0.5, abs=2 / math.sqrt(draws))
    assert disagreement(drawing, weight, 1e12) == 0


def test_convergence_of_weights_is_what_their_probabilities_say() -> None:
    weight = he(64, 16, 3, 3)
    drawing = Drawing("weight", 0.1, relative=True)
    squares, least = drawing.scaled(weight)
    off = off_probability((least - squares).double(), 80.0)
    expected = torch.where(squares >= least, off, 1 - off).mean()
    spread = 4 * math.sqrt(0.25 / (4 * weight.numel()))
    assert disagreement(drawing, weight, 80.0) == pytest.approx(float(expected), abs=spread)
    assert 0.05 < expected < 0.2


@every_unit
def test_a_network_is_evaluated_under_the_hard_mask(unit: Unit) -> None:
    layer = nn.Sequential(nn.Conv2d(16, 8, 3, bias=False))
    weight = layer.get_parameter("0.weight").detach().clone()
    put_on(layer, ["0"], unit, 0.25, relative=True)
    cool(layer, 0.01)
    seen = layer.eval()[0].weight
    dims = {"weight": 4, "kernel": 2, "filter": 1}[unit]
    means = unit_means(weight.square(), dims)
    above = means >= torch.quantile(means.flatten(), 0.75)
    above = above.reshape(*above.shape, *[1] * (4 - dims))
    assert torch.equal(seen, weight * above)
    assert (layer.train()[0].weight != seen).any()
    assert torch.equal(plain_state(layer.state_dict())["0.weight"], weight)
    assert set(plain_state(layer.state_dict())) == {"0.weight"}


def test_a_layer_called_original_keeps_its_name() -> None:
    network = nn.Sequential()
    network.add_module("original", nn.Conv2d(2, 2, 3))
    names = set(network.state_dict())
    put_on(network, ["original"], "weight", 0.5, relative=True)
    assert set(plain_state(network.state_dict())) == names


def test_gradients_pass_where_the_mask_is_on() -> None:
    layer = nn.Conv2d(4, 8, 3, bias=False)
    put_on(layer, [""], "weight", 0.3, relative=True)
    cool(layer, 1.0)
    torch.manual_seed(0)
    weight = layer.weight
    weight.sum().backward()
    gradient = layer.parametrizations.weight.original.grad
    assert gradient is not None
    assert torch.equal(gradient != 0, weight != 0)
    assert torch.equal(gradient[gradient != 0].unique(), torch.ones(1))


def derived(source: Dense, *, flops: int | None = None, **settings: Any) -> Derivation:
    return METHODS["gibbs"](**settings).derive(source, flops=flops)


@every_unit
def test_the_result_is_the_hard_mask_of_the_weights_learned(unit: Unit, tmp_path: Path) -> None:
    source = dense("vgg_mini", tmp_path)
    found = derived(source, unit=unit, density=0.3)
    weights = found.weights()
    assert weights is not None
    for name, mask in found.architecture.masks.items():
        units = unit_means(mask.tensor().float(), {"weight": 4, "kernel": 2, "filter": 1}[unit])
        assert ((units == 0) | (units == 1)).all()
        assert units.mean() == pytest.approx(0.3, abs=1 / units.numel() + 1e-3)
        assert torch.equal(weights[name] != 0, mask.tensor())


def test_the_first_convolution_stays_whole_unless_it_is_the_only_one(tmp_path: Path) -> None:
    masks = derived(dense("resnet20", tmp_path)).architecture.masks
    assert "conv1.weight" not in masks
    assert len(masks) == 18
    assert list(derived(dense("flattened", tmp_path)).architecture.masks) == ["0.0.weight"]


@every_unit
def test_an_interrupted_training_goes_on_to_the_same_masks(unit: Unit, tmp_path: Path) -> None:
    recipe = Recipe(epochs=3, batch_size=50, lr=0.05, augment=False)

    def interrupt(what: str, metrics: EpochMetrics) -> None:
        if metrics.epoch == 2:
            raise KeyboardInterrupt

    broken = dense("grouped", tmp_path / "broken", recipe=recipe, report=interrupt)
    with pytest.raises(KeyboardInterrupt):
        derived(broken, unit=unit, anneal=0.9)
    resumed = derived(dense("grouped", tmp_path / "broken", recipe=recipe), unit=unit, anneal=0.9)
    whole = derived(dense("grouped", tmp_path / "whole", recipe=recipe), unit=unit, anneal=0.9)
    assert resumed.architecture.digest == whole.architecture.digest
    assert resumed.notes == whole.notes
    one, other = resumed.weights() or {}, whole.weights() or {}
    assert one
    assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.parametrize("unit", ["kernel", "filter"])
@pytest.mark.parametrize("share", [0.6, 0.3])
def test_kernels_and_filters_meet_a_budget(unit: str, share: float, tmp_path: Path) -> None:
    source = dense("resnet20", tmp_path)
    budget = int(share * source.space.dense.flops)
    flops = derived(source, flops=budget, unit=unit).architecture.flops
    assert (0.97 if unit == "kernel" else 0.9) * budget <= flops <= budget


@pytest.mark.slow
@every_unit
def test_no_unit_costs_the_accuracy_on_digits(unit: Unit, tmp_path: Path) -> None:
    recipe = Recipe(epochs=12, batch_size=32, lr=0.05, augment=False)
    source = Dense(space("vgg_mini"), load("digits"), recipe, Cache(tmp_path), seed=0)
    notes = derived(source, unit=unit, density=0.2).notes
    assert notes["convergence"] < 0.02
    assert notes["gibbs_accuracy"] > 0.93


@pytest.mark.slow
def test_the_toy_goes_as_measured() -> None:
    """Two hidden layers on digits, 120 epochs of Adam, the temperature of the squares as they are.

    Shares that are off along the schedule, and accuracies of draws and hard mask at its end, were
    measured with a prototype of its own.
    """
    data = digits(train=1437, validation=260)
    images, labels = next(data.train.batches(2000))
    test_images, test_labels = next(data.validation.batches(2000))
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()),
        nn.Linear(128, 10),
    )
    for layer in (network[1], network[3], network[5]):
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    put_on(network, ["1", "3"], "weight", 0.1, relative=False)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    shares = {}
    for epoch in range(120):
        cool(network, beta_at("weight", epoch, round(0.64 * 120)))
        if epoch in (0, 12, 24, 36, 119):
            on = [network[place].weight.ne(0).double().mean() for place in (1, 3)]
            shares[epoch] = 1 - float(sum(on)) / 2
        for chosen in torch.randperm(len(images)).split(64):
            loss = nn.functional.cross_entropy(network(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    measured = {0: 0.508, 12: 0.55, 24: 0.69, 36: 0.875, 119: 0.900}
    assert shares == pytest.approx(measured, abs=0.02)
    accuracy = {}
    for train in (True, False):
        network.train(train)
        with torch.no_grad():
            right = network(test_images).argmax(dim=1) == test_labels
        accuracy[train] = float(right.double().mean())
    assert accuracy[True] == pytest.approx(accuracy[False], abs=0.015)
    assert accuracy[False] > 0.94
