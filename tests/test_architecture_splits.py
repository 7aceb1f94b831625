"""Channels that are cut, gated, shuffled or taken apart: groups by hand, and what they compute.

The oracle for what is computed is the dense network with the removed channels set to zero: no
index of ours enters it, only where each layer's channels go, written down by hand.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from prunenas.architecture import Space, build, count_flops, trace

INPUT = (3, 8, 8)


def space_of(name: str, **arguments: Any) -> Space:
    return trace(f"split_networks:{name}", arguments=arguments, input_shape=INPUT)


def groups_of(space: Space) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {group.name: (group.width, group.layers) for group in space.groups}


def computes_the_same(
    space: Space, kept: Mapping[str, Sequence[int]], outputs: Mapping[str, Sequence[int]]
) -> None:
    """Inherited weights at the kept channels against the dense network with zeros in their place.

    ``outputs`` says which of a layer's outputs stay; layers without an entry keep all.
    """
    torch.manual_seed(0)
    dense = build(space.dense, seed=0, trust=True).eval()
    masked = copy.deepcopy(dense)
    for name, stay in outputs.items():
        layer = masked.get_submodule(name)
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        gone = [i for i in range(layer.weight.shape[0]) if i not in stay]
        with torch.no_grad():
            layer.weight[gone] = 0
            if layer.bias is not None:
                layer.bias[gone] = 0
    indices = {name: torch.tensor(list(stay)) for name, stay in kept.items()}
    widths = {name: len(stay) for name, stay in kept.items()}
    architecture = space.architecture(widths=widths)
    cut = build(architecture, seed=1, trust=True).eval()
    assert count_flops(cut, INPUT) == architecture.flops
    assert sum(p.numel() for p in cut.parameters()) == architecture.params
    cut.load_state_dict(space.inherit(dense.state_dict(), indices))
    images = torch.randn(3, *INPUT)
    torch.testing.assert_close(cut(images), masked(images))


@pytest.mark.parametrize("name", ["Gated", "GatedBySlices", "GatedByOperator"])
def test_a_gate_and_what_it_gates_are_cut_together(name: str) -> None:
    space = space_of(name)
    assert groups_of(space) == {"a": (8, ("a",)), "b": (6, ("b",))}
    layers = {layer.name: layer.sizes for layer in space.architecture(widths={"a": 3}).layers}
    assert layers["a"] == (3, 6, 1)
    assert layers["b"] == (3, 6, 1)
    stay = [1, 2, 7]
    computes_the_same(space, {"a": stay}, {"a": [*stay, *(8 + i for i in stay)]})


def test_halves_that_go_two_ways_stay_of_one_width() -> None:
    space = space_of("TwoWays")
    assert groups_of(space) == {"a": (8, ("a",)), "c": (8, ("c",)), "b": (6, ("b",))}
    stay, c = [0, 3, 4], [5, 6]
    computes_the_same(space, {"a": stay, "c": c}, {"a": [*stay, *(8 + i for i in stay)], "c": c})


def test_unequal_parts_keep_their_proportion() -> None:
    space = space_of("Quarters")
    assert groups_of(space) == {"a": (4, ("a", "c")), "b": (6, ("b",))}
    stay = [0, 3]
    computes_the_same(
        space,
        {"a": stay},
        {
            "a": [4 * part + i for part in range(4) for i in stay],
            "c": [4 * part + i for part in range(3) for i in stay],
        },
    )


def test_what_was_concatenated_comes_apart_untied() -> None:
    space = space_of("Concatenated")
    assert groups_of(space) == {"a": (16, ("a",)), "c": (4, ("c", "d")), "b": (6, ("b",))}
    a, c = [0, 1, 7, 11, 15], [1, 2]
    computes_the_same(space, {"a": a, "c": c}, {"a": a, "c": c, "d": c})


def test_neighbours_of_which_one_is_chosen_are_cut_together() -> None:
    space = space_of("LargestOfTwo")
    assert groups_of(space) == {"a": (8, ("a",)), "b": (6, ("b",))}
    stay = [0, 5, 6]
    computes_the_same(space, {"a": stay}, {"a": [2 * i + j for i in stay for j in range(2)]})


def test_a_shuffle_ties_the_halves_and_a_cut_after_it_their_halves() -> None:
    space = space_of("Shuffled")
    # After the shuffle channel i of `a` and of `c` are neighbours; half of each go either way.
    assert groups_of(space) == {"a": (8, ("a", "c")), "d": (8, ("d",)), "b": (6, ("b",))}
    stay = [1, 4, 6]
    both = [*stay, *(8 + i for i in stay)]
    computes_the_same(space, {"a": stay}, {"a": both, "c": both})


def test_attention_that_computes_its_head_size_varies_in_it() -> None:
    space = space_of("Attends")
    assert groups_of(space) == {"patches": (20, ("patches", "out")), "qkv": (6, ("qkv",))}
    stay = [0, 2, 3, 5]
    # The scale of the scores is 1 / sqrt(size of a head): the queries make up for it.
    architecture = space.architecture(widths={"qkv": 4})
    network = build(architecture, seed=0, trust=True)
    assert count_flops(network, INPUT) == architecture.flops
    sizes = {layer.name: layer.sizes for layer in architecture.layers}
    assert sizes["qkv"] == (20, 3 * 4 * 4)
    dense = build(space.dense, seed=0, trust=True)
    state = space.inherit(dense.state_dict(), {"qkv": torch.tensor(stay)})
    rows = [6 * block + i for block in range(12) for i in stay]
    assert torch.equal(state["qkv.weight"], dense.state_dict()["qkv.weight"][rows])
    columns = rows[: 4 * 4]
    assert torch.equal(state["out.weight"], dense.state_dict()["out.weight"][:, columns])


@pytest.mark.parametrize(
    ("name", "arguments", "group", "reason"),
    [
        (
            "WrittenOut",
            {},
            "a",
            r"\(split_with_sizes\) cuts its 16 channels, but the network does not run at",
        ),
        ("WrittenOutButRuns", {}, "a", "but not in proportion at another width"),
        ("Uneven", {}, "a", "takes channels 2 to 5 of 16, which are no equal parts"),
        (
            "SlidesOverChannels",
            {},
            "a",
            r"layer 'c' \(conv1d\) slides over channels as places",
        ),
        ("Copied", {}, "c", r"layer 'd' \(conv2d\) uses a weight that no layer .* copied layer"),
        ("EverySecond", {}, "a", "picks one of every 2 channels"),
        ("Attends", {"how": "written"}, "qkv", r"takes its channels apart into 3 × 4 × 6, but the"),
        ("Attends", {"how": "heads"}, "qkv", "takes its channels apart .* another width"),
    ],
)
def test_cuts_that_do_not_follow_the_width_are_frozen_and_told(
    name: str, arguments: dict[str, Any], group: str, reason: str
) -> None:
    space = space_of(name, **arguments)
    assert group not in groups_of(space)
    (told,) = [frozen.reason for frozen in space.frozen if frozen.name == group]
    assert re.search(reason, told), told
    assert space.groups  # the rest still varies


VIT = {
    "image_size": 32,
    "patch_size": 8,
    "num_layers": 2,
    "num_heads": 4,
    "hidden_dim": 32,
    "mlp_dim": 48,
    "num_classes": 10,
}
SWIN = {
    "patch_size": [4, 4],
    "embed_dim": 24,
    "depths": [1, 1],
    "num_heads": [2, 4],
    "window_size": [4, 4],
    "num_classes": 10,
}


@pytest.mark.parametrize(
    ("source", "arguments", "widths", "reason"),
    [
        (
            "torchvision.models:VisionTransformer",
            VIT,
            {
                "encoder.layers.encoder_layer_0.mlp.0": 48,
                "encoder.layers.encoder_layer_1.mlp.0": 48,
            },
            "layer 'encoder.layers.encoder_layer_0.self_attention' (linear) is "
            "nn.MultiheadAttention: it fixes its features and its heads",
        ),
        (
            "torchvision.models:SwinTransformer",
            SWIN,
            {"features.1.0.mlp.0": 96, "features.3.0.mlp.0": 192},
            "layer 'features.1.0.attn' (reshape) takes its channels apart into 3 × 2 × 12 "
            "(attention heads), but the network does not run at another width",
        ),
    ],
)
def test_transformers_vary_in_their_mlps_and_tell_of_their_heads(
    source: str, arguments: dict[str, Any], widths: dict[str, int], reason: str
) -> None:
    space = trace(source, arguments=arguments, input_shape=(3, 32, 32))
    assert {group.name: group.width for group in space.groups} == widths
    assert any(group.reason.startswith(reason) for group in space.frozen), space.frozen
    architecture = space.architecture(0.5)
    network = build(architecture, seed=0, trust=True)
    assert count_flops(network, (3, 32, 32)) == architecture.flops


def test_shufflenets_branches_vary_and_the_shuffled_widths_are_told() -> None:
    space = trace("torchvision/shufflenet_v2_x1_0", input_shape=(3, 32, 32))
    widths = {group.name: group.width for group in space.groups}
    blocks = [f"stage{s}.{b}" for s, n in ((2, 4), (3, 8), (4, 4)) for b in range(n)]
    assert {f"{block}.branch2.0" for block in blocks} <= set(widths)
    first = next(g for g in space.frozen if g.name == "stage2.0.branch1.2")
    assert first.reason.startswith("layer 'stage2.2' (chunk) cuts its 116 channels between places")


def test_shufflenets_first_stage_of_half_the_width_divides_often_enough() -> None:
    space = trace("torchvision/shufflenet_v2_x0_5", input_shape=(3, 32, 32))
    # Three cuts after three shuffles: 24 channels of each branch in 8 places, tied.
    group = next(group for group in space.groups if group.name == "stage2.0.branch1.2")
    assert group.width == 3
    dense = build(space.dense, seed=0).eval()
    masked, kept = copy.deepcopy(dense), [0, 2]
    with torch.no_grad():
        for part in space.norms(group.name):  # a channel whose norm is zero is zero from there on
            rows = part.start + torch.arange(part.repeat)  # of the middle channel
            norm = masked.get_submodule(part.layer)
            for tensor in (norm.weight, norm.bias):
                assert isinstance(tensor, torch.Tensor)
                tensor[rows + part.repeat] = 0
    cut = build(space.architecture(widths={group.name: 2}), seed=1).eval()
    cut.load_state_dict(space.inherit(dense.state_dict(), {group.name: torch.tensor(kept)}))
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(cut(images), masked(images))
