"""What the papers' networks share: initialisation, VGG's convolutions, and checked arguments."""

from collections.abc import Sequence
from typing import Literal

from torch import nn

from prunenas.errors import SourceError

Plan = Sequence[int | Literal["M"]]
"""Output channels of VGG's convolutions in order; ``"M"`` is a 2×2 max-pool."""

VGG11: Plan = (
    *(64, "M"),
    *(128, "M"),
    *(256, 256, "M"),
    *(512, 512, "M"),
    *(512, 512),
)
"""VGG's configuration A without its last max-pool."""


def convolutions(plan: Plan, in_channels: int, *, batch_norm: bool) -> tuple[list[nn.Module], int]:
    """VGG's layers: 3×3 convolutions, each with ReLU, and max-pools between them.

    Args:
        plan: The layers in order.
        in_channels: Channels of the images.
        batch_norm: Normalise before each ReLU, which makes the convolutions' biases superfluous.

    Returns:
        The layers, and how many channels the last one gives.
    """
    layers: list[nn.Module] = []
    channels = in_channels
    for step in plan:
        if step == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers.append(nn.Conv2d(channels, step, 3, padding=1, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(step))
            layers.append(nn.ReLU(inplace=True))
            channels = step
    return layers, channels


def initialise(network: nn.Module, *, gamma: float = 1.0, linear_std: float | None = None) -> None:
    """Draw the weights of ``network`` from torch's global random numbers, in module order.

    Convolutions: He normal at the fan-out, N(0, sqrt(2 / (k·k·out))). Batch normalisation of
    feature maps: scale ``gamma``, shift 0. Linear layers: N(0, ``linear_std``) and bias 0, or,
    where it is ``None``, PyTorch's own: uniform with variance 1 / (3 · fan-in).

    Source: He et al. 2015, "Delving Deep into Rectifiers", section 2.2, backward form.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, gamma)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and linear_std is not None:
            nn.init.normal_(module.weight, 0.0, linear_std)
            nn.init.zeros_(module.bias)


def check_sizes(
    model: str, num_classes: int, in_channels: int, input_size: int, least: int
) -> None:
    """Refuse sizes that the model's layers can't take.

    Raises:
        SourceError: ``num_classes`` or ``in_channels`` below 1, or ``input_size`` below ``least``.
    """
    for argument, value, minimum in (
        ("num_classes", num_classes, 1),
        ("in_channels", in_channels, 1),
        ("input_size", input_size, least),
    ):
        if value < minimum:
            raise SourceError(f"{model} needs {argument} >= {minimum}, got {value}")
