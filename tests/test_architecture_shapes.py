"""What a network is run on for its shapes: they are those of a real run, and mistakes are found."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from prunenas.architecture.shapes import Shapes


def network(normalised: int, **settings: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2),
        nn.BatchNorm2d(normalised, **settings),
        nn.ReLU(),
        nn.Flatten(),
        nn.BatchNorm1d(6 * 49, **settings),
        nn.Linear(6 * 49, 5),
    )


def check_shapes(layers: nn.Sequential, images: Tensor) -> None:
    """Each layer's output has on the meta device the shape that it has in memory."""
    seen: list[torch.Size] = []
    for layer in layers:
        layer.register_forward_hook(lambda _, __, output: seen.append(output.shape))
    layers(images)
    real = list(seen)
    seen.clear()
    with Shapes():
        layers.to("meta")(images.to("meta"))
    assert seen == real


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("settings", [{}, {"affine": False}, {"track_running_stats": False}])
def test_shapes_are_those_of_a_real_run(train: bool, settings: dict[str, bool]) -> None:
    check_shapes(network(6, **settings).train(train), torch.zeros(2, 3, 16, 16))


@pytest.mark.parametrize("settings", [{}, {"affine": False}, {"track_running_stats": False}])
@pytest.mark.parametrize("train", [True, False])
def test_another_number_of_channels_is_an_error_as_in_a_real_run(
    train: bool, settings: dict[str, bool]
) -> None:
    wrong = network(4, **settings).train(train)
    with pytest.raises(RuntimeError):
        wrong(torch.zeros(2, 3, 16, 16))
    with Shapes(), pytest.raises(RuntimeError, match="batch_norm of 6 channels"):
        wrong.to("meta")(torch.zeros(2, 3, 16, 16, device="meta"))


class Normalised(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return functional.normalize(images, dim=-1)


def transformer(normalised: int, biases: int) -> nn.Sequential:
    layers = nn.Linear(6, 8), nn.LayerNorm(normalised), nn.LayerNorm((4, 8)), nn.Linear(8, 2)
    network = nn.Sequential(
        nn.Flatten(2),
        *layers[:3],
        nn.GELU(),
        nn.Hardswish(),
        nn.Hardsigmoid(inplace=True),
        Normalised(),
        layers[3],
    )
    layers[3].bias = nn.Parameter(torch.zeros(biases))
    return network


@pytest.mark.parametrize("train", [True, False])
def test_a_transformers_shapes_are_those_of_a_real_run(train: bool) -> None:
    with FlopCounterMode(display=False) as counter:
        check_shapes(transformer(8, 2).train(train), torch.zeros(3, 4, 2, 3))
    # Both runs, with memory and without: linear layers are counted in either.
    assert counter.get_total_flops() == 2 * 2 * 3 * 4 * (6 * 8 + 8 * 2)


@pytest.mark.parametrize(
    ("normalised", "biases", "reason"), [(6, 2, "layer_norm of"), (8, 3, "linear of 2 outputs")]
)
def test_a_transformers_mistakes_are_errors_as_in_a_real_run(
    normalised: int, biases: int, reason: str
) -> None:
    wrong = transformer(normalised, biases)
    with pytest.raises(RuntimeError):
        wrong(torch.zeros(3, 4, 2, 3))
    with Shapes(), pytest.raises(RuntimeError, match=reason):
        wrong.to("meta")(torch.zeros(3, 4, 2, 3, device="meta"))
