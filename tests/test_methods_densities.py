"""Densities given layer by layer: what is kept, what a budget makes of them, what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from methods_networks import dense

from prunenas.architecture import Mask
from prunenas.errors import BudgetError, MethodError
from prunenas.methods import METHODS, Dense, Derivation
from prunenas.methods._weight_level import prunable

TAKERS = [name for name, method in METHODS.items() if method.takes_densities]
every_method = pytest.mark.parametrize("method", TAKERS)
SHARES = (0.9, 0.05, 0.4, 0.123, 0.7, 0.3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def derived(
    method: str,
    source: Dense,
    densities: dict[str, float] | None,
    *,
    flops: int | None = None,
    fixed: tuple[str, ...] = (),
    **settings: Any,
) -> Derivation:
    made = METHODS[method](**settings)
    return made.derive(source, ratios=densities, flops=flops, fixed=fixed, seed=1)


def proposed(method: str, source: Dense, **settings: Any) -> dict[str, float]:
    layers = METHODS[method](**settings).density_layers(source.space)
    return {name: SHARES[index % len(SHARES)] for index, name in enumerate(layers)}


def kept(mask: Mask) -> int:
    return int(np.unpackbits(np.frombuffer(mask.bits or b"", np.uint8), count=mask.units).sum())


@every_method
@pytest.mark.parametrize("layers", ["convolutions", "all"])
@pytest.mark.parametrize("network", ["vgg_mini", "resnet20", "grouped"])
def test_each_layer_keeps_its_own_share(
    method: str, network: str, layers: str, folder: Path
) -> None:
    source = dense(network, folder)
    shares = proposed(method, source, layers=layers)
    masks = derived(method, source, shares, layers=layers).architecture.masks
    assert {f"{name}.weight" for name in shares} == masks.keys()
    for name, share in shares.items():
        mask = masks[f"{name}.weight"]
        assert kept(mask) == max(1, round(share * mask.units))


@every_method
def test_the_layers_with_densities_are_those_that_lose_weights(method: str, folder: Path) -> None:
    for network in ("vgg_mini", "resnet20_b", "grouped", "separable", "transposed"):
        source = dense(network, folder)
        for settings in ({}, {"layers": "all"}, {"layers": "all", "whole": ("*0*",)}):
            made = METHODS[method](**settings)
            weights = prunable(
                source.space, source.network(), settings.get("layers", "convolutions"), made.whole
            )
            assert [f"{name}.weight" for name in made.density_layers(source.space)] == list(weights)


def test_magnitude_keeps_each_layers_largest_by_numpy(folder: Path) -> None:
    source = dense("resnet20", folder)
    shares = proposed("magnitude", source)
    masks = derived("magnitude", source, shares).architecture.masks
    for name, share in shares.items():
        sizes = np.abs(source.state()[f"{name}.weight"].numpy()).ravel()
        largest = np.argsort(-sizes, kind="stable")[: round(share * sizes.size)]
        expected = np.zeros(sizes.size, dtype=bool)
        expected[largest] = True
        assert np.array_equal(masks[f"{name}.weight"].tensor().numpy().ravel(), expected)


@pytest.mark.parametrize(
    ("method", "setting"), [("magnitude", "scope"), ("random_sparse", "distribution")]
)
@pytest.mark.parametrize("share", [0.37, 0.05])
def test_equal_densities_are_the_uniform_ones_bit_for_bit(
    method: str, setting: str, share: float, folder: Path
) -> None:
    source = dense("resnet20", folder)
    names = METHODS[method]().density_layers(source.space)
    uniform = {setting: "uniform"}
    own = derived(method, source, dict.fromkeys(names, share)).architecture
    assert own.bits() == derived(method, source, None, density=share, **uniform).architecture.bits()
    budget = int(0.4 * source.space.dense.flops)
    own = derived(method, source, dict.fromkeys(names, share), flops=budget).architecture
    assert own.bits() == derived(method, source, None, flops=budget, **uniform).architecture.bits()


@every_method
@pytest.mark.parametrize("share", [0.6, 0.2])
def test_a_budget_scales_all_by_one_factor_but_the_fixed(
    method: str, share: float, folder: Path
) -> None:
    source = dense("resnet20", folder)
    shares = proposed(method, source)
    still = list(shares)[3]
    budget = int(share * source.space.dense.flops)
    found = derived(method, source, shares, flops=budget, fixed=(still,)).architecture
    assert 0.999 * budget <= found.flops <= budget
    factors = []
    for name, asked in shares.items():
        mask = found.masks.get(f"{name}.weight")
        density = 1.0 if mask is None else mask.density
        if name == still:
            assert density == pytest.approx(asked, abs=0.51 / (mask.units if mask else 1))
        elif mask is not None:
            slack = 0.5 / (asked * mask.units)
            factors.append((density / asked - slack, density / asked + slack))
    # One factor explains every layer's rounded count.
    assert max(low for low, _ in factors) <= min(high for _, high in factors) * (1 + 1e-9)


@every_method
def test_a_budget_that_fixed_layers_exceed_names_the_smallest(method: str, folder: Path) -> None:
    source = dense("resnet20", folder)
    shares = dict.fromkeys(METHODS[method]().density_layers(source.space), 0.5)
    held = tuple(list(shares)[1:])
    with pytest.raises(BudgetError, match=r"[\d,]+ FLOPs of masked layers are left at least"):
        derived(method, source, shares, flops=source.space.dense.flops // 4, fixed=held)
    with pytest.raises(BudgetError, match="FLOPs"):
        derived(method, source, shares, flops=1)


@every_method
def test_densities_that_are_not_the_layers_are_refused(method: str, folder: Path) -> None:
    source = dense("vgg_mini", folder)
    shares = proposed(method, source)
    first = next(iter(shares))
    with pytest.raises(MethodError, match=f"but {first} has none. Known: {first}, "):
        derived(method, source, {name: d for name, d in shares.items() if name != first})
    with pytest.raises(MethodError, match="nowhere is no such layer"):
        derived(method, source, {**shares, "nowhere": 0.5})
    for wrong in (0.0, 1.5, float("nan")):
        with pytest.raises(MethodError, match="`0 < density <= 1` must hold"):
            derived(method, source, {**shares, first: wrong})


@every_method
def test_layers_left_whole_have_no_density(method: str, folder: Path) -> None:
    source = dense("resnet20", folder)
    settings = {"whole": ("stage2", "conv1")}
    shares = proposed(method, source, **settings)
    assert not any(name.startswith(("stage2.", "conv1")) for name in shares)
    masks = derived(method, source, shares, **settings).architecture.masks
    assert masks.keys() == {f"{name}.weight" for name in shares}


def test_iterative_pruning_reaches_each_layers_density_in_equal_factors(tmp_path: Path) -> None:
    source = dense("vgg_mini", tmp_path)
    shares = proposed("magnitude", source)
    last = derived("magnitude", source, shares, rounds=2).architecture
    half = {name: share**0.5 for name, share in shares.items()}
    first = derived("magnitude", source, half).architecture
    for name, share in shares.items():
        mask = last.masks[f"{name}.weight"]
        assert mask.kept == round(share * mask.units)
        before = first.masks.get(f"{name}.weight")
        assert before is None or bool((mask.tensor() <= before.tensor()).all())
    budget = int(0.3 * source.space.dense.flops)
    met = derived("magnitude", source, shares, rounds=2, flops=budget).architecture
    assert 0.99 * budget <= met.flops <= budget


def test_random_masks_differ_by_seed_alone(folder: Path) -> None:
    source = dense("vgg_mini", folder)
    shares = proposed("random_sparse", source)
    one, other, again = (
        METHODS["random_sparse"]().derive(source, ratios=shares, seed=seed).architecture
        for seed in (1, 2, 1)
    )
    assert one.bits() == again.bits()
    assert one.flops == other.flops
    assert not torch.equal(*(each.masks["features.4.weight"].tensor() for each in (one, other)))
