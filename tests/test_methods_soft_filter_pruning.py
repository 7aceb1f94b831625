"""Soft filter pruning against numpy, and the zeroed network against the cut one."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from methods_networks import RECIPE, dense, space
from torch import nn

from prunenas.architecture import Space, build
from prunenas.methods import soft_filter_pruning
from prunenas.methods.soft_filter_pruning import (
    SoftFilterPruning,
    filter_lengths,
    train_softly,
    zero_shortest,
)

LONGER = RECIPE.model_copy(update={"epochs": 3, "lr": 0.1})


def half(network: str) -> dict[str, int]:
    return space(network).widths(0.5)


def test_exactly_the_shortest_filters_are_zeroed() -> None:
    here = space("vgg_mini")
    network = build(here.dense, seed=3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    zero_shortest(here, network, half("vgg_mini"))
    for group in here.groups:
        (part,), (norm,) = here.producers(group.name), here.norms(group.name)
        old = before[f"{part.layer}.weight"].numpy()
        order = np.argsort(np.sqrt((old.astype(float) ** 2).sum(axis=(1, 2, 3))), kind="stable")
        gone = order[: group.width - group.width // 2]
        expected = old.copy()
        expected[gone] = 0
        assert np.array_equal(network.get_parameter(f"{part.layer}.weight").detach(), expected)
        for name in ("weight", "bias", "running_mean"):  # or nothing could grow back
            kept = network.state_dict()[f"{norm.layer}.{name}"]
            assert torch.equal(kept, before[f"{norm.layer}.{name}"])
    for name in ("classifier.weight", "classifier.bias"):
        assert torch.equal(network.state_dict()[name], before[name])


def test_a_stream_is_ranked_by_all_its_layers_together() -> None:
    here = space("resnet20_b")
    network = build(here.dense, seed=1)
    group = here.groups[0]
    layers = [part.layer for part in here.producers(group.name)]
    assert len(layers) == 4  # the stem and three blocks
    rows = [network.get_parameter(f"{layer}.weight").detach().numpy() for layer in layers]
    whole = np.concatenate([row.reshape(len(row), -1) for row in rows], axis=1).astype(float)
    lengths = filter_lengths(here, group, network)
    assert lengths.numpy() == pytest.approx(np.linalg.norm(whole, axis=1), rel=1e-12)


@pytest.mark.parametrize("network", ["grouped", "transposed"])
def test_each_block_of_a_grouped_layer_keeps_as_many(network: str) -> None:
    here = space(network)
    widths = half(network)
    whole = build(here.dense, seed=2, trust=True)
    zero_shortest(here, whole, widths)
    for group in here.groups:
        alive = filter_lengths(here, group, whole) > 0
        assert int(alive.sum()) == widths[group.name]
        assert len(set(alive.reshape(group.divisor, -1).sum(dim=1).tolist())) == 1


def test_a_zeroed_filter_grows_back(tmp_path: Path) -> None:
    source = dense("grouped", tmp_path, recipe=LONGER)
    here, widths = source.space, half("grouped")
    network = source.network()
    group = here.groups[0]
    zero_shortest(here, network, widths)
    zeroed = set((filter_lengths(here, group, network) == 0).nonzero().flatten().tolist())
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 0.1)  # as after some training: ReLUs pass a gradient
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for images, labels in source.data.train.batches(32, seed=0):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    lengths = filter_lengths(here, group, network)
    assert all(lengths[channel] > 0 for channel in zeroed)  # every one is alive again


@pytest.mark.parametrize("network", ["vgg_mini", "resnet20_b"])
def test_zeroed_filters_grow_back_in_a_real_training(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive, zeroed = [], []

    def counting(space: Space, trained: nn.Module, widths: Mapping[str, int]) -> None:
        def zeros() -> set[tuple[str, int]]:
            lengths = {g.name: filter_lengths(space, g, trained) for g in space.groups}
            return {(n, int(i)) for n, each in lengths.items() for i in (each == 0).nonzero()}

        alive.append(not zeros())
        zero_shortest(space, trained, widths)
        zeroed.append(zeros())

    monkeypatch.setattr(soft_filter_pruning, "zero_shortest", counting)
    recipe = LONGER.model_copy(update={"epochs": 6, "lr": 0.05})
    train_softly(dense(network, tmp_path, recipe=recipe), half(network))
    assert len(zeroed) == recipe.epochs
    assert all(alive)  # whatever an epoch's end has zeroed, the next epoch has changed
    assert all(len(gone) == sum(half(network).values()) for gone in zeroed)
    assert any(before != after for before, after in pairwise(zeroed))


@pytest.mark.parametrize("network", ["vgg_mini", "resnet20", "resnet20_b", "transposed"])
def test_what_zeroed_filters_come_out_as_goes_into_the_layers_that_read_them(
    network: str, tmp_path: Path
) -> None:
    """What is inherited lies nearer to the zeroed network than a plain cut; borders differ."""
    source = dense(network, tmp_path, recipe=LONGER)
    derived = SoftFilterPruning().derive(source, ratios=dict.fromkeys(half(network), 0.5))
    trained = train_softly(source, derived.architecture.widths)
    zeroed = build(source.space.dense, trust=True)
    zeroed.load_state_dict(trained.state)
    kept = derived.kept()
    assert kept is not None
    for group in source.space.groups:
        gone = torch.ones(group.width, dtype=torch.bool)
        gone[kept[group.name]] = False
        assert torch.equal(gone, filter_lengths(source.space, group, zeroed) == 0)
    images, _ = next(iter(source.data.validation.batches(64)))
    with torch.no_grad():
        expected = zeroed.eval()(images)
    assert expected.std(dim=0).max() > 0
    distances = []
    for weights in (derived.weights(), source.space.inherit(trained.state, kept)):
        small = build(derived.architecture, trust=True)
        small.load_state_dict(weights or {})
        with torch.no_grad():
            distances.append(float((small.eval()(images) - expected).abs().mean()))
    assert distances[0] < 0.5 * distances[1]


def test_the_best_epoch_is_inherited(tmp_path: Path) -> None:
    told: list[float] = []
    recipe = RECIPE.model_copy(update={"epochs": 5, "lr": 0.3, "schedule": "constant"})
    source = dense(
        "grouped",
        tmp_path,
        recipe=recipe,
        report=lambda what, metrics: told.append(metrics.validation.accuracy),
    )
    trained = train_softly(source, half("grouped"))
    assert len(told) == 5
    assert trained.validation.accuracy == max(told)


def test_an_interrupted_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    def interrupt(what: str, metrics: object) -> None:
        if getattr(metrics, "epoch", 0) == 2:
            raise KeyboardInterrupt

    whole = train_softly(dense("grouped", tmp_path / "a", recipe=LONGER), half("grouped"))
    source = dense("grouped", tmp_path / "b", recipe=LONGER)
    with pytest.raises(KeyboardInterrupt):
        train_softly(replace(source, report=interrupt), half("grouped"))
    resumed = train_softly(source, half("grouped"))
    assert all(torch.equal(resumed.state[name], whole.state[name]) for name in whole.state)
    assert resumed.validation == whole.validation


def test_each_choice_of_widths_is_its_own_training(tmp_path: Path) -> None:
    told: list[str] = []
    source = dense("grouped", tmp_path, report=lambda what, metrics: told.append(what))
    for share in (0.5, 0.75, 0.5):
        derived = SoftFilterPruning().derive(
            source, ratios={group.name: share for group in source.space.groups}
        )
        assert len(told) == len(set(told))
        derived.weights()
    assert len(told) == 2
