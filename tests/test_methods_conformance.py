"""Laws that every method of ``METHODS`` keeps."""

import math
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from methods_networks import dense, masked, space
from pydantic import ValidationError
from torch import Tensor

from prunenas.architecture import Architecture, build, count_flops
from prunenas.errors import BudgetError, MethodError, WidthError
from prunenas.methods import METHODS, Dense, Method, Trained

PREDEFINED = [name for name, method in METHODS.items() if method.kind == "predefined"]
AUTOMATIC = [
    name
    for name, method in METHODS.items()
    if method.kind == "automatic" and method.granularity != "weight"
]

QUICK: dict[str, dict[str, Any]] = {
    "netadapt": {"step": 0.2, "images": 32},
    "prunefl": {"initial": {"batches": 1, "passes": 11}},
    # Its blocks have tests of their own: taking one out is no step of a width.
    "sparse_structure": {"structures": "channels"},
}
"""Hyperparameters that spare time, of methods that are slow by default, or make them comparable."""

FITTED = ("soft_filter_pruning", "trainable_gates")
"""Methods that train the dense network for the very widths they are asked for."""

NETWORKS = ("vgg_mini", "resnet20", "grouped", "concatenated", "transposed")

CHANNELS = [name for name, method in METHODS.items() if method.granularity != "weight"]
"""Methods that choose widths; those that choose weights have laws of their own."""

every_method = pytest.mark.parametrize("method", METHODS)
every_channel_method = pytest.mark.parametrize("method", CHANNELS)
every_network = pytest.mark.parametrize("network", NETWORKS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def made(method: str, **hyperparameters: Any) -> Method:
    return METHODS[method](**QUICK.get(method, {}), **hyperparameters)


def check_widths(network: str, architecture: Architecture) -> None:
    groups = space(network).groups
    assert set(architecture.widths) == {group.name for group in groups}
    for group in groups:
        width = architecture.widths[group.name]
        assert group.divisor <= width <= group.width
        assert width % group.divisor == 0


@every_network
@every_channel_method
def test_derives_an_architecture_that_builds_and_counts(
    method: str, network: str, folder: Path
) -> None:
    architecture = made(method).derive(dense(network, folder)).architecture
    check_widths(network, architecture)
    built = build(architecture, trust=True)
    assert count_flops(built, architecture.input_shape) == architecture.flops
    assert Architecture.from_dict(architecture.to_dict()) == architecture
    assert built(torch.rand(2, *architecture.input_shape)).shape == (2, 10)


@every_method
def test_equal_seeds_give_equal_architectures(method: str, tmp_path: Path) -> None:
    first, second = (
        made(method).derive(dense("vgg_mini", tmp_path / cache), seed=7) for cache in ("one", "two")
    )
    assert first.architecture.digest == second.architecture.digest
    assert first.notes == second.notes


@every_network
@every_channel_method
def test_the_budget_is_met_and_never_exceeded(method: str, network: str, folder: Path) -> None:
    for share in (0.8, 0.5, 0.3):
        budget = math.floor(share * space(network).dense.flops)
        derived = made(method).derive(dense(network, folder), flops=budget, seed=3)
        check_widths(network, derived.architecture)
        widths, flops = dict(derived.architecture.widths), derived.architecture.flops
        assert flops <= budget
        for group in space(network).groups:  # not a single step more fits
            wider = {**widths, group.name: widths[group.name] + group.divisor}
            assert wider[group.name] > group.width or space(network).flops(wider) > budget
        if network in ("vgg_mini", "resnet20"):  # whose steps are fine enough
            assert flops >= 0.985 * budget


@every_network
@every_channel_method
def test_an_impossible_budget_is_refused_with_the_least_possible(
    method: str, network: str, folder: Path
) -> None:
    groups = space(network).groups
    floor = space(network).flops({group.name: group.divisor for group in groups})
    with pytest.raises(BudgetError, match=r"\d"):
        made(method).derive(dense(network, folder), flops=floor - 1)


@every_network
@every_channel_method
def test_inherited_weights_compute_what_the_masked_dense_network_does(
    method: str, network: str, folder: Path
) -> None:
    source = Recording(**vars(dense(network, folder)))
    budget = space(network).dense.flops // 2
    derived = made(method).derive(source, flops=budget, seed=1)
    if derived.inherit is None:
        assert METHODS[method].kind == "predefined"
        assert derived.weights() is derived.kept() is None
        return
    inherited = derived.inherit()
    weights, kept = inherited.weights, inherited.kept
    for group in space(network).groups:
        if group.name in kept:
            assert len(kept[group.name]) == derived.architecture.widths[group.name]
    small = build(derived.architecture, trust=True)
    small.load_state_dict(weights, strict=True)
    fitted = source.states[-1] if method in FITTED else None
    whole = masked(network, inherited.rebuilt or fitted or whole_state(method, source), kept)
    images = torch.rand(5, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        expected = whole.double().eval()(images)
        answer = small.double().eval()(images)
    torch.testing.assert_close(answer, expected, rtol=1e-9, atol=1e-9)
    assert answer.std(dim=0).max() > 0  # no dead network: the images make a difference


class Recording(Dense):
    """Remembers what was trained, without what a method added to the network."""

    def train(self, **special: Any) -> Trained:
        trained = super().train(**special)
        names = self.network().state_dict()
        self.states.append({name: trained.state[name] for name in names})
        return trained

    @cached_property
    def states(self) -> list[dict[str, Tensor]]:
        return []


def whole_state(method: str, source: Dense) -> dict[str, Tensor]:
    """All weights a method cut from that changes none: what it inherits when nothing has to go."""
    full = made(method).derive(source, flops=source.space.dense.flops)
    assert full.architecture.widths == source.space.dense.widths
    weights = full.weights()
    assert weights is not None
    return weights


@pytest.mark.parametrize("method", PREDEFINED)
def test_a_predefined_method_trains_only_when_weights_are_asked(
    method: str, tmp_path: Path
) -> None:
    told: list[str] = []
    source = dense("vgg_mini", tmp_path, report=lambda what, metrics: told.append(what))
    derived = made(method).derive(source, flops=source.space.dense.flops // 2)
    assert told == []
    assert source.accuracy() is None
    if derived.weights() is not None:
        assert len(told) == 1
        assert (source.accuracy() is not None) == (method not in FITTED)


@every_method
def test_ratios_are_followed_or_refused(method: str, folder: Path) -> None:
    source = dense("vgg_mini", folder)
    ratios = {
        group.name: ratio
        for group, ratio in zip(source.space.groups, (0.25, 0.5, 0.75, 1.0), strict=True)
    }
    if METHODS[method].takes_ratios:
        derived = made(method).derive(source, ratios=ratios)
        assert list(derived.architecture.widths.values()) == [4, 16, 48, 64]
    elif METHODS[method].takes_densities:  # of layers, see test_methods_densities.py
        other = dense("resnet20_b", folder)
        with pytest.raises(MethodError, match="densities must be given for all layers"):
            made(method).derive(other, ratios={group.name: 0.5 for group in other.space.groups})
    else:
        with pytest.raises(MethodError, match="takes_ratios"):
            made(method).derive(source, ratios=ratios)


@every_method
def test_an_unknown_hyperparameter_is_refused(method: str) -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        METHODS[method](no_such_field=1)


@every_method
def test_hyperparameters_are_frozen_documented_and_within_their_search_range(method: str) -> None:
    instance = METHODS[method]()
    for name, field in METHODS[method].model_fields.items():
        assert field.description
        if name in Method.model_fields or name in ("memory", "maps", "initial"):
            continue  # what is to stay, what the machine has, what was measured, and the section
            # of a stage before the method's own: the user's
        assert isinstance(field.json_schema_extra, dict)
        search = field.json_schema_extra["search"]
        assert isinstance(search, dict)
        default = getattr(instance, name)
        ends = search.get("choices") or [search["low"], search["high"]]
        assert default is None or min(ends) <= default <= max(ends)
        for end in ends:  # the bounds that validation draws lie outside the range
            assert getattr(METHODS[method](**{name: end}), name) == end
        with pytest.raises(ValidationError, match="frozen"):
            setattr(instance, name, default)


@every_method
def test_the_header_names_the_paper_and_the_differences(method: str) -> None:
    header = sys.modules[METHODS[method].__module__].__doc__
    assert header is not None
    assert "Differs from the paper:" in header
    assert METHODS[method].__doc__
    assert METHODS[method].granularity in ("channel", "block", "weight")
    year = next(word for word in METHODS[method].source.split() if word.strip(",").isdigit())
    assert year.strip(",") in header


@pytest.mark.parametrize("method", AUTOMATIC)
def test_an_automatic_method_notes_what_it_found(method: str, folder: Path) -> None:
    notes = made(method).derive(dense("vgg_mini", folder)).notes
    assert 0 < notes["channels_kept"] <= 1
    assert 0 <= notes["dense_accuracy"] <= 1


@every_channel_method
@pytest.mark.parametrize("share", [None, 0.6])
def test_named_layers_stay_whole_and_with_them_their_groups(
    method: str, share: float | None, folder: Path
) -> None:
    # The second convolution of a block makes a residual stream, together with others.
    source = dense("resnet20_b", folder)
    stream = next(g for g in source.space.groups if "stage2.1.conv2" in g.layers)
    inner = [g for g in source.space.groups if g.layers[0].startswith("stage3.")]
    budget = None if share is None else int(share * source.space.dense.flops)
    derived = made(method, whole=("stage2.1.conv2", "stage3")).derive(source, flops=budget)
    widths = derived.architecture.widths
    for group in (stream, *inner):
        assert widths[group.name] == group.width
    if METHODS[method].takes_ratios and budget is None:
        ratios = {group.name: 0.5 for group in source.space.groups}
        derived = made(method, whole=("stage2.1.conv2", "stage3")).derive(source, ratios=ratios)
        assert derived.architecture.widths[stream.name] == stream.width
        assert derived.architecture.widths["stage1.0.conv1"] == 8
    else:
        free = sum(widths.values()) < sum(source.space.dense.widths.values())
        assert free or (method == "sparse_structure" and budget is None)  # no factor came to 0
    if budget is not None:
        assert derived.architecture.flops <= budget


@every_method
def test_a_name_of_whole_that_is_no_layer_is_refused(method: str, folder: Path) -> None:
    with pytest.raises(WidthError, match="unknown layer of vgg_mini 'nowhere'"):
        made(method, whole=("nowhere",)).derive(dense("vgg_mini", folder))


@every_channel_method
def test_all_layers_may_stay_whole(method: str, folder: Path) -> None:
    source = dense("vgg_mini", folder)
    floor = source.space.dense.flops
    derived = made(method, whole=("*",)).derive(source, flops=floor)
    assert derived.architecture.widths == source.space.dense.widths
    with pytest.raises(BudgetError, match=f"{floor:,}"):
        made(method, whole=("*",)).derive(source, flops=floor - 1)
