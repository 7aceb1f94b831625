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


class Stemmed(nn.Module):
    """A stem of 16 channels, a subclass's own ``make`` and ``body``, and a linear head."""

    out = 16

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.make()
        self.head = nn.Linear(self.out, 10)

    def make(self) -> None:
        self.a = nn.Conv2d(16, 12, 1)
        self.b = nn.Conv2d(12, 16, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a(x)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(F.relu(self.stem(x)))
        return self.head(x.mean((2, 3)) if x.dim() == 4 else x)


class GroupedConcatenation(Stemmed):
    """Each block of a grouped convolution reads parts of two layers."""

    out = 24

    def make(self) -> None:
        self.a, self.b = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 16, 1)
        self.grouped = nn.Conv2d(24, 24, 3, padding=1, groups=2)

    def body(self, x: Tensor) -> Tensor:
        return self.grouped(torch.cat([self.a(x), self.b(x)], 1))


class GroupedPlaces(Stemmed):
    """A grouped convolution over flattened maps: each channel has four places."""

    out = 24

    def make(self) -> None:
        self.a, self.grouped = nn.Conv2d(16, 8, 1), nn.Conv1d(32, 24, 1, groups=2)

    def body(self, x: Tensor) -> Tensor:
        return self.grouped(F.adaptive_avg_pool2d(self.a(x), 2).flatten(1)[..., None]).mean(2)


class DepthwiseTransposed(Stemmed):
    """Three filters for each input channel, transposed: the weight counts inputs first."""

    out = 20

    def make(self) -> None:
        self.depthwise = nn.ConvTranspose2d(16, 48, 2, stride=2, groups=16)
        self.a = nn.Conv2d(48, 20, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.a(self.depthwise(x))


class Moves(Stemmed):
    """Flips channels (frozen) and columns (free)."""

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).flip(1)).flip(3)


class LargerOfTwo(Stemmed):
    """``torch.max(a, b)`` shares its name with the maximum over an axis."""

    def make(self) -> None:
        self.a, self.b = nn.Conv2d(16, 12, 1), nn.Conv2d(16, 12, 1)
        self.c = nn.Conv2d(12, 16, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.c(torch.max(self.a(x), self.b(x)))


class Reshuffles(Stemmed):
    """Operators that move channels as a whole."""

    out = 6

    def make(self) -> None:
        self.a = nn.Conv2d(16, 24, 1)
        self.up, self.down = nn.PixelShuffle(2), nn.PixelUnshuffle(2)
        self.c, self.d = nn.Conv2d(24, 12, 1), nn.Linear(24, 6)

    def body(self, x: Tensor) -> Tensor:
        x = F.interpolate(self.up(self.a(x)), size=16, mode="nearest-exact")  # 6 channels
        x = F.normalize(x, dim=1)
        x = self.c(self.down(x)).repeat(1, 2, 1, 1)
        return self.d(x.movedim(1, -1)).moveaxis(-1, 1)


class Squeezes(Stemmed):
    """``squeeze`` without an axis drops the channels' axis where only one is left."""

    def make(self) -> None:
        self.a, self.b = nn.Conv2d(16, 12, 1), nn.Linear(12, 16)

    def body(self, x: Tensor) -> Tensor:
        return self.b(F.adaptive_avg_pool2d(self.a(x), 1).squeeze())


class LowRank(nn.Linear):
    """Holds more weights than the one that its sizes describe."""

    def __init__(self) -> None:
        super().__init__(16, 20)
        self.first = nn.Parameter(torch.randn(4, self.in_features))
        self.second = nn.Parameter(torch.zeros(self.out_features, 4))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.first), self.second) + super().forward(x)


class LowRankTerm(Stemmed):
    """A linear layer with a low-rank term, as adapters add it."""

    out = 12

    def make(self) -> None:
        self.a, self.b = LowRank(), nn.Linear(20, 12)

    def body(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a(x.mean((2, 3)))))


class NormalisesFirst(nn.Conv2d):
    """A convolution that normalises its input by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.instance_norm(x))


class NormInsideConvolution(Stemmed):
    """The normalisation runs inside the convolution's module and is not that layer."""

    def make(self) -> None:
        self.a, self.b = NormalisesFirst(16, 12, 1), NormalisesFirst(12, 16, 1)


class WeightNorm(Stemmed):
    """Direction and length in place of the weight."""

    def make(self) -> None:
        self.a = nn.utils.parametrizations.weight_norm(nn.Conv2d(16, 12, 3))
        self.b = nn.Conv2d(12, 16, 1)


class SpectralNorm(Stemmed):
    """Its buffers have one entry for each weight of a row."""

    def make(self) -> None:
        self.a = nn.utils.parametrizations.spectral_norm(nn.Conv2d(16, 12, 3))
        self.b = nn.Conv2d(12, 16, 1)


class Gained(nn.Conv2d):
    """Weight standardisation with a gain for each output channel (NFNet)."""

    def __init__(self, fan_in: int, fan_out: int, side: int) -> None:
        super().__init__(fan_in, fan_out, side)
        self.gain = nn.Parameter(torch.ones(self.out_channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight * self.gain, self.bias)


class Gains(Stemmed):
    """The gain has one entry for each output channel and four axes."""

    def make(self) -> None:
        self.a, self.b = Gained(16, 12, 3), nn.Conv2d(12, 16, 1)


class TwoNames(Stemmed):
    """One module under three names."""

    def make(self) -> None:
        self.z = nn.Conv2d(16, 16, 3, padding=1)
        self.y = self.z
        self.inner = nn.Sequential(self.z, nn.ReLU())
        self.c = nn.Conv2d(16, 16, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.c(self.inner(self.y(x)))


class OtherLayersInTraining(Stemmed):
    """Inference runs layers of equal FLOPs that training does not."""

    def make(self) -> None:
        super().make()
        self.c, self.d = nn.Conv2d(16, 12, 1), nn.Conv2d(12, 16, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.a(x)) if self.training else self.d(self.c(x))


class Products(Stemmed):
    """Every way to write a product, some of parameters alone, that have no batch axis."""

    out = 24

    def make(self) -> None:
        self.tokens = nn.Parameter(torch.randn(5, 7))
        self.key, self.value = nn.Linear(7, 24), nn.Linear(7, 24)
        self.query = nn.Linear(16, 24)
        self.matrix, self.bias = nn.Parameter(torch.randn(24, 24)), nn.Parameter(torch.zeros(24))
        self.stack = nn.Parameter(torch.randn(3, 24, 24))

    def body(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        query = self.query(x.flatten(2).transpose(1, 2))  # N, 64, 24
        key = self.key(self.tokens)[None].expand(batch, -1, -1)
        value = self.value(self.tokens[None].expand(batch, -1, -1))
        y = F.scaled_dot_product_attention(query, key, value)  # N, 64, 24
        y = torch.einsum("nij,jk->nik", y, self.matrix)
        y = torch.baddbmm(y, y, self.matrix.expand(batch, -1, -1))
        y = y + (y @ self.bias)[..., None]
        return torch.addmm(self.bias, (y[:, None] @ self.stack).mean((1, 2)), self.matrix)


class SamePadding(Stemmed):
    """``padding="same"`` is an operator of its own."""

    def make(self) -> None:
        self.a = nn.Conv2d(16, 12, 3, padding="same", dilation=2)
        self.b = nn.Conv2d(12, 16, 3, padding="same")


class Wrapped(Stemmed):
    """Blocks under ``no_grad`` and ``autocast`` are graphs within the graph."""

    def body(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.a(x)
        with torch.autocast("cpu", enabled=False):
            return self.b(x)


class CostsByWidth(Stemmed):
    """Its constructor decides on a cost that does not follow from the layers' sizes."""

    def make(self) -> None:
        super().make()
        self.times = 1 if self.stem.out_channels == 16 else 2

    def body(self, x: Tensor) -> Tensor:
        y = super().body(x)
        return y if self.times == 1 else y + super().body(x + 1)


def in_double_precision() -> nn.Module:
    """Weights in float64, which the data never have."""
    return Stemmed().double()
