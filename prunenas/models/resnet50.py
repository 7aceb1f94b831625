"""ResNet-50 for ImageNet whose blocks choose which channels of the residual stream they read."""

import torch
from torch import Tensor, nn

from prunenas.architecture.selection import ChannelSelection
from prunenas.models._base import check_sizes, initialise

EXPANSION = 4
"""The residual stream is this many times as wide as the convolutions inside a block."""


class SampledBottleneck(nn.Module):
    """Torchvision's bottleneck with a channel selection, the sampler, before its first convolution.

    The shortcut reads the whole stream.
    """

    def __init__(self, in_planes: int, planes: int, stride: int) -> None:
        super().__init__()
        out_planes = EXPANSION * planes
        self.sampler = ChannelSelection(in_planes, in_planes)
        self.conv1 = nn.Conv2d(in_planes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out_planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_planes)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_planes != out_planes:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_planes, out_planes, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_planes),
            )

    def forward(self, stream: Tensor) -> Tensor:
        """``(N, in_planes, H, W)`` to ``(N, 4·planes, H/stride, W/stride)``."""
        inner = torch.relu(self.bn1(self.conv1(self.sampler(stream))))
        inner = torch.relu(self.bn2(self.conv2(inner)))
        return torch.relu(self.bn3(self.conv3(inner)) + self.downsample(stream))


class SampledResNet50(nn.Module):
    """A 7×7 stem and max-pool, 3 + 4 + 6 + 3 bottlenecks, global average pool, one linear layer.

    Takes images ``(N, in_channels, H, W)`` and gives logits ``(N, num_classes)``. Layers have the
    names that they have in torchvision's ResNet-50.
    """

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        stages: list[nn.Module] = []
        in_planes = 64
        for stage, (planes, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
            layers: list[nn.Module] = []
            for position in range(blocks):
                stride = 2 if stage > 0 and position == 0 else 1
                layers.append(SampledBottleneck(in_planes, planes, stride))
                in_planes = EXPANSION * planes
            stages.append(nn.Sequential(*layers))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(in_planes, num_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch of images."""
        stream = self.maxpool(torch.relu(self.bn1(self.conv1(images))))
        stream = self.layer4(self.layer3(self.layer2(self.layer1(stream))))
        logits: Tensor = self.fc(self.flatten(self.avgpool(stream)))
        return logits


def resnet50_sampled(
    num_classes: int = 1000, in_channels: int = 3, input_size: int = 224
) -> SampledResNet50:
    """ResNet-50 with channel samplers for ImageNet: 25.56 million parameters, 4.09 GFLOPs.

    Each block reads a choice of the residual stream's channels, a width of its own; with full
    samplers it is torchvision's ResNet-50, parameters' names and initialisation included.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", as in torchvision; the
    samplers are those of He, Zhang and Sun 2017, "Channel Pruning for Accelerating Very Deep
    Neural Networks".

    Args:
        num_classes: Logits per image, at least 1.
        in_channels: Channels of the images, at least 1.
        input_size: Height and width of the images in pixels, at least 4.

    Raises:
        SourceError: A size is too small.
    """
    check_sizes("resnet50_sampled", num_classes, in_channels, input_size, least=4)
    return SampledResNet50(num_classes, in_channels)
