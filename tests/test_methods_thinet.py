"""ThiNet against exhaustive greedy, numpy's least squares, and other choices on real images."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from methods_networks import NORMED, RECIPE, dense, digits, masked
from torch import Tensor

from prunenas.architecture import build
from prunenas.errors import MethodError
from prunenas.methods import METHODS, Dense
from prunenas.methods._base import Inheritance
from prunenas.methods._front_to_back import trained
from prunenas.methods._reading import readers
from prunenas.methods._sampling import Sample
from prunenas.methods.thinet import keep, rescaling, sampled_grams
from prunenas.training import Recipe

ThiNet = METHODS["thinet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def samples(rows: int, columns: int, seed: int = 0) -> Tensor:
    """Contributions as a network's are: of very different sizes, and not independent."""
    random = torch.Generator().manual_seed(seed)
    mixed = torch.randn(rows, columns, generator=random, dtype=torch.float64)
    mixed = mixed @ torch.randn(columns, columns, generator=random, dtype=torch.float64)
    return mixed * torch.rand(columns, generator=random, dtype=torch.float64)


def exhaustive(x: Tensor, width: int, divisor: int) -> list[int]:
    """Greedy as the paper says it: every candidate's error is computed anew from the samples."""
    gone: list[int] = []
    count = x.shape[1]
    block, lost = count // divisor, (count - width) // divisor
    while len(gone) < count - width:
        errors = {
            channel: float(x[:, [*gone, channel]].sum(dim=1).square().sum())
            for channel in range(count)
            if channel not in gone
            and sum(other // block == channel // block for other in gone) < lost
        }
        gone.append(min(errors, key=lambda channel: errors[channel]))
    return sorted(set(range(count)) - set(gone))


@pytest.mark.parametrize(("width", "divisor"), [(1, 1), (5, 1), (11, 1), (4, 4), (8, 2), (12, 3)])
@pytest.mark.parametrize("seed", range(5))
def test_the_greedy_choice_is_exhaustive_greedy(width: int, divisor: int, seed: int) -> None:
    x = samples(40, 12, seed)
    assert keep(x.T @ x, width, divisor).tolist() == exhaustive(x, width, divisor)


def test_by_hand_channels_that_cancel_go_together() -> None:
    # 0 alone is the smallest; with 2 gone as well the two cancel, which 1 and 3 never do.
    x = torch.tensor([[1.0, 3.0, -1.1, 2.0], [1.0, -3.0, -1.1, 2.0]], dtype=torch.float64)
    assert keep(x.T @ x, 2).tolist() == [1, 3]


def test_of_equal_channels_the_first_stay() -> None:
    assert keep(torch.zeros(5, 5, dtype=torch.float64), 2).tolist() == [0, 1]
    assert keep(torch.eye(6, dtype=torch.float64), 4, 2).tolist() == [0, 1, 3, 4]


def test_the_factors_are_numpys_least_squares() -> None:
    x = samples(60, 10)
    kept = torch.tensor([0, 2, 3, 7, 9])
    expected, *_ = np.linalg.lstsq(x[:, kept].numpy(), x.sum(dim=1).numpy())
    np.testing.assert_allclose(rescaling(x.T @ x, kept).numpy(), expected, rtol=1e-8)


def test_what_the_samples_leave_open_stays_nearest_to_one() -> None:
    x = samples(60, 6)
    x[:, 1] = 0.0  # never active
    x[:, 4] = x[:, 3]  # always alike
    kept = torch.tensor([0, 1, 3, 4])
    rest = (x.sum(dim=1) - x[:, kept].sum(dim=1)).numpy()
    change, *_ = np.linalg.lstsq(x[:, kept].numpy(), rest, rcond=1e-9)
    found = rescaling(x.T @ x, kept)
    np.testing.assert_allclose(found.numpy(), 1 + change, rtol=1e-6)
    assert found[1] == pytest.approx(1.0)


def test_fewer_samples_than_channels_are_enough() -> None:
    x = samples(4, 10)
    kept = keep(x.T @ x, 6)
    made = x[:, kept] @ rescaling(x.T @ x, kept)
    torch.testing.assert_close(made, x.sum(dim=1), rtol=1e-6, atol=1e-6)


def half(source: Dense, **fields: object) -> Inheritance:
    budget = source.space.dense.flops // 2
    derived = ThiNet(**fields).derive(source, flops=budget, seed=1)
    assert derived.inherit is not None
    return derived.inherit()


@pytest.mark.slow  # other networks than the conformance tests'
@pytest.mark.parametrize("network", [*NORMED, "flattened"])
def test_the_cut_network_computes_what_the_masked_one_does(network: str, folder: Path) -> None:
    source = dense(network, folder)
    inherited = half(source)
    assert inherited.rebuilt is not None
    widths = {name: len(kept) for name, kept in inherited.kept.items()}
    small = build(source.space.architecture(widths=widths, kept=inherited.kept), trust=True)
    small.load_state_dict(inherited.weights)
    whole = masked(network, inherited.rebuilt, inherited.kept)
    images = torch.rand(5, *source.space.input_shape, dtype=torch.float64)
    with torch.no_grad():
        expected = whole.double().eval()(images)
        torch.testing.assert_close(small.double().eval()(images), expected, rtol=1e-9, atol=1e-9)


def test_only_the_weights_that_read_a_cut_group_change(folder: Path) -> None:
    source = dense("vgg_mini", folder)
    inherited = half(source)
    assert inherited.rebuilt is not None
    read = {
        f"{part.layer}.weight"
        for group in source.space.groups
        for part in source.space.consumers(group.name)
        if len(inherited.kept[group.name]) < group.width
    }
    state = source.state()
    changed = {name for name in state if not torch.equal(state[name], inherited.rebuilt[name])}
    assert changed == read
    for group in source.space.groups:
        for part in source.space.consumers(group.name):
            gone = torch.ones(group.width, dtype=torch.bool)
            gone[inherited.kept[group.name]] = False
            assert (inherited.rebuilt[f"{part.layer}.weight"][:, gone] == 0).all()


def test_nothing_changes_where_nothing_goes(folder: Path) -> None:
    source = dense("resnet20", folder)
    weights = ThiNet().derive(source).weights()
    assert weights is not None
    for name, value in source.state().items():
        assert torch.equal(weights[name], value)


def test_equal_seeds_give_equal_weights_and_others_do_not(folder: Path) -> None:
    source = dense("vgg_mini", folder)
    first, again = (
        ThiNet().derive(source, ratios=ratios(source), seed=3).weights() for _ in range(2)
    )
    other = ThiNet().derive(source, ratios=ratios(source), seed=4).weights()
    assert first is not None
    assert again is not None
    assert other is not None
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def ratios(source: Dense) -> dict[str, float]:
    return {group.name: 0.5 for group in source.space.groups}


def test_a_group_that_several_layers_read_goes_by_the_sum_of_their_errors(folder: Path) -> None:
    source = dense("resnet20", folder)
    stream = source.space.groups[0]
    asked = {stream.name: 0.5}
    kept = ThiNet().derive(source, ratios=asked, seed=5).kept()
    assert kept is not None
    network = trained(source)
    reading = readers(source.space, stream, network)
    assert len(reading) > 3
    sample = Sample(source.data.train, 100, 10, seed=5)
    grams = sampled_grams(network, reading, sample, 10, torch.Generator().manual_seed(5))
    assert kept[stream.name].tolist() == keep(sum(grams), 8).tolist()


def test_the_channels_of_a_selection_are_the_architectures(folder: Path) -> None:
    source = dense("selecting", folder)
    derived = ThiNet().derive(source, ratios=ratios(source))
    kept = derived.kept()
    assert kept is not None
    chosen = source.space.selected(derived.architecture)
    assert chosen
    for group, indices in chosen.items():
        assert torch.equal(kept[group], indices)


def test_fine_tuning_trains_what_is_left_after_each_group(tmp_path: Path) -> None:
    told: list[str] = []
    source = dense("grouped", tmp_path, report=lambda what, metrics: told.append(what))
    inherited = half(source, finetune_epochs=2)
    cut = [group for group in source.space.groups if len(inherited.kept[group.name]) < group.width]
    assert told == ["dense network"] + ["fine-tuning"] * 2 * len(cut)
    plain = half(source)
    assert inherited.rebuilt is not None
    name = "0.0.weight"
    assert not torch.equal(inherited.weights[name], plain.weights[name])
    widths = {name: len(kept) for name, kept in inherited.kept.items()}
    small = build(source.space.architecture(widths=widths), trust=True)
    small.load_state_dict(inherited.weights)
    whole = masked("grouped", inherited.rebuilt, inherited.kept)
    images = torch.rand(5, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        expected = whole.double().eval()(images)
        torch.testing.assert_close(small.double().eval()(images), expected, rtol=1e-9, atol=1e-9)


def test_sums_that_do_not_fit_are_refused(folder: Path) -> None:
    source = dense("vgg_mini", folder)
    network = trained(source)
    reading = readers(source.space, source.space.groups[-1], network)
    sample = Sample(digits().train, 10, None, seed=0, memory=10_000)
    with pytest.raises(MethodError, match="half of its memory, 5,000 bytes"):
        sampled_grams(network, reading, sample, 10, torch.Generator())


def test_more_channels_never_leave_a_larger_error() -> None:
    x = samples(100, 16)
    gram, y = x.T @ x, x.sum(dim=1)
    errors = []
    for width in range(1, 17):
        kept = keep(gram, width)
        errors.append(float((y - x[:, kept] @ rescaling(gram, kept)).square().sum()))
    assert all(wider <= narrow + 1e-9 for narrow, wider in pairwise(errors))


@pytest.fixture(scope="module")
def learned(folder: Path) -> Dense:
    """A network that has learned something: several epochs on the digits."""
    recipe = Recipe(**{**RECIPE.model_dump(), "epochs": 12})
    return dense("vgg_mini", folder, recipe=recipe)


def error(source: Dense, group: str, kept: Tensor, factors: Tensor | None = None) -> float:
    """Of the next layer's outputs, at positions that ThiNet didn't choose by, kept alone."""
    network = trained(source)
    (found,) = (g for g in source.space.groups if g.name == group)
    reading = readers(source.space, found, network)
    sample = Sample(source.data.train, 100, 10, seed=77)
    (gram,) = sampled_grams(network, reading, sample, 50, torch.Generator().manual_seed(77))
    change = torch.ones(found.width, dtype=torch.float64)
    change[kept] -= 1.0 if factors is None else factors
    return float(change @ gram @ change)


def test_it_rebuilds_better_than_random_channels_and_those_of_largest_norm(learned: Dense) -> None:
    for group in learned.space.groups[:-1]:
        asked = {group.name: 0.5}
        one = ThiNet(positions=50).derive(learned, ratios=asked)
        assert one.inherit is not None
        inherited = one.inherit()
        assert inherited.rebuilt is not None
        kept = inherited.kept[group.name]
        l1 = METHODS["l1_norm"]().derive(learned, ratios=asked).kept()
        assert l1 is not None
        own = error(learned, group.name, kept)
        assert own <= error(learned, group.name, l1[group.name])
        for seed in range(5):
            random = torch.Generator().manual_seed(seed)
            order = torch.randperm(group.width, generator=random)
            chosen = order[: len(kept)].sort().values
            assert own <= error(learned, group.name, chosen)
        (part,) = learned.space.consumers(group.name)
        before = learned.state()[f"{part.layer}.weight"][:, kept].flatten(2)
        after = inherited.rebuilt[f"{part.layer}.weight"][:, kept].flatten(2)
        factors = (after * before).sum(dim=(0, 2)) / before.square().sum(dim=(0, 2))
        assert error(learned, group.name, kept, factors.double()) < own
