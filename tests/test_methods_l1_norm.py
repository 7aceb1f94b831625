"""L1-norm filter pruning against a direct, layer by layer computation of Li et al."""

from pathlib import Path

import pytest
import torch
from methods_networks import dense
from torch import Tensor

from prunenas.methods import METHODS, Dense
from prunenas.methods._base import strongest

L1Norm = METHODS["l1_norm"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def absolute_sums(weight: Tensor) -> list[float]:
    """Of each filter of a convolution of shape (out, in, h, w)."""
    return [
        sum(abs(value) for value in weight[index].flatten().tolist())
        for index in range(len(weight))
    ]


def largest(scores: list[float], count: int) -> list[int]:
    ranked = sorted(range(len(scores)), key=lambda index: scores[index], reverse=True)
    return sorted(ranked[:count])


def test_a_chain_of_layers_is_cut_as_the_paper_does(folder: Path) -> None:
    source = dense("vgg_mini", folder)
    convolutions = [group.layers[0] for group in source.space.groups]
    ratios = dict(zip(convolutions, (0.5, 0.25, 0.75, 0.125), strict=True))
    derived = L1Norm().derive(source, ratios=ratios)
    state, weights = source.state(), derived.weights()
    assert weights is not None
    before = [0]  # the image's only channel
    for name, width in zip(convolutions, (8, 8, 48, 8), strict=True):
        filters = state[f"{name}.weight"]
        kept = largest(absolute_sums(filters), width)
        assert torch.equal(weights[f"{name}.weight"], filters[kept][:, before])
        before = kept
    assert torch.equal(weights["classifier.weight"], state["classifier.weight"][:, before])


def test_a_residual_stream_is_scored_by_the_sum_over_its_producers(folder: Path) -> None:
    source = dense("resnet20_b", folder)
    stream = next(group for group in source.space.groups if "conv1" in group.layers)
    derived = L1Norm().derive(source, ratios=dict.fromkeys(names(source), 0.5))
    kept = derived.kept()
    assert kept is not None
    state = source.state()
    producers = ("conv1", "stage1.0.conv2", "stage1.1.conv2", "stage1.2.conv2")
    sums = [absolute_sums(state[f"{layer}.weight"]) for layer in producers]
    scores = [sum(column) for column in zip(*sums, strict=True)]
    assert kept[stream.name].tolist() == largest(scores, 8)


def test_channels_beside_padded_ones_are_scored_where_they_lie(folder: Path) -> None:
    # With shortcut "a" the stem's 16 channels are channels 8 to 23 of the second stage's 32, and
    # 24 to 39 of the third's 64.
    source = dense("resnet20", folder)
    stream = next(group for group in source.space.groups if "conv1" in group.layers)
    assert stream.width == 16
    state = source.state()
    scores = torch.zeros(16, dtype=torch.float64)
    producers = [("conv1", 0)]
    for stage, start in ((1, 0), (2, 8), (3, 24)):
        producers += [(f"stage{stage}.{block}.conv2", start) for block in range(3)]
    for layer, start in producers:
        rows = state[f"{layer}.weight"][start : start + 16]
        scores += torch.tensor(absolute_sums(rows), dtype=torch.float64)
    kept = L1Norm().derive(source, ratios=dict.fromkeys(names(source), 0.5)).kept()
    assert kept is not None
    assert kept[stream.name].tolist() == largest(scores.tolist(), 8)


def test_a_transposed_convolution_is_scored_by_its_outputs(folder: Path) -> None:
    source = dense("transposed", folder)
    weight = source.state()["1.weight"]  # (8 inputs, 6 outputs of each of two groups, 2, 2)
    scores = [float(weight[4 * (i // 6) :][:4, i % 6].double().abs().sum()) for i in range(12)]
    kept = L1Norm().derive(source, ratios={"1": 0.5}).kept()
    assert kept is not None
    first, second = largest(scores[:6], 3), largest(scores[6:], 3)
    assert kept["1"].tolist() == [*first, *(6 + index for index in second)]


def names(source: Dense) -> list[str]:
    return [group.name for group in source.space.groups]


def test_without_ratios_all_groups_keep_the_same_share(folder: Path) -> None:
    source = dense("vgg_mini", folder)
    assert L1Norm().derive(source).architecture == source.space.dense
    budget = source.space.dense.flops // 3
    derived = L1Norm().derive(source, flops=budget)
    shares = [derived.architecture.widths[g.name] / g.width for g in source.space.groups]
    assert max(shares) - min(shares) < 1.5 / 16  # a channel and a half of the narrowest group


def test_ratios_under_a_budget_keep_their_proportions(folder: Path) -> None:
    source = dense("vgg_mini", folder)
    ratios = dict(zip(names(source), (1.0, 0.5, 0.5, 0.25), strict=True))
    budget = source.space.architecture(ratios).flops // 2
    widths = L1Norm().derive(source, ratios=ratios, flops=budget).architecture.widths
    scales = [
        widths[group.name] / group.width / ratios[group.name] for group in source.space.groups
    ]
    assert max(scales) < 1
    assert max(scales) - min(scales) < 0.15


def test_equal_scores_keep_the_first_channels() -> None:
    assert strongest(torch.tensor([1.0, 2.0, 1.0, 1.0]), 3, 1).tolist() == [0, 1, 2]


def test_with_a_divisor_each_block_keeps_as_many() -> None:
    # The four strongest are 0, 1, 2 and 5; two blocks of four may keep only two each.
    scores = torch.tensor([9.0, 8.0, 7.0, 1.0, 2.0, 6.0, 3.0, 1.0])
    assert strongest(scores, 4, 1).tolist() == [0, 1, 2, 5]
    assert strongest(scores, 4, 2).tolist() == [0, 1, 5, 6]


@pytest.mark.parametrize("width", [1, 3, 8])
def test_the_strongest_are_those_of_a_full_sort(width: int) -> None:
    scores = torch.rand(8, generator=torch.Generator().manual_seed(width), dtype=torch.float64)
    assert strongest(scores, width, 1).tolist() == largest(scores.tolist(), width)
