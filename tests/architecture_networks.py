"""Small networks with one hard case each, for the tracing tests; built by ``import.path:name``."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Literal(nn.Module):
    """Writes the number of channels out in its forward pass: that layer can't vary."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 12, 3, padding=1)
        self.head = nn.Linear(12 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(F.relu(self.first(x)))
        return self.head(F.adaptive_avg_pool2d(x, 4).view(-1, 12 * 16))


class AddedToConcatenation(nn.Module):
    """Adds 6 + 4 concatenated channels to 10 others, whose layer then has both parts."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, padding=1)
        self.b = nn.Conv2d(3, 4, 3, padding=1)
        self.c = nn.Conv2d(3, 10, 3, padding=1)
        self.head = nn.Linear(10, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.a(x), self.b(x)], 1) + self.c(x)
        return self.head(x.mean((2, 3)))


class PaddedShortcut(nn.Module):
    """ResNet's shortcut A: 4 zero channels on each side of the narrower stream."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(3, 8, 3, padding=1)
        self.wide = nn.Conv2d(8, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.narrow(x)
        x = F.pad(x, (0, 0, 0, 0, 4, 4)) + self.norm(self.wide(x))
        return self.head(x.mean((2, 3)))


class Unruled(nn.Module):
    """Sorts its channels: no rule says what that does to them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.second = nn.Conv2d(8, 6, 3)
        self.head = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sort(self.first(x), dim=1).values
        return self.head(self.second(x).mean((2, 3)))


class NothingVaries(nn.Module):
    """One linear layer between input and output."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


class DependsOnValues(nn.Module):
    """Python control flow on a tensor's value can't be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 10, 8)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            x = x + 1
        return self.head(x).flatten(1)


class ReadsItsWeights(nn.Module):
    """Its constructor reads weights' values, which a network without memory does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, 10)
        self.scale = float(self.first.weight.abs().max())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).mean((2, 3))) * self.scale


class SharedAndTransposed(nn.Module):
    """One layer twice, a transposed convolution, channels last, group and layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.twice = nn.Conv2d(12, 12, 3, padding=1)
        self.up = nn.ConvTranspose2d(12, 8, 2, stride=2)
        self.groups = nn.GroupNorm(4, 8)
        self.layer = nn.LayerNorm(8)
        self.mix = nn.Linear(8, 6)
        self.activation = nn.PReLU(6)
        self.head = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(F.relu(self.twice(self.stem(x))))
        x = self.layer(self.groups(self.up(x)).permute(0, 2, 3, 1))
        x = self.activation(self.mix(x).permute(0, 3, 1, 2))
        return self.head(F.max_pool2d(x, 16).flatten(1))


def not_a_module() -> int:
    """A source that returns something else."""
    return 3


def initialised(rule: str, width: int = 64) -> nn.Module:
    """Two convolutions and a linear layer, initialised by a named rule."""
    network = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 10),
    )
    for module in network:
        if isinstance(module, nn.Conv2d):
            if rule == "he_fan_out":
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif rule == "he_fan_in":
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            elif rule == "constant":
                nn.init.normal_(module.weight, std=0.01)
    return network
