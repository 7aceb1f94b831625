"""The training loop leaves dropped weights at 0: whatever the recipe, interrupted or not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training_resume import Interrupting
from torch import Tensor, nn
from training_digits import Tensors, digits, same_state, small_network

from prunenas.architecture import masked
from prunenas.architecture.masking import put_on
from prunenas.errors import TrainingError
from prunenas.training import Recipe, loop, train

DATA = digits(193, 64)
RECIPE = Recipe(epochs=3, batch_size=64, lr=0.05, momentum=0.9, weight_decay=0.05)
NAMES = ("0.weight", "4.weight", "10.weight")  # two convolutions and the linear layer

RECIPES: dict[str, dict[str, Any]] = {
    "momentum and weight decay": {},
    "nesterov": {"nesterov": True},
    "plain": {"momentum": 0, "weight_decay": 0},
    "warm-up, cosine": {"schedule": "cosine", "warmup_epochs": 1, "decay_all": False},
    "bfloat16": {"precision": "bfloat16"},
    "contiguous": {"memory_format": "contiguous", "label_smoothing": 0.1},
}
every_recipe = pytest.mark.parametrize("fields", RECIPES.values(), ids=RECIPES.keys())


def recipe(fields: dict[str, Any]) -> Recipe:
    return RECIPE.model_validate({**RECIPE.model_dump(), **fields})


def keep(seed: int = 0, density: float = 0.3) -> dict[str, Tensor]:
    random, network = torch.Generator().manual_seed(seed), small_network()
    return {
        name: torch.rand(network.get_parameter(name).shape, generator=random) < density
        for name in NAMES
    }


def sparse(seed: int = 0, *, persistent: bool = False) -> nn.Module:
    network = small_network()
    put_on(network, keep(seed), persistent=persistent)
    return network


def moved(network: nn.Module) -> bool:
    return any(bool(weight.detach()[~mask].any()) for weight, mask in masked(network))


@every_recipe
def test_dropped_weights_are_zero_in_every_forward_pass(fields: dict[str, Any]) -> None:
    network, seen = sparse(), list[bool]()
    network.register_forward_pre_hook(lambda module, inputs: seen.append(moved(module)))
    before = {name: value.clone() for name, value in network.named_parameters()}
    train(network, DATA, recipe(fields), seed=1)
    assert len(seen) >= 3 * 3
    assert not any(seen)
    assert not moved(network)
    assert all(not torch.equal(before[name], value) for name, value in network.named_parameters())


def test_without_them_the_weights_would_move(monkeypatch: pytest.MonkeyPatch) -> None:
    # The laws above could fail: this is what a loop without masks does.
    monkeypatch.setattr(loop, "Masks", lambda network: _None())
    network = sparse()
    train(network, DATA, RECIPE, epochs=1, seed=1)
    assert moved(network)


class _None:
    def silence(self) -> None: ...

    def drop(self) -> None: ...


class _Times(nn.Module):
    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


@pytest.mark.parametrize("nesterov", [False, True])
def test_others_move_as_where_the_dropped_ones_are_multiplied_by_zero(nesterov: bool) -> None:
    network, other = sparse(), small_network()
    for name, mask in keep().items():
        layer = other.get_submodule(name.removesuffix(".weight"))
        nn.utils.parametrize.register_parametrization(layer, "weight", _Times(mask))
    for each in (network, other):
        train(each, DATA, recipe({"nesterov": nesterov}), seed=1)
    images = torch.cat([images for images, _ in DATA.validation.batches(64)])
    torch.testing.assert_close(network.eval()(images), other.eval()(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3.0])
def test_whatever_was_there_is_dropped_at_the_start(value: float) -> None:
    clean, spoilt = sparse(), sparse()
    for weight, mask in masked(spoilt):
        weight.data[~mask] = value
    for each in (clean, spoilt):
        train(each, DATA, RECIPE, epochs=1, seed=1)
    assert same_state(clean, spoilt)


def test_a_gradient_that_is_not_finite_ends_the_training_with_its_reason() -> None:
    def spoil(network: nn.Module, lr: float) -> None:
        weight, mask = masked(network)[0]
        assert weight.grad is not None
        weight.grad[~mask] = float("inf")

    with pytest.raises(TrainingError, match="the loss must stay finite") as caught:
        train(sparse(), DATA, RECIPE, seed=1, penalty=spoil)
    assert caught.value.reason.startswith("non-finite loss")


def change(network: nn.Module, epoch: int) -> None:
    """Other weights are there after each epoch, as in methods that drop away and back."""
    for name, kept in keep(seed=epoch).items():
        layer = network.get_submodule(name.removesuffix(".weight"))
        layer.get_buffer("weight_mask").copy_(kept)


HOOKS: dict[str, dict[str, Any]] = {
    "fixed": {},
    "the best epoch": {"keep_best": True},
    "masks that change": {"after_epoch": change},
    "masks that change, the best epoch": {"after_epoch": change, "keep_best": True},
}


@pytest.mark.parametrize("hooks", HOOKS.values(), ids=HOOKS.keys())
@pytest.mark.parametrize("fields", [{"nesterov": True}, {"precision": "bfloat16"}])
def test_interrupted_it_ends_as_if_it_had_not_been(
    fields: dict[str, Any], hooks: dict[str, Any], tmp_path: Path
) -> None:
    def make() -> nn.Module:
        return sparse(persistent="after_epoch" in hooks)

    how, path = recipe({"epochs": 4, **fields}), tmp_path / "a.pt"
    whole, resumed = make(), make()
    train(whole, DATA, how, seed=1, **hooks)
    assert isinstance(DATA.train, Tensors)
    broken = replace(DATA, train=Interrupting(DATA.train.images, DATA.train.labels))
    with pytest.raises(KeyboardInterrupt):
        train(make(), broken, how, seed=1, checkpoint=path, **hooks)
    heard: list[int] = []
    train(
        resumed,
        DATA,
        how,
        seed=1,
        checkpoint=path,
        report=lambda epoch: heard.append(epoch.epoch),
        **hooks,
    )
    assert heard == [1, 2, 3, 4]
    assert same_state(whole, resumed)
    assert not moved(whole)
    assert not moved(resumed)
    if hooks == {"after_epoch": change}:
        for name, mask in keep(seed=4).items():
            layer = resumed.get_submodule(name.removesuffix(".weight"))
            assert torch.equal(layer.get_buffer("weight_mask"), mask)


def test_the_checkpoint_of_other_masks_is_not_taken_up(tmp_path: Path) -> None:
    path, how = tmp_path / "a.pt", recipe({"epochs": 1})
    first = train(sparse(), DATA, how, seed=1, checkpoint=path, keep_end=True)
    assert train(sparse(), DATA, how, seed=1, checkpoint=path) == first  # read back, seconds too
    fresh, given = sparse(seed=5), sparse(seed=5)
    train(fresh, DATA, how, seed=1)
    train(given, DATA, how, seed=1, checkpoint=path)
    assert same_state(fresh, given)
