"""Laws that every method that drops weights keeps."""

from pathlib import Path
from typing import Any

import pytest
import torch
from methods_networks import RECIPE, dense
from torch import nn

from prunenas.architecture import Architecture, build, count_flops, masked
from prunenas.errors import BudgetError, MethodError
from prunenas.methods import METHODS, Dense, Derivation
from prunenas.methods._units import erk_densities
from prunenas.training import Recipe

WEIGHTS = [name for name, method in METHODS.items() if method.granularity == "weight"]
every_method = pytest.mark.parametrize("method", WEIGHTS)

QUICK: dict[str, dict[str, Any]] = {
    "drop_pruning": {"steps": 3, "finish_epochs": 1},
    # Rows without weights become fewer channels in tests of its own.
    "prunefl": {"initial": {"batches": 1, "passes": 11}, "narrow": False},
}
UNITS = {"gibbs": ({"unit": "kernel"}, {"unit": "filter"})}

NETWORKS = ("vgg_mini", "resnet20", "grouped")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def derived(method: str, source: Dense, *, flops: int | None = None, **more: Any) -> Derivation:
    settings = {**QUICK.get(method, {}), **more}
    if "density" not in METHODS[method].model_fields:  # it finds its own
        settings.pop("density", None)
    return METHODS[method](**settings).derive(source, flops=flops, seed=1)


def check(source: Dense, derivation: Derivation, *, weightless: bool = False) -> None:
    """It builds, counts, and its weights are there where the masks keep them, and only there."""
    architecture = derivation.architecture
    assert architecture.widths == source.space.dense.widths
    assert architecture.masks
    assert Architecture.from_dict(architecture.to_dict()) == architecture
    network = build(architecture, trust=True)
    assert count_flops(network, architecture.input_shape) == architecture.whole_flops
    assert architecture.whole_flops == source.space.dense.flops
    weights = derivation.weights()
    assert (weights is None) == weightless
    network.load_state_dict(weights or {}, strict=not weightless)
    pairs = masked(network)
    assert len(pairs) == len(architecture.masks)
    for weight, mask in pairs:
        assert (weight[~mask] == 0).all()
        assert mask.any()
        assert weight[mask].any()


@every_method
@pytest.mark.parametrize("network", NETWORKS)
def test_derives_masks_that_build_count_and_carry_weights(
    method: str, network: str, folder: Path
) -> None:
    source = dense(network, folder)
    weightless = METHODS[method].kind == "predefined"  # they choose no trained weights
    check(source, derived(method, source, density=0.3), weightless=weightless)
    for settings in UNITS.get(method, ()):
        check(source, derived(method, source, density=0.5, **settings))


@every_method
@pytest.mark.parametrize("share", [0.6, 0.3])
def test_a_budget_is_met_by_surviving_multiply_adds(
    method: str, share: float, folder: Path
) -> None:
    source = dense("resnet20", folder)
    budget = int(share * source.space.dense.flops)
    flops = derived(method, source, flops=budget).architecture.flops
    assert 0.985 * budget <= flops <= budget


@every_method
def test_a_budget_that_other_layers_exceed_is_refused(method: str, folder: Path) -> None:
    source = dense("vgg_mini", folder)
    with pytest.raises(BudgetError, match="FLOPs"):
        derived(method, source, flops=1)


@every_method
def test_equal_seeds_drop_equal_weights(method: str, tmp_path: Path) -> None:
    first, second = (derived(method, dense("vgg_mini", tmp_path / name)) for name in ("a", "b"))
    assert first.architecture.digest == second.architecture.digest
    one, other = first.weights() or {}, second.weights() or {}
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@every_method
def test_layers_that_stay_whole_have_no_mask(method: str, folder: Path) -> None:
    source = dense("resnet20", folder)
    masks = derived(method, source, whole=("stage2", "conv1")).architecture.masks
    assert masks
    assert not any(name.startswith(("stage2.", "conv1.")) for name in masks)
    with pytest.raises(MethodError, match="no layer"):
        derived(method, source, whole=("*",))


@pytest.mark.parametrize("scope", ["global", "uniform", "erk"])
def test_magnitude_keeps_the_largest_weights_by_brute_force(scope: str, folder: Path) -> None:
    source = dense("vgg_mini", folder)
    found = derived("magnitude", source, density=0.2, scope=scope, layers="all").architecture
    state = source.state()
    names = [name for name, value in state.items() if value.dim() > 1]
    kept = {
        name: found.masks[name].tensor()
        if name in found.masks
        else torch.ones_like(state[name], dtype=torch.bool)
        for name in names
    }
    sizes = {name: state[name].abs() for name in names}
    if scope == "global":
        every = torch.cat([sizes[name].flatten() for name in names])
        cut = every.sort(descending=True).values[round(0.2 * len(every)) - 1]
        for name in names:
            assert torch.equal(kept[name], sizes[name] >= cut)
        return
    shapes = {name: tuple(state[name].shape) for name in names}
    densities = erk_densities(shapes, 0.2) if scope == "erk" else dict.fromkeys(names, 0.2)
    for name in names:
        count = round(densities[name] * sizes[name].numel())
        cut = sizes[name].flatten().sort(descending=True).values[count - 1]
        assert torch.equal(kept[name], sizes[name] >= cut)


def test_iterative_magnitude_pruning_never_brings_a_weight_back(tmp_path: Path) -> None:
    told: list[str] = []
    source = dense("vgg_mini", tmp_path, report=lambda what, metrics: told.append(what))
    last = derived("magnitude", source, density=0.1, rounds=3).architecture
    assert told == ["dense network", "magnitude, round 1 of 3", "magnitude, round 2 of 3"]
    assert last.density == pytest.approx(0.1, abs=0.01)
    first = derived("magnitude", source, density=0.1 ** (1 / 3)).architecture
    for name, mask in last.masks.items():
        assert (mask.tensor() <= first.masks[name].tensor()).all()


def test_drop_pruning_ends_at_the_share_asked_for_and_takes_values_back(tmp_path: Path) -> None:
    source = dense("vgg_mini", tmp_path)
    for scope in ("layer", "global"):
        method = {"steps": 4, "scope": scope, "back": 0.3, "density": 0.25}
        found = derived("drop_pruning", source, **method).architecture
        total = sum(mask.total for mask in found.masks.values())
        kept = sum(mask.weights for mask in found.masks.values())
        assert abs(kept - 0.25 * total) <= len(found.masks)


class _Plain(nn.Module):
    """One linear layer, to step by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(50, 40)


@pytest.mark.parametrize("restore", ["stored", "zero"])
def test_a_weight_that_drops_back_is_what_it_was_or_zero(restore: str) -> None:
    from prunenas.methods.drop_pruning import STORED, DropPruning, _Plan, _Target

    network = _Plain()
    method = DropPruning(
        steps=9, away=0.6, back=0.5, decay=False, restore=restore, density=0.2, layers="all"
    )
    plan = _Plan(method, ("layer.weight",), _Target(0.2, None, {}), seed=3)
    before = network.layer.weight.detach().clone()
    plan.begin(network)
    mask = network.layer.get_buffer("weight_mask").clone()
    gone = ~mask
    assert gone.any()
    assert torch.equal(network.layer.get_buffer(STORED)[gone], before[gone])
    plan.step(network, 2)
    now = network.layer.get_buffer("weight_mask")
    back = gone & now
    assert back.any()
    weight = network.layer.weight.detach()
    assert torch.equal(weight[back], before[back] if restore == "stored" else 0 * before[back])
    assert (weight[~now] == 0).all()
    still = mask & now
    assert torch.equal(weight[still], before[still])


def test_an_interrupted_drop_pruning_goes_on_to_the_same_masks(tmp_path: Path) -> None:
    recipe = Recipe(**{**RECIPE.model_dump(), "epochs": 2})

    def interrupt(what: str, metrics: Any) -> None:
        if what.startswith("drop_pruning") and metrics.epoch == 2:
            raise KeyboardInterrupt

    settings = {"steps": 4, "finish_epochs": 1, "back": 0.3}
    broken = dense("vgg_mini", tmp_path / "broken", recipe=recipe, report=interrupt)
    with pytest.raises(KeyboardInterrupt):
        derived("drop_pruning", broken, **settings)
    resumed = derived(
        "drop_pruning", dense("vgg_mini", tmp_path / "broken", recipe=recipe), **settings
    )
    whole = derived(
        "drop_pruning", dense("vgg_mini", tmp_path / "whole", recipe=recipe), **settings
    )
    assert resumed.architecture.digest == whole.architecture.digest
    one, other = resumed.weights(), whole.weights()
    assert one is not None
    assert other is not None
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_gibbs_draws_harden_to_the_mask(tmp_path: Path) -> None:
    recipe = Recipe(epochs=12, batch_size=16, lr=0.05, augment=False)
    notes = derived("gibbs", dense("vgg_mini", tmp_path, recipe=recipe)).notes
    assert notes["convergence"] < 0.05
