"""Filters that are off become fewer channels: which ones, at what cost, and what they passed on."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from methods_networks import NORMED, SOURCES, dense, digits, space
from torch import Tensor, nn

from prunenas.architecture import (
    Architecture,
    Space,
    build,
    count_flops,
    masked,
    masked_weights,
    trace,
)
from prunenas.errors import BudgetError, MethodError
from prunenas.methods import METHODS, Dense, Derivation
from prunenas.methods._folding import difference, fold
from prunenas.methods._narrowing import narrowed
from prunenas.methods._weight_level import sparse_architecture
from prunenas.training import Recipe


def _unit(channels: int, out: int, *, padding: int, norm: bool, bias: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(channels, out, 3, padding=padding, bias=bias)]
    if norm:
        layers.append(nn.BatchNorm2d(out))
    return nn.Sequential(*layers, nn.ReLU())


def chain(padding: int = 0, norm: bool = True, bias: bool = False, pool: bool = True) -> nn.Module:
    """Two convolutions behind the first, and a linear layer that reads what is left of them."""
    units = [
        _unit(channels, out, padding=padding, norm=norm, bias=bias)
        for channels, out in ((1, 6), (6, 8), (8, 7))
    ]
    side = 8 - 6 * (1 - padding)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(7, 10)]
    return nn.Sequential(*units, *(head if pool else (nn.Flatten(), nn.Linear(7 * side**2, 10))))


class Added(nn.Module):
    """The last convolution's output meets the stream before it is normalised: nowhere to fold."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, bias=False)
        self.inner = _unit(8, 9, padding=0, norm=True, bias=False)
        self.last = nn.Conv2d(9, 8, 1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        stream = self.first(images)
        stream = stream[:, :, 1:-1, 1:-1] + self.last(self.inner(stream))
        logits: Tensor = self.head(torch.relu(self.norm(stream)).mean(dim=(2, 3)))
        return logits


def half_off(space: Space, *, seed: int = 0) -> dict[str, Tensor]:
    """About half of the filters of all convolutions but the first, by a coin."""
    random = torch.Generator().manual_seed(seed)
    keep = {}
    for name, weight in masked_weights(build(space.dense, trust=True)).items():
        if weight.dim() == 4:
            keep[name] = torch.rand(len(weight), generator=random) < 0.5
            keep[name][0] = True
    return dict(list(keep.items())[1:])


def lively(network: nn.Module, *, seed: int = 0) -> nn.Module:
    """With shifts and biases as a training leaves them, most of them above 0: constants matter."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                for each, low in ((layer.bias, 0.5), (layer.weight, 0.5)):
                    each.copy_(low + torch.rand(each.shape, generator=random))
                assert layer.running_mean is not None
                assert layer.running_var is not None
                layer.running_mean.copy_(torch.randn(layer.num_features, generator=random) / 2)
                layer.running_var.copy_(0.5 + torch.rand(layer.num_features, generator=random))
            elif isinstance(layer, nn.Conv2d) and layer.bias is not None:
                layer.bias.copy_(torch.randn(layer.bias.shape, generator=random))
    return network


def both(space: Space, keep: Mapping[str, Tensor], *, folding: bool = True) -> tuple[float, int]:
    """How far the narrow network is from the masked one, and how many channels it lacks."""
    network = lively(build(space.dense, seed=0, trust=True)).double()
    with torch.no_grad():
        for name, mask in keep.items():
            network.get_parameter(name)[~mask] = 0.0
    state = {name: value.clone() for name, value in network.state_dict().items()}
    images = next(digits().train.batches(20))[0].double()
    narrowing = narrowed(space, keep)
    if folding:
        fold(space, network, narrowing.kept, images)
    small = build(narrowing.architecture(space), trust=True).double()
    small.load_state_dict(space.inherit(network.state_dict(), narrowing.kept))
    network.load_state_dict(state)
    gone = sum(space.dense.widths.values()) - sum(small_widths(space, narrowing.kept).values())
    return difference(network, small, images), gone


def small_widths(space: Space, kept: Mapping[str, Tensor]) -> dict[str, int]:
    return {group.name: len(kept.get(group.name, range(group.width))) for group in space.groups}


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize(("norm", "bias"), [(True, False), (True, True), (False, True)])
def test_folding_is_exact_without_padding(norm: bool, bias: bool, pool: bool) -> None:
    arguments = {"norm": norm, "bias": bias, "pool": pool}
    own = trace("test_methods_narrowing:chain", arguments=arguments, input_shape=(1, 8, 8))
    error, gone = both(own, half_off(own))
    assert gone >= 5
    assert error < 1e-6  # of float32 logits
    assert both(own, half_off(own), folding=False)[0] > 1e-3


def test_with_padding_the_border_is_what_folding_misses() -> None:
    own = trace("test_methods_narrowing:chain", arguments={"padding": 1}, input_shape=(1, 8, 8))
    keep = half_off(own, seed=1)
    error, _ = both(own, keep)
    without, _ = both(own, keep, folding=False)
    assert 1e-6 < error < without / 100


def test_a_shift_that_meets_a_stream_is_lost_and_told() -> None:
    own = trace("test_methods_narrowing:Added", input_shape=(1, 8, 8))
    keep = {name: mask for name, mask in half_off(own).items() if name == "inner.0.weight"}
    error, gone = both(own, keep)
    assert gone >= 3
    assert error > 1e-3
    assert error == pytest.approx(both(own, keep, folding=False)[0])


def test_a_depthwise_layer_and_the_one_before_it_lose_a_channel_together() -> None:
    own = space("depthwise")
    keep = {
        "0.0.weight": torch.tensor([1, 1, 0, 0, 1, 0, 0, 1], dtype=torch.bool),
        "1.0.weight": torch.tensor([1, 0, 1, 0, 1, 1, 0, 1], dtype=torch.bool),
    }
    found = narrowed(own, keep)
    assert [kept.tolist() for kept in found.kept.values()] == [[0, 1, 2, 4, 5, 7]]
    assert found.masks["0.0.weight"].tolist() == [True, True, False, True, False, True]
    assert found.off == 3


@pytest.mark.parametrize("network", sorted(SOURCES))
def test_a_channel_goes_if_all_that_makes_it_is_off_by_brute_force(network: str) -> None:
    own, keep = space(network), half_off(space(network), seed=4)
    found = narrowed(own, keep)
    for group in own.groups:
        parts = own.producers(group.name)
        stays = {
            channel
            for channel in range(group.width)
            if not parts
            or any(
                bool(keep[f"{part.layer}.weight"][part.start + channel * part.repeat + j])
                if f"{part.layer}.weight" in keep
                else True
                for part in parts
                for j in range(part.repeat)
            )
        }
        kept = found.kept.get(group.name, torch.arange(group.width)).tolist()
        assert stays <= set(kept)
        if group.divisor == 1:
            assert set(kept) == (stays or {0})
        blocks = torch.bincount(torch.tensor(kept) // (group.width // group.divisor))
        assert len(blocks.unique()) == 1
    architecture = found.architecture(own)
    assert architecture.flops == found.flops
    assert found.flops <= sparse_architecture(own, keep, "filter").flops
    built = build(architecture, trust=True)
    assert count_flops(built, architecture.input_shape) == architecture.whole_flops
    assert Architecture.from_dict(architecture.to_dict()) == architecture


def gibbs(source: Dense, *, flops: int | None = None, **settings: Any) -> Derivation:
    method = METHODS["gibbs"](unit="filter", narrow=True, **settings)
    return method.derive(source, flops=flops)


@pytest.mark.parametrize("network", [*NORMED, "flattened"])
def test_gibbs_narrows_every_network(network: str, tmp_path: Path) -> None:
    source = dense(network, tmp_path)
    found = gibbs(source, density=0.4)
    architecture, notes = found.architecture, found.notes
    assert architecture.whole_flops < source.space.dense.flops
    assert notes["channels_removed"] > 0
    assert 0 <= notes["folding_error"] < 0.05
    assert notes["density"] == pytest.approx(0.4, abs=0.1)
    masks = architecture.masks.values()
    assert notes["filters_masked"] == sum(mask.units - mask.kept for mask in masks)
    built = build(architecture, trust=True)
    assert count_flops(built, architecture.input_shape) == architecture.whole_flops
    built.load_state_dict(found.weights() or {}, strict=True)
    for weight, mask in masked(built):
        assert (weight[~mask] == 0).all()
    kept = found.kept() or {}
    assert architecture.widths == small_widths(source.space, kept)
    assert built(torch.rand(2, *architecture.input_shape)).shape == (2, 10)


def test_a_plain_network_has_no_masks_left(tmp_path: Path) -> None:
    source = dense("vgg_mini", tmp_path)
    found = gibbs(source, density=0.25)
    assert not found.architecture.masks
    assert found.notes["filters_masked"] == 0
    widths = list(found.architecture.widths.values())
    assert widths == [16, 8, 16, 16]  # the first convolution is whole
    wide = METHODS["gibbs"](unit="filter", density=0.25).derive(source).architecture
    assert wide.widths == source.space.dense.widths
    for (name, mask), (group, indices) in zip(
        wide.masks.items(), (found.kept() or {}).items(), strict=True
    ):
        assert name == f"{group}.weight"
        assert mask.tensor().flatten(1)[:, 0].nonzero().flatten().tolist() == indices.tolist()
    assert found.architecture.flops < wide.flops


@pytest.mark.parametrize("network", ["vgg_mini", "resnet20_b", "grouped"])
@pytest.mark.parametrize("share", [0.6, 0.3])
def test_a_budget_is_met_with_the_channels_that_are_left(
    network: str, share: float, tmp_path: Path
) -> None:
    source = dense(network, tmp_path)
    budget = int(share * source.space.dense.flops)
    flops = gibbs(source, flops=budget).architecture.flops
    # Of the grouped network's 16 channels four go at a time.
    assert (0.7 if network == "grouped" else 0.93) * budget <= flops <= budget


def test_a_budget_below_one_filter_of_each_layer_is_refused(tmp_path: Path) -> None:
    source = dense("vgg_mini", tmp_path)
    groups = source.space.groups
    least = source.space.flops({group.name: 1 for group in groups[1:]})  # the first is whole
    with pytest.raises(BudgetError, match=f"every layer keeps a filter, so that {least:,} FLOPs"):
        gibbs(source, flops=least - 1)


def test_narrow_networks_begin_with_fresh_weights(tmp_path: Path) -> None:
    source = dense("vgg_mini", tmp_path)
    recipe = Recipe(**{**source.recipe.model_dump(), "initial": "original"})
    with pytest.raises(MethodError, match=r"train\.initial is original"):
        gibbs(replace(source, recipe=recipe))


def test_only_filters_become_channels(tmp_path: Path) -> None:
    source = dense("vgg_mini", tmp_path)
    one, other = (
        METHODS["gibbs"](unit="kernel", narrow=narrow).derive(source) for narrow in (True, False)
    )
    assert one.architecture == other.architecture
    assert one.notes == other.notes
