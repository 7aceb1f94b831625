"""Dropped weights never move."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunenas.architecture import build, masked, masked_weights, trace, with_masks
from prunenas.training.masks import Masks

SPACE = trace("vgg_mini", arguments={"in_channels": 1, "input_size": 8}, input_shape=(1, 8, 8))

OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "sgd": lambda network: torch.optim.SGD(network.parameters(), lr=0.1),
    "momentum": lambda network: torch.optim.SGD(
        network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1
    ),
    "nesterov": lambda network: torch.optim.SGD(
        network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1, fused=True
    ),
    "adamw": lambda network: torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.1),
    "adamw, foreach": lambda network: torch.optim.AdamW(
        network.parameters(), lr=0.01, weight_decay=0.1, foreach=True, amsgrad=True
    ),
    "adamw, fused": lambda network: torch.optim.AdamW(
        network.parameters(), lr=0.01, weight_decay=0.1, fused=True
    ),
    "rmsprop": lambda network: torch.optim.RMSprop(
        network.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1, centered=True
    ),
}


def keep(density: float, seed: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(weight.shape, generator=random) < density
        for name, weight in masked_weights(build(SPACE.dense)).items()
    }


def sparse(seed: int = 0) -> nn.Module:
    dense = build(SPACE.dense)
    return build(with_masks(SPACE, SPACE.dense, dense, keep(0.3, seed)), seed=seed)


def step(network: nn.Module, optimizer: torch.optim.Optimizer, masks: Masks) -> None:
    optimizer.zero_grad()
    network(torch.rand(8, 1, 8, 8)).square().sum().backward()
    masks.silence()
    optimizer.step()
    masks.drop()


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_dropped_weights_stay_zero_and_others_move(kind: str) -> None:
    network = sparse()
    optimizer, masks = OPTIMIZERS[kind](network), Masks(network)
    before = {name: value.clone() for name, value in network.named_parameters()}
    for _ in range(5):
        step(network, optimizer, masks)
    for weight, mask in masked(network):
        assert (weight[~mask] == 0).all()
        for value in optimizer.state[weight].values():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                assert (value[~mask] == 0).all()
    assert all(not torch.equal(before[name], value) for name, value in network.named_parameters())


@pytest.mark.parametrize("kind", ["momentum", "nesterov", "adamw, fused"])
def test_a_step_that_overflows_under_a_scaler_moves_nothing(kind: str) -> None:
    # What float16 does on a GPU: losses are scaled, and a step with infinite gradients is skipped.
    network = sparse()
    optimizer, masks = OPTIMIZERS[kind](network), Masks(network)
    scaler: Any = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=1)
    for scale in (1.0, 1e38, 1.0):
        before = [weight.detach().clone() for weight in network.parameters()]
        optimizer.zero_grad()
        loss = network(torch.rand(8, 1, 8, 8)).square().mean() * scale
        scaler.scale(loss).backward()
        masks.silence()
        scaler.step(optimizer)
        scaler.update()
        masks.drop()
        moved = [not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True)]
        assert all(moved) if scale == 1 else not any(moved)
        for weight, mask in masked(network):
            assert (weight[~mask] == 0).all()
    assert scaler.get_scale() == 2.0**11  # grown twice, halved once


@pytest.mark.parametrize("kind", ["momentum", "adamw"])
def test_they_move_as_in_a_network_that_never_had_the_others(kind: str) -> None:
    # The same network whose dropped weights are multiplied by 0 in the forward pass.
    network, other = sparse(), sparse()
    for layer in other.modules():
        mask = getattr(layer, "weight_mask", None)
        if isinstance(mask, Tensor):
            nn.utils.parametrize.register_parametrization(layer, "weight", _Times(mask))
    torch.manual_seed(0)
    optimizer, masks = OPTIMIZERS[kind](network), Masks(network)
    for _ in range(3):
        step(network, optimizer, masks)
    torch.manual_seed(0)
    optimizer = OPTIMIZERS[kind](other)
    for _ in range(3):
        optimizer.zero_grad()
        other(torch.rand(8, 1, 8, 8)).square().sum().backward()
        optimizer.step()
    images = torch.rand(4, 1, 8, 8)
    torch.testing.assert_close(network.eval()(images), other.eval()(images))


class _Times(nn.Module):
    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


@pytest.mark.parametrize("kind", ["momentum", "nesterov", "adamw"])
def test_a_weight_that_comes_back_has_no_momentum(kind: str) -> None:
    network = sparse()
    optimizer, masks = OPTIMIZERS[kind](network), Masks(network)
    step(network, optimizer, masks)
    others = keep(0.5, seed=1)
    for name, layer in network.named_modules():
        if f"{name}.weight" in others:
            layer.register_buffer("weight_mask", others[f"{name}.weight"], persistent=False)
    masks.changed(optimizer)
    for weight, mask in masked(network):
        assert (weight[~mask] == 0).all()
        for value in optimizer.state[weight].values():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                assert (value[~mask] == 0).all()
                assert value[mask].any()
    step(network, optimizer, masks)
    for weight, mask in masked(network):
        assert (weight[~mask] == 0).all()


def test_a_network_without_masks_has_none() -> None:
    masks = Masks(build(SPACE.dense))
    assert not masks
    masks.silence()
    masks.drop()
