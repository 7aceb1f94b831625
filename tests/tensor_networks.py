"""Small networks with parameters and buffers of their own, for the tracing tests."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Scaled(nn.Module):
    """A residual stream of 8 channels with a layer scale, a shift and a constant buffer."""

    def __init__(self, shape: tuple[int, ...] = (8, 1, 1)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.inner = nn.Conv2d(8, 12, 1)
        self.outer = nn.Conv2d(12, 8, 1)
        self.scale = nn.Parameter(0.1 * torch.ones(shape))
        self.shift = nn.Parameter(torch.zeros(1, 8, 1, 1))
        self.register_buffer("mean", torch.zeros(8))
        self.head = nn.Linear(8, 10)

    def scaled(self, x: Tensor) -> Tensor:
        return self.scale * x

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = x + self.scaled(self.outer(F.relu(self.inner(x))))
        x = F.relu(x - self.mean[:, None, None] + self.shift)
        return self.head(x.mean((2, 3)))


class WritesTheShapeOut(Scaled):
    """Reshapes the scale to eight channels, whatever it has."""

    def scaled(self, x: Tensor) -> Tensor:
        return self.scale.reshape(1, 8, 1, 1) * x


class Mixes(Scaled):
    """The parameter is a weight in all but name: its variance should follow its fan."""

    def __init__(self) -> None:
        super().__init__((8, 8))

    def scaled(self, x: Tensor) -> Tensor:
        return (x.movedim(1, -1) @ self.scale).movedim(-1, 1)


class Tied(Scaled):
    """One parameter under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.also = self.scale


class FollowsByItself(Scaled):
    """The constructor asks a layer for its size."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(self.outer.out_channels, 1, 1))


class Untrained(Scaled):
    """What is added to the channels is a pattern that no training changes."""

    def __init__(self, how: str = "buffer") -> None:
        super().__init__()
        wave = torch.tensor([math.sin(i) for i in range(8)])
        if how == "parameter":
            self.wave = nn.Parameter(wave, requires_grad=False)
        else:
            self.register_buffer("wave", wave, persistent=how == "buffer")

    def scaled(self, x: Tensor) -> Tensor:
        return self.wave[:, None, None] + x


class Unsaved(Scaled):
    """A constant buffer that the state dict leaves out: trained weights can't say which entries."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(8), persistent=False)


class Tokens(nn.Module):
    """A transformer's input: patches, a class token, positions; then layers of its own norms."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 12))
        self.position = nn.Parameter(torch.randn(1, 5, 12) * 0.02)
        self.gain = nn.Parameter(torch.ones(12))
        self.offset = nn.Parameter(torch.zeros(12))
        self.first = nn.Linear(12, 20)
        self.second = nn.Linear(20, 12)
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        x = F.layer_norm(x, x.shape[-1:], self.gain, self.offset)
        x = x + self.second(F.gelu(self.first(x)))
        return self.head(x[:, 0])


class ThreeAxes(nn.Module):
    """One parameter with channels of three layers, one on each axis."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(3, size) for size in (4, 5, 6))
        self.all = nn.Parameter(torch.ones(4, 5, 6))
        self.last = nn.Linear(6, 7)
        self.head = nn.Linear(7, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean((2, 3))
        a, b, c = self.a(x)[:, :, None, None], self.b(x)[:, None, :, None], self.c(x)[:, None, None]
        return self.head(self.last((a * b * c * self.all).sum((1, 2))))
