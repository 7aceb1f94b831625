"""Guided sparsifying: masks drawn from maps, at densities and within budgets."""

from pathlib import Path
from typing import Any

import pytest
import torch
from methods_networks import dense
from pydantic import ValidationError
from torch import Tensor

from prunenas.architecture import build, count_flops, masked_weights, trace, with_masks
from prunenas.errors import MethodError
from prunenas.methods import Dense, Derivation, mean_maps, survival_maps
from prunenas.methods.guided_sparse import GuidedSparse

CROSS = ((0.1, 0.3, 0.1), (0.3, 0.8, 0.3), (0.1, 0.3, 0.1))
EVEN = ((0.2,) * 3,) * 3
TOP = ((0.9, 0.9, 0.9), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
SMALL = {"in_channels": 1, "input_size": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def derived(
    source: Dense, *, flops: int | None = None, seed: int = 1, **settings: Any
) -> Derivation:
    return GuidedSparse(**settings).derive(source, flops=flops, seed=seed)


def kernels(derivation: Derivation, stage: str) -> Tensor:
    """All 3 x 3 kernels of layers whose names begin so, bool of shape (kernels, 3, 3)."""
    masks = derivation.architecture.masks
    found = [
        mask.tensor().flatten(0, 1)
        for name, mask in masks.items()
        if name.startswith(stage) and mask.shape[2:] == (3, 3)
    ]
    return torch.cat(found)


def assert_frequencies(found: Tensor, expected: Tensor) -> None:
    """Each place's share of the kernels is within four standard deviations of its probability."""
    spread = (expected * (1 - expected) / len(found)).sqrt()
    assert ((found.double().mean(0) - expected).abs() <= 4 * spread + 1e-12).all()


def test_places_are_as_frequent_as_the_maps_of_their_stages(folder: Path) -> None:
    found = derived(dense("resnet20", folder), maps=(CROSS, EVEN, TOP))
    for stage, places in zip(("stage1", "stage2", "stage3"), (CROSS, EVEN, TOP), strict=True):
        assert_frequencies(kernels(found, stage), torch.tensor(places).double())
    assert not kernels(found, "stage3")[:, 1:].any()


def test_a_density_is_met_to_the_weight_by_one_factor(folder: Path) -> None:
    source = dense("resnet20", folder)
    own = derived(source, maps=(CROSS, EVEN, EVEN)).architecture
    for density in (0.05, 0.15):
        found = derived(source, maps=(CROSS, EVEN, EVEN), density=density)
        masks = found.architecture.masks.values()
        total = sum(mask.total for mask in masks)
        assert sum(mask.weights for mask in masks) == round(density * total)
        # In closed form: the factor is the density's share of the maps' own mean over all weights.
        means = {"conv1": 2.4 / 9, "stage1": 2.4 / 9, "stage2": 0.2, "stage3": 0.2}
        mean = sum(
            mask.total * means[name.split(".")[0]] for name, mask in own.masks.items()
        ) / sum(mask.total for mask in own.masks.values())
        factor = density / mean
        for stage, places in (("stage1", CROSS), ("stage2", EVEN)):
            assert_frequencies(kernels(found, stage), factor * torch.tensor(places).double())


@pytest.mark.parametrize("share", [0.5, 0.15])
def test_maps_of_a_vgg_make_another_network_sparse_within_a_budget(
    share: float, folder: Path
) -> None:
    vgg = trace("vgg_mini", arguments=SMALL, input_shape=(1, 8, 8))
    network, random = build(vgg.dense), torch.Generator().manual_seed(0)
    chance = torch.tensor(CROSS)
    keep = {
        name: torch.rand(weight.shape, generator=random) < chance
        for name, weight in masked_weights(network).items()
        if weight.shape[2:] == (3, 3)
    }
    maps = survival_maps(vgg, with_masks(vgg, vgg.dense, network, keep))
    source = dense("resnet20_b", folder)
    budget = int(share * source.space.dense.flops)
    given = [maps[stage].tolist() for stage in maps]
    found = derived(source, maps=given, flops=budget).architecture
    assert 0.999 * budget <= found.flops <= budget
    network = build(found, trust=True)
    assert count_flops(network, found.input_shape) == found.whole_flops
    shares = torch.cat(
        [m.tensor().flatten(0, 1) for m in found.masks.values() if m.shape[2:] == (3, 3)]
    )
    frequency = shares.double().mean(0)
    corners = frequency[[0, 0, 2, 2], [0, 2, 0, 2]]
    edges = frequency[[0, 1, 1, 2], [1, 0, 2, 1]]
    assert corners.max() < edges.min() <= edges.max() < frequency[1, 1]


def test_other_kernels_have_their_stages_mean_and_linear_layers_only_where_asked(
    folder: Path,
) -> None:
    source = dense("resnet20_b", folder)
    found = derived(source, maps=(CROSS, EVEN, TOP)).architecture
    means = {"stage2.0.shortcut": 0.2, "stage3.0.shortcut": 2.7 / 9}
    small = {name: mask for name, mask in found.masks.items() if mask.shape[2:] == (1, 1)}
    assert len(small) == len(means)
    for name, mask in small.items():
        mean = next(mean for layer, mean in means.items() if name.startswith(layer))
        spread = (mean * (1 - mean) / mask.total) ** 0.5
        assert abs(mask.density - mean) <= 4 * spread
    assert all(len(mask.shape) == 4 for mask in found.masks.values())
    everything = derived(source, maps=(CROSS, EVEN, TOP), layers="all").architecture
    [linear] = [mask for mask in everything.masks.values() if len(mask.shape) == 2]
    assert abs(linear.density - 0.3) <= 4 * (0.21 / linear.total) ** 0.5


def test_maps_of_drawn_masks_are_the_maps_they_were_drawn_from(folder: Path) -> None:
    source = dense("resnet20", folder)
    drawn = [derived(source, maps=(CROSS, EVEN, TOP), seed=seed) for seed in range(4)]
    found = mean_maps([survival_maps(source.space, each.architecture) for each in drawn])
    assert list(found) == [0, 1, 2]
    for stage, places in enumerate((CROSS, EVEN, TOP)):
        count = 4 * len(kernels(drawn[0], f"stage{stage + 1}"))
        expected = torch.tensor(places).double()
        spread = (expected * (1 - expected) / count).sqrt()
        # The first convolution is of the first stage as well.
        assert ((found[stage] - expected).abs() <= 4 * spread + 1e-12).all()


def test_a_layer_that_lost_nothing_counts_as_whole() -> None:
    space = trace("vgg_mini", arguments=SMALL, input_shape=(1, 8, 8))
    network = build(space.dense)
    weights = {n: w for n, w in masked_weights(network).items() if w.shape[2:] == (3, 3)}
    first, *_ = weights
    keep = {first: torch.zeros_like(weights[first], dtype=torch.bool)}
    keep[first][:, :, 1, 1] = True
    found = survival_maps(space, with_masks(space, space.dense, network, keep))
    centre, every = weights[first].shape[0] * weights[first].shape[1], 0
    stage = next(g.stage for g in space.groups if f"{g.name}.weight" == first)
    for group in space.groups:
        if group.stage == stage and f"{group.name}.weight" in weights:
            shape = weights[f"{group.name}.weight"].shape
            every += shape[0] * shape[1]
    assert float(found[stage][1, 1]) == 1.0
    assert float(found[stage][0, 0]) == pytest.approx((every - centre) / every)
    assert all((found[other] == 1).all() for other in found if other != stage)


def test_without_maps_all_places_are_alike(folder: Path) -> None:
    source = dense("resnet20", folder)
    found = derived(source)
    assert found.architecture.density == pytest.approx(0.1, abs=1e-4)
    assert_frequencies(kernels(found, "stage3"), torch.full((3, 3), 0.1).double())
    assert found.weights() is None


def test_equal_seeds_draw_equal_masks(folder: Path) -> None:
    source = dense("vgg_mini", folder)
    one, again, other = (
        derived(source, maps=(CROSS,), seed=seed).architecture.digest for seed in (1, 1, 2)
    )
    assert one == again != other


def test_what_maps_never_keep_is_never_kept(folder: Path) -> None:
    source = dense("vgg_mini", folder)
    most = derived(source, maps=(TOP,), flops=source.space.dense.flops).architecture
    for mask in most.masks.values():
        keep = mask.tensor()
        assert keep[:, :, 0].all()
        assert not keep[:, :, 1:].any()
    with pytest.raises(MethodError, match=r"`density <= 0.3333` must hold"):
        derived(source, maps=(TOP,), density=0.5)


@pytest.mark.parametrize(
    ("maps", "told"),
    [
        ([[[0.1] * 3] * 2], "missing"),
        ([[[0.1] * 4] * 3], "too_long"),
        ([[[1.1] * 3] * 3], "less_than_equal"),
        ([[[0.0] * 3] * 3], "maps\\[0\\] has nothing above 0"),
    ],
)
def test_maps_that_are_none_are_refused(maps: Any, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        GuidedSparse(maps=maps)
