"""Small networks that cut, gate, shuffle or take apart their channels, for the tracing tests."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Body(nn.Module):
    """A convolution, a subclass's own way with its 16 channels, a convolution, a linear head."""

    out = 8

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3, padding=1)
        self.make()
        self.b = nn.Conv2d(self.out, 6, 1)
        self.head = nn.Linear(6, 10)

    def make(self) -> None:
        """Layers of a subclass's own."""

    def body(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.b(self.body(self.a(x)))).mean((2, 3)))


class Gated(Body):
    """One half opens and closes the other."""

    def body(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        return first * torch.sigmoid(second)


class GatedBySlices(Body):
    """The same, with two slices."""

    def body(self, x: Tensor) -> Tensor:
        half = x.shape[1] // 2
        return x[:, :half] * torch.sigmoid(x[:, half:])


class GatedByOperator(Body):
    """The same, with torch's own operator."""

    def body(self, x: Tensor) -> Tensor:
        return F.glu(x, dim=1)


class TwoWays(Body):
    """One half is left as it is, the other goes through a layer, and both are concatenated."""

    out = 16

    def make(self) -> None:
        self.c = nn.Conv2d(8, 8, 3, padding=1)

    def body(self, x: Tensor) -> Tensor:
        first, second = x.tensor_split(2, dim=1)
        return torch.cat([first, F.relu(self.c(second))], 1)


class Quarters(Body):
    """Parts of one and of three quarters."""

    out = 12

    def make(self) -> None:
        self.c = nn.Conv2d(4, 12, 1)

    def body(self, x: Tensor) -> Tensor:
        quarter = x.shape[1] // 4
        first, second = x.split([quarter, x.shape[1] - quarter], dim=1)
        return second + self.c(first)


class Concatenated(Body):
    """What was concatenated is cut again in the same place."""

    out = 4

    def make(self) -> None:
        self.c, self.d = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.a(x), self.c(x)
        sizes = [first.shape[1], second.shape[1]]
        first, second = torch.cat([first, second], 1).split(sizes, dim=1)
        return self.head(F.relu(self.b(second * torch.tanh(self.d(first)))).mean((2, 3)))


class WrittenOut(Body):
    """The sizes of the halves are written out as numbers: another width does not run."""

    def body(self, x: Tensor) -> Tensor:
        first, second = torch.split(x, [8, 8], dim=1)
        return first * second


class WrittenOutButRuns(Body):
    """The first eight channels' mean: runs at every width of at least eight, on other channels."""

    out = 16

    def body(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x[:, :8].mean(1, keepdim=True))


class Uneven(Body):
    """Three channels are taken from sixteen."""

    out = 3

    def body(self, x: Tensor) -> Tensor:
        return x[:, 2:5]


class EverySecond(Body):
    """A step through the channels."""

    def body(self, x: Tensor) -> Tensor:
        return x[:, ::2]


def shuffle(x: Tensor, groups: int) -> Tensor:
    """ShuffleNet's: (first half, second half) to neighbours."""
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class Shuffled(Body):
    """Two layers' channels are shuffled, then cut into halves once."""

    def make(self) -> None:
        self.c = nn.Conv2d(3, 16, 3, padding=1)
        self.d = nn.Conv2d(16, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = shuffle(torch.cat([self.a(x), self.c(x)], 1), 2)
        first, second = x.chunk(2, dim=1)
        x = F.relu(self.b(self.d(first) * torch.sigmoid(self.d(second))))
        return self.head(x.mean((2, 3)))


class LargestOfTwo(Body):
    """Maxout: of every two neighbouring channels the larger."""

    def body(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (x.shape[1] // 2, 2)).amax(2)


class SlidesOverChannels(Body):
    """Efficient channel attention: a convolution whose places are the channels."""

    out = 16

    def make(self) -> None:
        self.c = nn.Conv1d(1, 1, 3, padding=1)

    def body(self, x: Tensor) -> Tensor:
        weights = self.c(x.mean((2, 3))[:, None]).sigmoid()
        return x * weights[:, 0, :, None, None]


class Copied(Body):
    """A layer that was copied: the constructor made it once."""

    out = 16

    def make(self) -> None:
        self.c = nn.Conv2d(16, 16, 1)
        self.d = copy.deepcopy(self.c)

    def body(self, x: Tensor) -> Tensor:
        return self.d(F.relu(self.c(x)))


class Attends(nn.Module):
    """Attention of four heads; ``how`` the forward pass knows the sizes."""

    def __init__(self, how: str = "computed") -> None:
        super().__init__()
        self.how = how
        self.patches = nn.Conv2d(3, 20, 4, 4)
        self.qkv = nn.Linear(20, 3 * 4 * 6)
        self.out = nn.Linear(4 * 6, 20)
        self.head = nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        n, t, _ = x.shape
        packed = self.qkv(x)
        if self.how == "computed":
            packed = packed.view(n, t, 3, 4, -1)
        elif self.how == "written":
            packed = packed.view(n, t, 3, 4, 6)
        else:  # the number of heads follows, which the trace can't know
            packed = packed.view(n, t, 3, -1, 6)
        q, k, v = packed.permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head((x + self.out(y)).mean(1))
