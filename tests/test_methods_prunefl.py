"""PruneFL as a method: what a federation found, narrowed, cut to a budget, and never done twice."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from methods_networks import RECIPE, dense, digits, space
from torch import Tensor, nn

from prunenas.architecture import build, count_flops, masked_weights
from prunenas.errors import FederatedError, MethodError
from prunenas.federated import STRATEGIES, Federation, Setting, federate, run, time_model
from prunenas.methods import METHODS, Dense, Derivation, prunefl
from prunenas.methods.prunefl import PruneFL, _channels, _narrow

FEDERATION = Federation(clients=4, rounds=8, lr=0.2, partition="shards", evaluate_every=3)
QUICK: dict[str, Any] = {"initial": None, "removable": 0.8}


def source(folder: Path, network: str = "flattened", **settings: Any) -> Dense:
    federation = FEDERATION.model_copy(update=settings)
    return replace(dense(network, folder), federation=federation)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def found(folder: Path) -> Derivation:
    """Masks alone, of a training that the other tests read from the cache."""
    return PruneFL(narrow=False, **QUICK).derive(source(folder))


def tensors(derivation: Derivation) -> dict[str, Tensor]:
    return {name: mask.tensor() for name, mask in derivation.architecture.masks.items()}


def test_masks_and_weights_are_those_of_the_federation(found: Derivation, folder: Path) -> None:
    own = source(folder)
    setting = Setting(
        architecture=own.space.dense,
        data=own.data,
        federation=FEDERATION,
        strategy=STRATEGIES["prunefl"](interval=2, **QUICK),  # of 8 rounds a fourth
        time=time_model(FEDERATION, own.space),
        seed=own.seed,
    )
    ran = federate(setting)
    masks, weights = tensors(found), found.weights()
    assert weights is not None
    assert masks.keys() <= ran.masks.keys()
    for name, mask in ran.masks.items():
        assert torch.equal(masks.get(name, torch.ones_like(mask)), mask)
        assert torch.equal(weights[name], ran.weights[name])
        assert not weights[name][~mask].any()
    kept = sum(int(mask.sum()) for mask in ran.masks.values())
    assert found.notes["density"] == kept / sum(mask.numel() for mask in ran.masks.values())
    assert found.notes["search_seconds"] == pytest.approx(ran.history.seconds)
    assert found.notes["federated_accuracy"] == ran.history.points[-1].accuracy


def test_a_rounds_time_is_that_of_the_kept_weights(found: Derivation, folder: Path) -> None:
    own = source(folder)
    time = time_model(FEDERATION, own.space)
    state = found.weights()
    assert state is not None
    masks = tensors(found)
    layers = masked_weights(own.network())
    whole = time.constant + sum(time.layers[n] * layers[n].numel() for n in layers)
    left = whole - sum(time.layers[n] * int((~mask).sum()) for n, mask in masks.items())
    assert found.notes["dense_round_seconds"] == pytest.approx(whole)
    assert found.notes["round_seconds"] == pytest.approx(left)
    assert left < whole


def test_what_was_found_is_not_looked_for_again(
    found: Derivation, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained twice")

    monkeypatch.setattr("prunenas.federated.kept.federate", never)
    own = source(folder)
    again = PruneFL(narrow=False, **QUICK).derive(own, seed=5)
    assert again.architecture == found.architecture
    PruneFL(narrow=True, **QUICK).derive(own, flops=own.space.dense.flops // 2)
    with pytest.raises(AssertionError, match="trained twice"):
        PruneFL(narrow=False, **{**QUICK, "removable": 0.5}).derive(own)


def test_an_interrupted_search_goes_on(
    found: Derivation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_PATIENCE", 0.0)
    monkeypatch.setattr(run, "_SHARE", 0)
    steps: list[int] = []

    def progress(what: str, done: int, total: int, accuracy: float | None) -> None:
        assert (what, total) == ("prunefl", 8)
        assert (accuracy is not None) == (done in (3, 6, 8))
        steps.append(done)
        if steps == [1, 2, 3, 4, 5]:
            raise KeyboardInterrupt

    own = replace(source(tmp_path), progress=progress)
    with pytest.raises(KeyboardInterrupt):
        PruneFL(narrow=False, **QUICK).derive(own)
    resumed = PruneFL(narrow=False, **QUICK).derive(own)
    # Validations before the interruption are told again, rounds before it aren't done again.
    assert steps == [1, 2, 3, 4, 5, 3, 5, 6, 7, 8]
    assert resumed.architecture == found.architecture
    weights, others = resumed.weights(), found.weights()
    assert weights is not None
    assert others is not None
    assert all(torch.equal(weights[name], others[name]) for name in others)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("narrow", [False, True])
def test_a_budget_is_met_to_the_weight(share: float, narrow: bool, folder: Path) -> None:
    own = source(folder)  # of linear layers, which fill up to the last multiply-add
    budget = int(share * own.space.dense.flops)
    derivation = PruneFL(narrow=narrow, **QUICK).derive(own, flops=budget)
    architecture = derivation.architecture
    assert architecture.flops == budget
    masks = architecture.masks.values()
    gone = sum(mask.uses * int((~mask.tensor()).sum()) for mask in masks)
    network = build(architecture, trust=True)
    assert count_flops(network, architecture.input_shape) - gone == budget
    weights = derivation.weights()
    assert weights is not None
    network.load_state_dict(weights)


def test_a_budget_keeps_what_was_found_before_anything_else(
    found: Derivation, folder: Path
) -> None:
    own = source(folder)
    first, state = tensors(found), found.weights()
    assert state is not None
    method = PruneFL(narrow=False, **QUICK)
    less = tensors(method.derive(own, flops=int(0.8 * found.architecture.flops)))
    more = tensors(method.derive(own, flops=int(1.2 * found.architecture.flops)))
    for name, mask in first.items():
        assert not (less[name] & ~mask).any()
        assert not (mask & ~more.get(name, torch.ones_like(mask))).any()
        went = mask & ~less[name]
        assert (
            not went.any() or state[name][went].abs().max() <= state[name][less[name]].abs().min()
        )
    assert any(bool((mask & ~less[name]).any()) for name, mask in first.items())


def positive(network: nn.Module, keep: dict[str, Tensor]) -> nn.Module:
    """A network that a channel is 0 in exactly where no weight makes it."""
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            tensor.fill_(0.0) if name.endswith("bias") else tensor.abs_().add_(0.01)
        for name, weight in masked_weights(network).items():
            weight.masked_fill_(~keep.get(name, torch.ones_like(weight, dtype=torch.bool)), 0.0)
    return network.eval()


@pytest.mark.parametrize(
    "network", ["vgg_mini", "grouped", "concatenated", "half_normed", "flattened", "resnet20"]
)
@pytest.mark.parametrize("density", [0.01, 0.1])
def test_only_channels_that_are_always_zero_go_and_all_of_these(
    network: str, density: float
) -> None:
    here = space(network)
    whole = build(here.dense, seed=1, trust=True)
    random = torch.Generator().manual_seed(3)
    keep = {}
    for name, weight in masked_weights(whole).items():
        # A kernel's middle alone: what reads nothing but padding is made, and 0 even so.
        middle = torch.zeros(weight.shape[2:], dtype=torch.bool)
        middle[tuple(size // 2 for size in middle.shape)] = True
        kernels = torch.rand(weight.shape[:2], generator=random) < density
        kernels.view(-1)[int(torch.randint(kernels.numel(), (1,), generator=random))] = True
        keep[name] = kernels.reshape(*kernels.shape, *[1] * middle.dim()) & middle
    positive(whole, keep)
    state = {name: value.clone() for name, value in whole.state_dict().items()}
    kept, left = _channels(here, state, keep)
    if not kept:  # a layer would have nothing left, or no channel is off
        return
    architecture = _narrow(here, state, kept, left, {}, None)
    small = build(architecture, trust=True).eval()
    small.load_state_dict(here.inherit(state, kept))
    images = torch.rand(2, *here.dense.input_shape) + 0.1
    torch.testing.assert_close(small(images), whole(images))
    assert count_flops(small, architecture.input_shape) == architecture.whole_flops
    used = (
        sum(mask.uses * mask.weights for mask in architecture.masks.values())
        + architecture.whole_flops
        - sum(mask.whole_flops for mask in architecture.masks.values())
    )
    assert architecture.flops == used

    def alive(module: nn.Module, _: object, output: Tensor) -> None:
        of_channel = output.transpose(0, 1).flatten(1).abs().sum(dim=1)
        assert (of_channel > 0).all() or len(of_channel) == 1

    hooks = [
        dict(small.named_modules())[part.layer].register_forward_hook(alive)
        for group in here.groups
        if network not in ("grouped", "resnet20")  # blocks, and streams that are made later on
        if len(parts := here.producers(group.name)) == 1
        for part in parts
    ]
    small(images)
    assert hooks or network in ("grouped", "resnet20")


def test_narrow_networks_count_and_load(folder: Path) -> None:
    own = source(folder)
    derivation = PruneFL(**QUICK).derive(own, flops=own.space.dense.flops // 20)
    architecture = derivation.architecture
    assert derivation.notes["channels_removed"] > 0
    network = build(architecture, trust=True)
    assert count_flops(network, architecture.input_shape) == architecture.whole_flops
    weights = derivation.weights()
    assert weights is not None
    network.load_state_dict(weights)
    assert network(torch.rand(2, *architecture.input_shape)).shape == (2, 10)


def test_layers_that_take_no_part_stay_dense(tmp_path: Path) -> None:
    own = source(tmp_path, "vgg_mini", rounds=4)
    layers = list(masked_weights(own.network()))
    whole = layers[1].removesuffix(".weight")
    method = PruneFL(layers="convolutions", whole=(whole,), narrow=False, **QUICK)
    derivation = method.derive(own)
    linear = [n for n, weight in masked_weights(own.network()).items() if weight.dim() == 2]
    assert derivation.architecture.masks.keys() == {*layers} - {f"{whole}.weight", *linear}


def test_a_time_model_of_some_layers_prunes_only_these(tmp_path: Path) -> None:
    own = source(tmp_path, "vgg_mini", rounds=2)
    layers = list(masked_weights(own.network()))
    time = {"constant": 1.0, "layers": {layers[2]: 0.01}, "seconds_per_byte": 1e-6}
    own = replace(own, federation=Federation(**{**FEDERATION.settings(), "time": time}))
    assert PruneFL(narrow=False, **QUICK).derive(own).architecture.masks.keys() == {layers[2]}
    with pytest.raises(MethodError, match="needs a layer that the federation's time model"):
        PruneFL(whole=(layers[2].removesuffix(".weight"),), **QUICK).derive(own)


@pytest.mark.parametrize(("rounds", "asked", "comes"), [(8, 50, 2), (3, 50, 1), (200, 20, 20)])
def test_reconfigurations_come_four_times_at_least(
    rounds: int, asked: int, comes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Enough(Exception):
        pass

    def spy(setting: Setting, *_: object, **__: object) -> Iterator[None]:
        assert setting.strategy.model_dump()["interval"] == comes
        raise Enough

    monkeypatch.setattr(prunefl, "kept_run", spy)
    with pytest.raises(Enough):
        PruneFL(interval=asked, **QUICK).derive(source(tmp_path, rounds=rounds))


def test_without_a_federation_clients_see_as_much_as_the_recipe(tmp_path: Path) -> None:
    own = dense("flattened", tmp_path, recipe=RECIPE.model_copy(update={"epochs": 7, "lr": 0.03}))
    federation = own.federated()
    images = len(own.data.train)
    assert federation.clients == min(10, images // 20)
    a_round = federation.clients * federation.updates * federation.batch_size
    assert 0 <= federation.rounds * a_round - 7 * images < a_round
    assert (federation.lr, federation.partition.kind) == (0.03, "iid")


def test_tickets_keep_the_dense_networks_shapes(folder: Path) -> None:
    own = source(folder)
    ticket = replace(own, recipe=own.recipe.model_copy(update={"initial": "original"}))
    derivation = PruneFL(narrow=True, **QUICK).derive(ticket)
    assert derivation.architecture.widths == own.space.dense.widths


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="sets its own"):
        METHODS["prunefl"]().derive(source(tmp_path), ratios={"1": 0.5})
    with pytest.raises(FederatedError, match="initial pruning must be at one of 4 clients"):
        METHODS["prunefl"](initial={"client": 4}).derive(source(tmp_path))
    assert len(digits().train) > 4
