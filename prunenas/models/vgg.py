"""VGG networks with batch normalisation, in the form used for small images."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from prunenas.models._base import check_sizes, initialise

Plan = Sequence[int | Literal["M"]]

MINI: Plan = (16, "M", 32, "M", 64, 64)
VGG16: Plan = (
    *(64, 64, "M"),
    *(128, 128, "M"),
    *(256, 256, 256, "M"),
    *(512, 512, 512, "M"),
    *(512, 512, 512, "M"),
)


class VGG(nn.Module):
    """3×3 convolutions, each with batch normalisation and ReLU, then one linear layer.

    Takes images ``(N, in_channels, H, W)`` and gives logits ``(N, num_classes)``.

    Args:
        plan: Output channels of the convolutions in order; ``"M"`` is a 2×2 max-pool.
        positions: Pixels of the last feature map, H·W, that the linear layer sees; ``None``
            averages over them first.
        gamma: Initial scale of batch normalisation.
        linear_std: Of the linear layer's initial weights; ``None`` for PyTorch's own rule.
    """

    def __init__(
        self,
        plan: Plan,
        num_classes: int,
        in_channels: int,
        *,
        positions: int | None,
        gamma: float,
        linear_std: float | None,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for step in plan:
            if step == "M":
                layers.append(nn.MaxPool2d(2))
            else:
                layers.append(nn.Conv2d(channels, step, 3, padding=1, bias=False))
                layers.append(nn.BatchNorm2d(step))
                layers.append(nn.ReLU(inplace=True))
                channels = step
        if positions is None:
            layers.append(nn.AdaptiveAvgPool2d(1))
        self.features = nn.Sequential(*layers)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels * (positions or 1), num_classes)
        initialise(self, gamma=gamma, linear_std=linear_std)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch of images."""
        logits: Tensor = self.classifier(self.flatten(self.features(images)))
        return logits


def vgg_mini(
    num_classes: int = 10, in_channels: int = 1, input_size: int = 28, *, gamma: float = 1.0
) -> VGG:
    """VGG with batch normalisation for small images: widths 16, 32, 64, 64; 61,050 parameters.

    Convolutions 16, max-pool, 32, max-pool, 64, 64, global average pool, one linear layer. No
    paper's network: the building blocks are VGG's, the size is chosen for minutes on a CPU.

    Source: after Simonyan and Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale
    Image Recognition"; batch normalisation after Ioffe and Szegedy 2015.

    Args:
        num_classes: Logits per image, at least 1.
        in_channels: Channels of the images, at least 1.
        input_size: Height and width of the images in pixels, at least 4.
        gamma: Initial scale of batch normalisation.

    Raises:
        SourceError: A size is too small.
    """
    check_sizes("vgg_mini", num_classes, in_channels, input_size, least=4)
    # PyTorch's linear layer rather than VGG's N(0, 0.01): behind a global average the small weights
    # cost accuracy in short trainings (mnist5k, 4 epochs at batch 128: 0.89 against 0.94, one run).
    return VGG(MINI, num_classes, in_channels, positions=None, gamma=gamma, linear_std=None)


def vgg16(
    num_classes: int = 10, in_channels: int = 3, input_size: int = 32, *, gamma: float = 1.0
) -> VGG:
    """VGG-16 with batch normalisation in its CIFAR form; 313,201,664 FLOPs on 3×32×32.

    13 convolutions of 3×3, five max-pools, and one linear layer over the 512 channels.

    Source: Li et al. 2017, "Pruning Filters for Efficient ConvNets"; one linear layer, N(0, 0.01),
    in place of their two. Network slimming starts batch normalisation at ``gamma`` 0.5 (Liu et al.
    2017, "Learning Efficient Convolutional Networks through Network Slimming").

    Args:
        num_classes: Logits per image, at least 1.
        in_channels: Channels of the images, at least 1.
        input_size: Height and width of the images in pixels, at least 32; above 63 the linear
            layer sees more than one position per channel.
        gamma: Initial scale of batch normalisation.

    Raises:
        SourceError: A size is too small.
    """
    check_sizes("vgg16", num_classes, in_channels, input_size, least=32)
    positions = (input_size // 32) ** 2
    return VGG(VGG16, num_classes, in_channels, positions=positions, gamma=gamma, linear_std=0.01)
