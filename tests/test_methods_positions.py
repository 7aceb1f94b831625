"""Maps of the places in kernels that survive, and masks that are drawn from them."""

import pytest
import torch
from torch import nn

from prunenas.architecture import build, masked_weights, trace, with_masks
from prunenas.methods._positions import draw, matched, mean, stages, survival

SPACE = trace("vgg_mini", arguments={"in_channels": 1, "input_size": 8}, input_shape=(1, 8, 8))


def test_the_map_is_the_mean_over_a_stages_kernels() -> None:
    network = build(SPACE.dense)
    random = torch.Generator().manual_seed(0)
    keep = {
        name: torch.rand(weight.shape, generator=random) < 0.4
        for name, weight in masked_weights(network).items()
        if weight.dim() == 4
    }
    found = survival(SPACE, with_masks(SPACE, SPACE.dense, network, keep))
    of = stages(SPACE)
    assert set(found) == {of[name.removesuffix(".weight")] for name in keep}
    for stage, places in found.items():
        kernels = torch.cat(
            [
                mask.flatten(0, 1)
                for name, mask in keep.items()
                if of[name.removesuffix(".weight")] == stage
            ]
        )
        for i in range(3):
            for j in range(3):
                assert float(places[i, j]) == pytest.approx(float(kernels[:, i, j].double().mean()))


def test_by_hand_one_kernel() -> None:
    cross = torch.tensor([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=torch.bool)
    network = build(SPACE.dense)
    keep = {
        name: cross.expand(weight.shape).clone()
        for name, weight in masked_weights(network).items()
        if weight.dim() == 4
    }
    for places in survival(SPACE, with_masks(SPACE, SPACE.dense, network, keep)).values():
        assert torch.equal(places, cross.double())


def test_drawn_masks_have_the_maps_they_were_drawn_from() -> None:
    chances = torch.tensor([[0.1, 0.3, 0.1], [0.3, 0.8, 0.3], [0.1, 0.3, 0.1]]).double()
    shape = (200, 100, 3, 3)
    drawn = {"w": torch.rand(shape, generator=torch.Generator().manual_seed(1))}
    for factor in (0.5, 1.0, 2.0):
        keep = draw({"w": shape}, {"w": chances}, factor, drawn)["w"]
        expected = (factor * chances).clamp(max=1.0)
        spread = (expected * (1 - expected) / 20_000).sqrt()
        assert ((keep.double().mean((0, 1)) - expected).abs() <= 4.5 * spread).all()
    small = draw({"w": shape}, {"w": chances}, 0.5, drawn)["w"]
    assert (small <= draw({"w": shape}, {"w": chances}, 0.7, drawn)["w"]).all()


def test_no_layer_is_left_empty() -> None:
    drawn = {"w": torch.rand((2, 2, 3, 3), generator=torch.Generator().manual_seed(1))}
    keep = draw({"w": (2, 2, 3, 3)}, {"w": torch.zeros(3, 3).double()}, 1.0, drawn)["w"]
    assert int(keep.sum()) == 1


def test_stages_are_matched_in_order() -> None:
    maps = {stage: torch.full((3, 3), float(stage)) for stage in (0, 2, 5)}
    assert [float(each[0, 0]) for each in matched(maps, 3)] == [0, 2, 5]
    assert [float(each[0, 0]) for each in matched(maps, 5)] == [0, 0, 2, 5, 5] or [
        float(each[0, 0]) for each in matched(maps, 5)
    ] == [0, 0, 2, 2, 5]
    assert [float(each[0, 0]) for each in matched(maps, 1)] == [0]


def test_the_mean_is_over_the_networks_that_have_the_stage() -> None:
    one, other = {0: torch.zeros(3, 3)}, {0: torch.ones(3, 3), 1: torch.ones(3, 3)}
    found = mean([one, other])
    assert float(found[0][0, 0]) == 0.5
    assert float(found[1][0, 0]) == 1.0


@pytest.mark.parametrize("shortcut", ["a", "b"])
def test_a_layers_stage_is_its_resolution(shortcut: str) -> None:
    """With shortcut A one residual stream reaches through all stages; by hooks it is told apart."""
    arguments = {"in_channels": 1, "input_size": 8, "shortcut": shortcut}
    space = trace("resnet20", arguments=arguments, input_shape=(1, 8, 8))
    network, sizes = build(space.dense), dict[str, int]()
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(
                lambda layer, given, out, name=name: sizes.update({name: out.shape[-1]})
            )
    network.eval()(torch.zeros(1, 1, 8, 8))
    of = stages(space)
    assert {name: of[name] for name in sizes} == {
        name: {8: 0, 4: 1, 2: 2}[size] for name, size in sizes.items()
    }
    assert of["classifier"] == 2
