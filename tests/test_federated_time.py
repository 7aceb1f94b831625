"""Time models: the paper's figures, and what is refused."""

import math
from typing import Any

import pytest
from torch import nn
from torchvision.models import resnet18

from prunenas.errors import FederatedError
from prunenas.federated.presets import PRESETS, nominal, preset
from prunenas.federated.time import TimeModel
from prunenas.models.prunefl import conv2, conv4, vgg11_prunefl


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.weight": tuple(layer.weight.shape)
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }


def sizes(network: nn.Module) -> dict[str, int]:
    return {name: math.prod(shape) for name, shape in shapes(network).items()}


@pytest.mark.parametrize(
    ("name", "network", "weights", "dense", "empty"),
    [
        ("femnist", conv2(), 6_601_504, 51.081, 6.2464),
        ("cifar10", vgg11_prunefl(), 9_747_136, 209.614, 86.8495),
    ],
)
def test_rounds_last_as_long_as_in_the_authors_configuration(
    name: str, network: nn.Module, weights: int, dense: float, empty: float
) -> None:
    kept = sizes(network)
    assert sum(kept.values()) == weights
    time = preset(name, shapes(network))
    assert time.round_seconds(kept) == pytest.approx(dense, abs=5e-4)
    assert time.round_seconds(dict.fromkeys(kept, 0)) == pytest.approx(empty, abs=5e-5)


def test_celebas_constant_is_what_was_measured_with_one_weight_in_each_layer() -> None:
    network = conv4()
    time = preset("celeba", shapes(network), updates=1)
    communication = 5 * 8 * time.seconds_per_byte
    one_each = time.round_seconds(dict.fromkeys(shapes(network), 1))
    assert one_each - communication == pytest.approx(1.598415535595268)


def test_resnet18_is_pruned_without_the_projections_on_its_shortcuts() -> None:
    weights = shapes(resnet18(num_classes=100))
    assert len(weights) == 21
    time = preset("imagenet100", weights)
    assert set(weights) - set(time.layers) == {
        f"layer{stage}.0.downsample.0.weight" for stage in (2, 3, 4)
    }
    # The first and the last figures of the authors' file, 0 and 6.128180224224039e-06.
    assert time.layers["conv1.weight"] == pytest.approx(5.561621025626998e-06)
    assert time.layers["fc.weight"] == pytest.approx(5.561621025626998e-06 + 5 * 6.12818e-06)


def test_updates_and_bandwidth_change_their_own_parts() -> None:
    weights = shapes(conv2())
    name = "features.3.weight"
    slow = preset("femnist", weights, bandwidth=1e6)
    fast = preset("femnist", weights, bandwidth=4e6, updates=10)
    assert slow.seconds_per_byte == 1e-6
    assert slow.layers[name] == pytest.approx(8e-6 + 5 * 7.09885e-6)
    assert fast.layers[name] == pytest.approx(2e-6 + 10 * 7.09885e-6)
    assert fast.constant == pytest.approx(2 * slow.constant)
    # 8 bytes at 1.438 MB a second
    assert 1 / preset("femnist", weights).seconds_per_byte == pytest.approx(1.438e6, rel=1e-3)


def test_a_preset_of_another_network_is_refused() -> None:
    told = "Conv-2's, with 4 layers to prune, but this network has 11; `prunenas profile`"
    with pytest.raises(FederatedError, match=told):
        preset("femnist", shapes(vgg11_prunefl()))
    with pytest.raises(FederatedError, match="did you mean 'femnist'"):
        preset("fmnist", shapes(conv2()))
    assert sorted(PRESETS) == ["celeba", "cifar10", "femnist", "imagenet100"]


def test_nominal_follows_multiply_adds_and_is_of_the_presets_order() -> None:
    uses = [1024, 256, 64, 64, 16, 16, 4, 4, 1, 1, 1]
    kept = sizes(vgg11_prunefl())
    time = nominal(dict(zip(kept, uses, strict=True)), kept)
    communication = 8 * time.seconds_per_byte
    first, second = (time.layers[f"features.{layer}.weight"] for layer in (0, 3))
    assert (first - communication) / (second - communication) == pytest.approx(1024 / 256)
    paper = preset("cifar10", shapes(vgg11_prunefl()))
    # 17.36990 of 31.08082 seconds of a dense update, figures of the authors' configuration.
    update = time.round_seconds(kept) - communication * sum(kept.values())
    assert time.constant / update == pytest.approx(17.36990105989628 / 31.08082229309948, rel=1e-3)
    assert 0.3 < time.round_seconds(kept) / paper.round_seconds(kept) < 3


def test_it_is_plain_values_and_back() -> None:
    time = preset("femnist", shapes(conv2()))
    plain = time.to_dict()
    assert TimeModel.from_dict({**plain, "torch": "2.11"}) == time
    plain["layers"].clear()
    assert len(time.layers) == 4


@pytest.mark.parametrize("bad", [0, -1.0, math.inf, math.nan, True, "1", None])
@pytest.mark.parametrize("place", ["constant", "layer", "seconds_per_byte"])
def test_only_finite_positive_numbers_are_times(place: str, bad: Any) -> None:
    plain: dict[str, Any] = {"constant": 1.0, "layers": {"a.weight": 1.0}, "seconds_per_byte": 1.0}
    if place == "layer":
        plain["layers"] = {"a.weight": bad}
    else:
        plain[place] = bad
    with pytest.raises(FederatedError, match=r"must be finite and > 0, but is"):
        TimeModel.from_dict(plain)


@pytest.mark.parametrize(
    "bad", [None, [], {"constant": 1.0}, {"constant": 1, "layers": [], "seconds_per_byte": 1}]
)
def test_what_is_no_time_model_is_refused(bad: Any) -> None:
    with pytest.raises(FederatedError, match="a time model"):
        TimeModel.from_dict(bad)


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ({"a": 1, "b": 2, "c": 0}, "unknown layer of the time model 'c'"),
        ({"a": 1}, "but b is not"),
        ({"a": 1, "b": -1}, "b keeps -1"),
    ],
)
def test_a_round_of_other_layers_is_refused(kept: dict[str, int], told: str) -> None:
    with pytest.raises(FederatedError, match=told):
        TimeModel(1.0, {"a": 1.0, "b": 1.0}, 1.0).round_seconds(kept)


@pytest.mark.parametrize("wrong", [{"updates": 0}, {"bandwidth": 0.0}, {"bandwidth": -1.0}])
def test_bad_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(FederatedError, match="> 0"):
        preset("femnist", shapes(conv2()), **wrong)
    with pytest.raises(FederatedError, match="> 0"):
        nominal({"a": 1}, {"a": 1}, **wrong)


@pytest.mark.parametrize("uses", [{"b": 1}, {"a": 0}])
def test_nominal_needs_multiply_adds_of_every_layer(uses: dict[str, int]) -> None:
    with pytest.raises(FederatedError):
        nominal(uses, {"a": 1})
