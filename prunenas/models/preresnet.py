"""Pre-activation residual networks for CIFAR: 9n + 2 layers in three stages of bottlenecks."""

import torch
from torch import Tensor, nn

from prunenas.architecture.selection import ChannelSelection
from prunenas.models._base import check_sizes, initialise

EXPANSION = 4
"""The residual stream is this many times as wide as the convolutions inside a block."""


class PreActivationBlock(nn.Module):
    """1×1, 3×3 and 1×1 convolutions, each behind batch normalisation and ReLU, plus the stream.

    The convolutions' widths are the block's own. What the first one reads of the stream is chosen
    by a channel selection, so that it can be cut too.
    """

    def __init__(self, in_planes: int, planes: int, stride: int, selection: bool) -> None:
        super().__init__()
        out_planes = EXPANSION * planes
        self.bn1 = nn.BatchNorm2d(in_planes)
        self.select = ChannelSelection(in_planes, in_planes) if selection else nn.Identity()
        self.conv1 = nn.Conv2d(in_planes, planes, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out_planes, 1, bias=False)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_planes != out_planes:
            self.shortcut = nn.Conv2d(in_planes, out_planes, 1, stride=stride, bias=False)

    def forward(self, stream: Tensor) -> Tensor:
        """``(N, in_planes, H, W)`` to ``(N, 4·planes, H/stride, W/stride)``."""
        inner = self.conv1(torch.relu(self.select(self.bn1(stream))))
        inner = self.conv2(torch.relu(self.bn2(inner)))
        inner = self.conv3(torch.relu(self.bn3(inner)))
        changed: Tensor = inner + self.shortcut(stream)
        return changed


class PreActivationResNet(nn.Module):
    """A 3×3 stem, three stages of ``blocks`` blocks, batch normalisation, ReLU, pool, one layer.

    Takes images ``(N, in_channels, H, W)`` and gives logits ``(N, num_classes)``.
    """

    def __init__(
        self, blocks: int, num_classes: int, in_channels: int, *, selection: bool, gamma: float
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        stages: list[nn.Module] = []
        in_planes = 16
        for stage, planes in enumerate((16, 32, 64)):
            layers: list[nn.Module] = []
            for position in range(blocks):
                stride = 2 if stage > 0 and position == 0 else 1
                layers.append(PreActivationBlock(in_planes, planes, stride, selection))
                in_planes = EXPANSION * planes
            stages.append(nn.Sequential(*layers))
        self.stage1, self.stage2, self.stage3 = stages
        self.bn = nn.BatchNorm2d(in_planes)
        self.select = ChannelSelection(in_planes, in_planes) if selection else nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(in_planes, num_classes)
        initialise(self, gamma=gamma)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch of images."""
        stream = self.stage3(self.stage2(self.stage1(self.conv1(images))))
        stream = torch.relu(self.select(self.bn(stream)))
        logits: Tensor = self.classifier(self.flatten(self.pool(stream)))
        return logits


def preresnet110(
    num_classes: int = 10,
    in_channels: int = 3,
    input_size: int = 32,
    *,
    selection: bool = True,
    gamma: float = 1.0,
) -> PreActivationResNet:
    """PreResNet-110 with bottlenecks: 1.15 million parameters, 167.43 million FLOPs on 3×32×32.

    Source: He et al. 2016, "Identity Mappings in Deep Residual Networks", at the depth and with
    the bottlenecks of Liu et al. 2019, "Rethinking the Value of Network Pruning".

    Args:
        num_classes: Logits per image, at least 1.
        in_channels: Channels of the images, at least 1.
        input_size: Height and width of the images in pixels, at least 4.
        selection, gamma: As for :func:`preresnet164`.

    Raises:
        SourceError: A size is too small.
    """
    check_sizes("preresnet110", num_classes, in_channels, input_size, least=4)
    return PreActivationResNet(12, num_classes, in_channels, selection=selection, gamma=gamma)


def preresnet164(
    num_classes: int = 10,
    in_channels: int = 3,
    input_size: int = 32,
    *,
    selection: bool = True,
    gamma: float = 1.0,
) -> PreActivationResNet:
    """PreResNet-164 with bottlenecks: 1.70 million parameters, 247.65 million FLOPs on 3×32×32.

    Projections are a 1×1 convolution alone. Network slimming's code counts its channel selections
    as parameters (1.71 million); here they are none.

    Source: He et al. 2016, "Identity Mappings in Deep Residual Networks", in the form of Liu et
    al. 2017, "Learning Efficient Convolutional Networks through Network Slimming".

    Args:
        num_classes: Logits per image, at least 1.
        in_channels: Channels of the images, at least 1.
        input_size: Height and width of the images in pixels, at least 4.
        selection: Whether each block and the linear layer choose which channels of the residual
            stream they read, a width of their own each. Without it they read all of them.
        gamma: Initial scale of batch normalisation; network slimming's is 0.5.

    Raises:
        SourceError: A size is too small.
    """
    check_sizes("preresnet164", num_classes, in_channels, input_size, least=4)
    return PreActivationResNet(18, num_classes, in_channels, selection=selection, gamma=gamma)
