"""What a network is run on for its shapes: they are those of a real run, and mistakes are found."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from prunenas.architecture.shapes import Shapes


def network(normalised: int, **settings: bool) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2),
        nn.BatchNorm2d(normalised, **settings),
        nn.ReLU(),
        nn.Flatten(),
        nn.BatchNorm1d(6 * 49, **settings),
        nn.Linear(6 * 49, 5),
    )


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("settings", [{}, {"affine": False}, {"track_running_stats": False}])
def test_shapes_are_those_of_a_real_run(train: bool, settings: dict[str, bool]) -> None:
    real = network(6, **settings).train(train)
    seen: list[torch.Size] = []
    for module in real:
        module.register_forward_hook(lambda _, __, output: seen.append(output.shape))
    real(torch.zeros(2, 3, 16, 16))
    expected = list(seen)
    seen.clear()
    with Shapes():
        real.to("meta")(torch.zeros(2, 3, 16, 16, device="meta"))
    assert seen == expected


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


def transformer(normalised: int, biases: int) -> nn.Module:
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
    real = transformer(8, 2).train(train)
    seen: list[torch.Size] = []
    for module in real:
        module.register_forward_hook(lambda _, __, output: seen.append(output.shape))
    real(torch.zeros(3, 4, 2, 3))
    expected = list(seen)
    seen.clear()
    with Shapes(), FlopCounterMode(display=False) as counter:
        real.to("meta")(torch.zeros(3, 4, 2, 3, device="meta"))
    assert seen == expected
    assert counter.get_total_flops() == 2 * 3 * 4 * (6 * 8 + 8 * 2)  # linear layers are counted


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
