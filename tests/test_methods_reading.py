"""What a layer sees of single channels adds up to what it makes of all, for every kind of layer."""

from pathlib import Path

import pytest
import torch
from methods_networks import NORMED, dense, space
from torch import Tensor, nn

from prunenas.architecture import Slice, trace
from prunenas.errors import MethodError
from prunenas.methods._reading import Reader, readers, watched
from prunenas.methods.thinet import contributions

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "plain": (nn.Conv2d(6, 5, 3), (6, 7, 9)),
    "strided": (nn.Conv2d(6, 5, (3, 2), stride=(2, 3), padding=(1, 0)), (6, 8, 9)),
    "dilated": (nn.Conv2d(6, 5, 3, dilation=2, padding=2, bias=False), (6, 7, 9)),
    "same": (nn.Conv2d(6, 5, 4, padding="same"), (6, 7, 9)),
    "valid": (nn.Conv2d(6, 5, 3, padding="valid"), (6, 7, 9)),
    "reflecting": (nn.Conv2d(6, 5, 3, padding=1, padding_mode="reflect"), (6, 7, 9)),
    "circular": (nn.Conv2d(6, 5, 3, padding=(1, 2), padding_mode="circular"), (6, 7, 9)),
    "grouped": (nn.Conv2d(6, 9, 3, padding=1, groups=3), (6, 7, 9)),
    "one_axis": (nn.Conv1d(6, 5, 3, stride=2, padding=1), (6, 11)),
    "three_axes": (nn.Conv3d(6, 5, (1, 2, 3), padding=(0, 1, 1)), (6, 3, 4, 5)),
    "transposed": (nn.ConvTranspose2d(6, 5, 3, stride=2, padding=1, output_padding=1), (6, 4, 5)),
    "transposed_groups": (nn.ConvTranspose2d(6, 4, (2, 3), groups=2, dilation=2), (6, 4, 5)),
    "transposed_cut": (nn.ConvTranspose2d(6, 5, 2, stride=2, padding=3), (6, 6, 7)),
    "linear": (nn.Linear(6, 5), (6,)),
    "tokens": (nn.Linear(6, 5), (4, 3, 6)),
}

# An even kernel pads one side more than the other, which torch warns of as a matter of speed.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same.:UserWarning")

every_layer = pytest.mark.parametrize("kind", LAYERS)


def reader(kind: str) -> tuple[Reader, Tensor]:
    layer, shape = LAYERS[kind]
    inputs = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)) - 0.5
    return Reader(kind, layer, (Slice(kind, 0, 1),), 6), inputs


def everywhere(reader: Reader, output: Tensor) -> Tensor:
    return torch.arange(reader.places(output)).expand(len(output), -1)


@every_layer
def test_columns_times_weights_are_the_output_without_bias(kind: str) -> None:
    own, inputs = reader(kind)
    with torch.no_grad():
        output = own.layer(inputs)
        places = everywhere(own, output)
        columns = own.columns(inputs, output, places)
        assert columns.shape == (*places.shape, 6, own.depth)
        made = columns.flatten(2) @ own.weight().flatten(1).T
        bias = own.layer.bias if own.layer.bias is not None else 0.0
        torch.testing.assert_close(made + bias, own.at(output, places))


@every_layer
def test_each_contribution_is_the_output_of_its_channel_alone(kind: str) -> None:
    own, inputs = reader(kind)
    random = torch.Generator().manual_seed(1)
    axis = inputs.dim() - 1 if isinstance(own.layer, nn.Linear) else 1
    with torch.no_grad():
        output = own.layer(inputs)
        places = torch.randint(own.places(output), (2, 7), generator=random)
        outputs = torch.randint(own.outputs, (2, 7), generator=random)
        rows = contributions(own, inputs, output, places, outputs)
        nothing = own.at(own.layer(torch.zeros_like(inputs)), places)
        for channel in range(6):
            alone = torch.zeros_like(inputs)
            index = torch.tensor([channel])
            alone.index_copy_(axis, index, inputs.index_select(axis, index))
            made = own.at(own.layer(alone), places) - nothing
            expected = made.gather(2, outputs[:, :, None]).flatten()
            torch.testing.assert_close(rows[:, channel].float(), expected, rtol=1e-4, atol=1e-6)


@every_layer
def test_scaled_and_rewritten_weights_are_read_as_such(kind: str) -> None:
    own, _ = reader(kind)
    before = own.weight().clone()
    state = {name: value.clone() for name, value in own.layer.state_dict().items()}
    factors = torch.arange(6.0)
    try:
        own.set_weight(before)
        for name, value in own.layer.state_dict().items():
            assert torch.equal(value, state[name])
        own.scale(factors)
        assert torch.equal(own.weight(), before * factors[:, None])
        own.set_weight(2 * before)
        assert torch.equal(own.weight(), 2 * before)
    finally:
        own.layer.load_state_dict(state)


def test_a_group_that_is_read_twice_side_by_side_counts_both() -> None:
    layer = nn.Conv2d(8, 3, 1, bias=False)
    own = Reader("conv", layer, (Slice("conv", 0, 1), Slice("conv", 5, 1)), 3)
    inputs = torch.rand(2, 8, 4, 4)
    with torch.no_grad():
        inputs[:, 3:5] = 0.0  # another group's
        output = layer(inputs)
        places = everywhere(own, output)
        made = own.columns(inputs, output, places).flatten(2) @ own.weight().flatten(1).T
        torch.testing.assert_close(made, own.at(output, places))
        weight = own.weight().clone()
        own.set_weight(weight.flip(0))
        assert torch.equal(own.weight(), weight.flip(0))
        own.set_weight(weight)
        torch.testing.assert_close(layer(inputs), output)


@pytest.mark.parametrize("network", [*NORMED, "flattened"])
def test_a_channel_that_no_layer_reads_makes_no_difference(network: str, tmp_path: Path) -> None:
    source = dense(network, tmp_path)
    whole = source.network().eval()
    size = source.space.input_shape[-1]
    images = torch.rand(3, 1, size, size)
    with torch.no_grad():
        before = whole(images)
        for group in source.space.groups:
            reading = readers(source.space, group, whole)
            assert reading
            assert all(each.channels == group.width for each in reading)
            factors = torch.ones(group.width)
            factors[0] = 0.0
            for each in reading:
                each.scale(factors)
        assert not torch.equal(whole(images), before)


def test_a_depthwise_layer_reads_nothing() -> None:
    net = trace("methods_networks:depthwise", input_shape=(1, 8, 8))
    (group, *_) = net.groups
    assert [part.layer for part in net.consumers(group.name)] == ["2.0"]


def test_hooks_are_removed() -> None:
    own, inputs = reader("plain")
    seen: list[Tensor] = []
    with watched([own], lambda each, into, out: seen.append(out)):
        own.layer(inputs)
    own.layer(inputs)
    assert len(seen) == 1


def test_a_layer_without_a_weight_of_its_own_is_refused(tmp_path: Path) -> None:
    source = dense("vgg_mini", tmp_path)
    network = source.network()
    group = source.space.groups[0]
    name = source.space.consumers(group.name)[0].layer
    nn.utils.parametrizations.weight_norm(network.get_submodule(name))
    with pytest.raises(MethodError, match=name):
        readers(space("vgg_mini"), group, network)
