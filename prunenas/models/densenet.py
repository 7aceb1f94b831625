"""Densely connected networks for CIFAR: three dense blocks with growth rate 12."""

import torch
from torch import Tensor, nn

from prunenas.architecture.selection import ChannelSelection
from prunenas.models._base import check_sizes, initialise

GROWTH = 12


def _selected(channels: int, selection: bool) -> nn.Module:
    return ChannelSelection(channels, channels) if selection else nn.Identity()


class DenseLayer(nn.Module):
    """Batch normalisation, ReLU and a 3×3 convolution; its maps are appended to the stream."""

    def __init__(self, in_planes: int, selection: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_planes)
        self.select = _selected(in_planes, selection)
        self.conv1 = nn.Conv2d(in_planes, GROWTH, 3, padding=1, bias=False)

    def forward(self, stream: Tensor) -> Tensor:
        """``(N, in_planes, H, W)`` to ``(N, in_planes + 12, H, W)``."""
        new = self.conv1(torch.relu(self.select(self.bn1(stream))))
        return torch.cat((stream, new), 1)


class DenseBottleneck(nn.Module):
    """A dense layer that first narrows the stream to 4·12 maps by a 1×1 convolution."""

    def __init__(self, in_planes: int, selection: bool) -> None:
        super().__init__()
        planes = 4 * GROWTH
        self.bn1 = nn.BatchNorm2d(in_planes)
        self.select = _selected(in_planes, selection)
        self.conv1 = nn.Conv2d(in_planes, planes, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, GROWTH, 3, padding=1, bias=False)

    def forward(self, stream: Tensor) -> Tensor:
        """``(N, in_planes, H, W)`` to ``(N, in_planes + 12, H, W)``."""
        inner = self.conv1(torch.relu(self.select(self.bn1(stream))))
        new = self.conv2(torch.relu(self.bn2(inner)))
        return torch.cat((stream, new), 1)


class Transition(nn.Module):
    """Batch normalisation, ReLU, a 1×1 convolution and a 2×2 average pool between two blocks."""

    def __init__(self, in_planes: int, out_planes: int, selection: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_planes)
        self.select = _selected(in_planes, selection)
        self.conv1 = nn.Conv2d(in_planes, out_planes, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, stream: Tensor) -> Tensor:
        """``(N, in_planes, H, W)`` to ``(N, out_planes, H/2, W/2)``."""
        narrowed: Tensor = self.pool(self.conv1(torch.relu(self.select(self.bn1(stream)))))
        return narrowed


class DenseNet(nn.Module):
    """A 3×3 stem, three dense blocks, batch normalisation, ReLU, global pool, one linear layer.

    Takes images ``(N, in_channels, H, W)`` and gives logits ``(N, num_classes)``.

    Args:
        layers: In each dense block.
        num_classes: Logits per image.
        in_channels: Channels of the images.
        bottleneck: Whether the layers have bottlenecks and the transitions pass on half of their
            channels (DenseNet-BC).
        selection: Whether each layer chooses what it reads.
        gamma: Initial scale of batch normalisation.
    """

    def __init__(
        self,
        layers: int,
        num_classes: int,
        in_channels: int,
        *,
        bottleneck: bool,
        selection: bool,
        gamma: float,
    ) -> None:
        super().__init__()
        planes = 2 * GROWTH
        self.conv1 = nn.Conv2d(in_channels, planes, 3, padding=1, bias=False)
        blocks: list[nn.Module] = []
        for block in range(3):
            parts: list[nn.Module] = []
            for _ in range(layers):
                layer = DenseBottleneck if bottleneck else DenseLayer
                parts.append(layer(planes, selection))
                planes += GROWTH
            if block < 2:
                out_planes = planes // 2 if bottleneck else planes
                parts.append(Transition(planes, out_planes, selection))
                planes = out_planes
            blocks.append(nn.Sequential(*parts))
        self.block1, self.block2, self.block3 = blocks
        self.bn = nn.BatchNorm2d(planes)
        self.select = _selected(planes, selection)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(planes, num_classes)
        initialise(self, gamma=gamma)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch of images."""
        stream = self.block3(self.block2(self.block1(self.conv1(images))))
        stream = torch.relu(self.select(self.bn(stream)))
        logits: Tensor = self.classifier(self.flatten(self.pool(stream)))
        return logits


def densenet40(
    num_classes: int = 10,
    in_channels: int = 3,
    input_size: int = 32,
    *,
    selection: bool = True,
    gamma: float = 1.0,
) -> DenseNet:
    """DenseNet-40 (growth 12): 1.06 million parameters, 282.92 million FLOPs on 3×32×32.

    The stem has 24 channels and the layers have channel selections, as in network slimming; Huang
    et al.'s stem has 16, which makes 1.02 million parameters.

    Source: Huang et al. 2017, "Densely Connected Convolutional Networks", in the form of Liu et
    al. 2017, "Learning Efficient Convolutional Networks through Network Slimming".

    Args:
        num_classes: Logits per image, at least 1.
        in_channels: Channels of the images, at least 1.
        input_size: Height and width of the images in pixels, at least 4.
        selection: Whether each layer, transition and the linear layer choose which of the channels
            before them they read, a width of their own each. Without it they read all of them.
        gamma: Initial scale of batch normalisation; network slimming's is 0.5.

    Raises:
        SourceError: A size is too small.
    """
    check_sizes("densenet40", num_classes, in_channels, input_size, least=4)
    return DenseNet(
        12, num_classes, in_channels, bottleneck=False, selection=selection, gamma=gamma
    )


def densenet_bc_100(
    num_classes: int = 10,
    in_channels: int = 3,
    input_size: int = 32,
    *,
    selection: bool = True,
    gamma: float = 1.0,
) -> DenseNet:
    """DenseNet-BC-100 (growth 12): 0.77 million parameters, 287.93 million FLOPs on 3×32×32.

    Source: Huang et al. 2017, "Densely Connected Convolutional Networks"; among the networks of
    Liu et al. 2019, "Rethinking the Value of Network Pruning".

    Args:
        num_classes: Logits per image, at least 1.
        in_channels: Channels of the images, at least 1.
        input_size: Height and width of the images in pixels, at least 4.
        selection, gamma: As for :func:`densenet40`.

    Raises:
        SourceError: A size is too small.
    """
    check_sizes("densenet_bc_100", num_classes, in_channels, input_size, least=4)
    return DenseNet(16, num_classes, in_channels, bottleneck=True, selection=selection, gamma=gamma)
