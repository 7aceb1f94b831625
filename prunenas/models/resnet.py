"""Residual networks for CIFAR: 6n + 2 layers in three stages of 16, 32 and 64 channels."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from prunenas.errors import SourceError, unknown
from prunenas.models._base import check_sizes, initialise

Shortcut = Literal["a", "b"]
SHORTCUTS = ("a", "b")


class PaddedShortcut(nn.Module):
    """Every second pixel, with channels of zeros on both sides: no parameters (the paper's A)."""

    def __init__(self, in_planes: int, planes: int) -> None:
        super().__init__()
        missing = planes - in_planes
        self.padding = (0, 0, 0, 0, missing // 2, missing - missing // 2)

    def forward(self, stream: Tensor) -> Tensor:
        """``(N, in_planes, H, W)`` to ``(N, planes, H/2, W/2)``."""
        return functional.pad(stream[:, :, ::2, ::2], self.padding)


class Block(nn.Module):
    """Two 3×3 convolutions with batch normalisation, added to the stream, then ReLU."""

    def __init__(self, in_planes: int, planes: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut: nn.Module
        if stride == 1:
            self.shortcut = nn.Identity()
        elif shortcut == "a":
            self.shortcut = PaddedShortcut(in_planes, planes)
        else:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False), nn.BatchNorm2d(planes)
            )

    def forward(self, stream: Tensor) -> Tensor:
        """``(N, in_planes, H, W)`` to ``(N, planes, H/stride, W/stride)``."""
        inner = torch.relu(self.bn1(self.conv1(stream)))
        return torch.relu(self.bn2(self.conv2(inner)) + self.shortcut(stream))


class ResNet(nn.Module):
    """A 3×3 stem, three stages of ``blocks`` blocks each, global average pool, one linear layer.

    Takes images ``(N, in_channels, H, W)`` and gives logits ``(N, num_classes)``.
    """

    def __init__(self, blocks: int, num_classes: int, in_channels: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        stages: list[nn.Module] = []
        in_planes = 16
        for stage, planes in enumerate((16, 32, 64)):
            layers: list[nn.Module] = []
            for position in range(blocks):
                stride = 2 if stage > 0 and position == 0 else 1
                layers.append(Block(in_planes, planes, stride, shortcut))
                in_planes = planes
            stages.append(nn.Sequential(*layers))
        self.stage1, self.stage2, self.stage3 = stages
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(64, num_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch of images."""
        stream = torch.relu(self.bn1(self.conv1(images)))
        stream = self.stage3(self.stage2(self.stage1(stream)))
        logits: Tensor = self.classifier(self.flatten(self.pool(stream)))
        return logits


def _resnet(
    name: str,
    blocks: int,
    num_classes: int,
    in_channels: int,
    input_size: int,
    shortcut: Shortcut,
) -> ResNet:
    check_sizes(name, num_classes, in_channels, input_size, least=4)
    if shortcut not in SHORTCUTS:
        raise SourceError(unknown("shortcut", shortcut, SHORTCUTS))
    return ResNet(blocks, num_classes, in_channels, shortcut)


def resnet20(
    num_classes: int = 10,
    in_channels: int = 3,
    input_size: int = 32,
    *,
    shortcut: Shortcut = "a",
) -> ResNet:
    """ResNet-20 in its CIFAR form: 0.27 million parameters, 40.55 million FLOPs on 3×32×32.

    Shortcut A is the paper's. In the code of Liu et al. 2019, "Rethinking the Value of Network
    Pruning", it is an average pool, and no gradient flows through it.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2.

    Args:
        num_classes: Logits per image, at least 1.
        in_channels: Channels of the images, at least 1.
        input_size: Height and width of the images in pixels, at least 4.
        shortcut: Between stages: ``"a"`` takes every second pixel and adds channels of zeros, which
            ties the widths of the three residual streams to one another; ``"b"`` is a 1×1
            convolution with batch normalisation, which lets each stream have its own width.

    Raises:
        SourceError: A size is too small, or an unknown shortcut.
    """
    return _resnet("resnet20", 3, num_classes, in_channels, input_size, shortcut)


def resnet32(
    num_classes: int = 10,
    in_channels: int = 3,
    input_size: int = 32,
    *,
    shortcut: Shortcut = "a",
) -> ResNet:
    """ResNet-32 in its CIFAR form: 0.46 million parameters, 68.86 million FLOPs on 3×32×32.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2.

    Args:
        num_classes: Logits per image, at least 1.
        in_channels: Channels of the images, at least 1.
        input_size: Height and width of the images in pixels, at least 4.
        shortcut: As for :func:`resnet20`.

    Raises:
        SourceError: A size is too small, or an unknown shortcut.
    """
    return _resnet("resnet32", 5, num_classes, in_channels, input_size, shortcut)


def resnet44(
    num_classes: int = 10,
    in_channels: int = 3,
    input_size: int = 32,
    *,
    shortcut: Shortcut = "a",
) -> ResNet:
    """ResNet-44 in its CIFAR form: 0.66 million parameters, 97.17 million FLOPs on 3×32×32.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2.

    Args:
        num_classes: Logits per image, at least 1.
        in_channels: Channels of the images, at least 1.
        input_size: Height and width of the images in pixels, at least 4.
        shortcut: As for :func:`resnet20`.

    Raises:
        SourceError: A size is too small, or an unknown shortcut.
    """
    return _resnet("resnet44", 7, num_classes, in_channels, input_size, shortcut)


def resnet56(
    num_classes: int = 10,
    in_channels: int = 3,
    input_size: int = 32,
    *,
    shortcut: Shortcut = "a",
) -> ResNet:
    """ResNet-56 in its CIFAR form: 0.85 million parameters, 125.49 million FLOPs on 3×32×32.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2.

    Args:
        num_classes: Logits per image, at least 1.
        in_channels: Channels of the images, at least 1.
        input_size: Height and width of the images in pixels, at least 4.
        shortcut: As for :func:`resnet20`.

    Raises:
        SourceError: A size is too small, or an unknown shortcut.
    """
    return _resnet("resnet56", 9, num_classes, in_channels, input_size, shortcut)


def resnet110(
    num_classes: int = 10,
    in_channels: int = 3,
    input_size: int = 32,
    *,
    shortcut: Shortcut = "a",
) -> ResNet:
    """ResNet-110 in its CIFAR form: 1.73 million parameters, 252.89 million FLOPs on 3×32×32.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2.

    Args:
        num_classes: Logits per image, at least 1.
        in_channels: Channels of the images, at least 1.
        input_size: Height and width of the images in pixels, at least 4.
        shortcut: As for :func:`resnet20`.

    Raises:
        SourceError: A size is too small, or an unknown shortcut.
    """
    return _resnet("resnet110", 18, num_classes, in_channels, input_size, shortcut)
