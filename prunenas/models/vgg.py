"""VGG networks: the form for small images, with batch normalisation, and ThiNet's for ImageNet."""

from torch import Tensor, nn

from prunenas.errors import SourceError
from prunenas.models._base import VGG11, Plan, check_sizes, convolutions, initialise

MINI: Plan = (16, "M", 32, "M", 64, 64)
VGG13: Plan = (
    *(64, 64, "M"),
    *(128, 128, "M"),
    *(256, 256, "M"),
    *(512, 512, "M"),
    *(512, 512),
)
VGG16: Plan = (
    *(64, 64, "M"),
    *(128, 128, "M"),
    *(256, 256, 256, "M"),
    *(512, 512, 512, "M"),
    *(512, 512, 512),
)
VGG19: Plan = (
    *(64, 64, "M"),
    *(128, 128, "M"),
    *(256, 256, 256, 256, "M"),
    *(512, 512, 512, 512, "M"),
    *(512, 512, 512, 512),
)


class VGG(nn.Module):
    """3×3 convolutions, each with ReLU, global average pool, then one or two linear layers.

    Takes images ``(N, in_channels, H, W)`` and gives logits ``(N, num_classes)``. On 32×32 pixels
    the last of a deep plan's feature maps is 2×2, and the global average is the papers' 2×2
    average pool in place of VGG's fifth max-pool; on 28×28 it is 1×1 already.

    Args:
        plan: Output channels of the convolutions in order; ``"M"`` is a 2×2 max-pool.
        num_classes: Logits per image.
        in_channels: Channels of the images.
        batch_norm: Whether batch normalisation stands before each ReLU.
        gamma: Initial scale of the convolutions' batch normalisation.
        hidden: Units of a layer between features and logits; 0 for none.
        linear_std: Of the linear layers' initial weights; ``None`` for PyTorch's own rule.
    """

    def __init__(
        self,
        plan: Plan,
        num_classes: int,
        in_channels: int,
        *,
        batch_norm: bool,
        gamma: float,
        hidden: int,
        linear_std: float | None,
    ) -> None:
        super().__init__()
        layers, channels = convolutions(plan, in_channels, batch_norm=batch_norm)
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
        self.flatten = nn.Flatten()
        head: list[nn.Module] = []
        if hidden:
            head.append(nn.Linear(channels, hidden))
            if batch_norm:
                head.append(nn.BatchNorm1d(hidden))
            head.append(nn.ReLU(inplace=True))
        head.append(nn.Linear(hidden or channels, num_classes))
        self.classifier = nn.Sequential(*head) if hidden else head[0]
        initialise(self, gamma=gamma, linear_std=linear_std)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch of images."""
        logits: Tensor = self.classifier(self.flatten(self.features(images)))
        return logits


def _vgg(
    name: str,
    plan: Plan,
    num_classes: int,
    in_channels: int,
    input_size: int,
    batch_norm: bool,
    gamma: float = 1.0,
    hidden: int = 0,
) -> VGG:
    check_sizes(name, num_classes, in_channels, input_size, least=16)
    if hidden < 0:
        raise SourceError(f"{name} needs hidden >= 0, got {hidden}")
    return VGG(
        plan,
        num_classes,
        in_channels,
        batch_norm=batch_norm,
        gamma=gamma,
        hidden=hidden,
        linear_std=0.01,
    )


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
    return VGG(
        MINI,
        num_classes,
        in_channels,
        batch_norm=True,
        gamma=gamma,
        hidden=0,
        linear_std=None,
    )


def vgg11(
    num_classes: int = 10,
    in_channels: int = 3,
    input_size: int = 32,
    *,
    batch_norm: bool = True,
    gamma: float = 1.0,
    hidden: int = 0,
) -> VGG:
    """VGG-11 in its CIFAR form: 9.23 million parameters, 152,769,536 FLOPs on 3×32×32.

    Source: Simonyan and Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition", configuration A; head and initialisation as VGG-16's.

    Args:
        num_classes: Logits per image, at least 1.
        in_channels: Channels of the images, at least 1.
        input_size: Height and width of the images in pixels, at least 16.
        batch_norm, gamma, hidden: As for :func:`vgg16`.

    Raises:
        SourceError: A size is too small, or ``hidden`` is negative.
    """
    return _vgg("vgg11", VGG11, num_classes, in_channels, input_size, batch_norm, gamma, hidden)


def vgg13(
    num_classes: int = 10,
    in_channels: int = 3,
    input_size: int = 32,
    *,
    batch_norm: bool = True,
    gamma: float = 1.0,
    hidden: int = 0,
) -> VGG:
    """VGG-13 in its CIFAR form: 9.41 million parameters, 228,267,008 FLOPs on 3×32×32.

    Source: Simonyan and Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition", configuration B; head and initialisation as VGG-16's.

    Args:
        num_classes: Logits per image, at least 1.
        in_channels: Channels of the images, at least 1.
        input_size: Height and width of the images in pixels, at least 16.
        batch_norm, gamma, hidden: As for :func:`vgg16`.

    Raises:
        SourceError: A size is too small, or ``hidden`` is negative.
    """
    return _vgg("vgg13", VGG13, num_classes, in_channels, input_size, batch_norm, gamma, hidden)


def vgg16(
    num_classes: int = 10,
    in_channels: int = 3,
    input_size: int = 32,
    *,
    batch_norm: bool = True,
    gamma: float = 1.0,
    hidden: int = 0,
) -> VGG:
    """VGG-16 in its CIFAR form: 14.72 million parameters, 313,201,664 FLOPs on 3×32×32.

    Four max-pools, an average pool, linear layers drawn from N(0, 0.01). With ``hidden=512`` it is
    the network that filters are pruned from by their L1 norm: 14.99 million parameters.

    Source: Li et al. 2017, "Pruning Filters for Efficient ConvNets", in the form of Liu et al.
    2019, "Rethinking the Value of Network Pruning".

    Args:
        num_classes: Logits per image, at least 1.
        in_channels: Channels of the images, at least 1.
        input_size: Height and width of the images in pixels, at least 16.
        batch_norm: Whether batch normalisation stands before each ReLU; without it the
            convolutions have biases.
        gamma: Initial scale of the convolutions' batch normalisation. Network slimming starts it
            at 0.5 (Liu et al. 2017, "Learning Efficient Convolutional Networks through Network
            Slimming").
        hidden: Units of a layer between features and logits, normalised as the convolutions are;
            0 for none, as in network slimming.

    Raises:
        SourceError: A size is too small, or ``hidden`` is negative.
    """
    return _vgg("vgg16", VGG16, num_classes, in_channels, input_size, batch_norm, gamma, hidden)


def vgg19(
    num_classes: int = 10,
    in_channels: int = 3,
    input_size: int = 32,
    *,
    batch_norm: bool = True,
    gamma: float = 1.0,
    hidden: int = 0,
) -> VGG:
    """VGG-19 in its CIFAR form: 20.04 million parameters, 398,136,320 FLOPs on 3×32×32.

    Source: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming";
    head and initialisation as VGG-16's.

    Args:
        num_classes: Logits per image, at least 1.
        in_channels: Channels of the images, at least 1.
        input_size: Height and width of the images in pixels, at least 16.
        batch_norm, gamma, hidden: As for :func:`vgg16`.

    Raises:
        SourceError: A size is too small, or ``hidden`` is negative.
    """
    return _vgg("vgg19", VGG19, num_classes, in_channels, input_size, batch_norm, gamma, hidden)


def vgg16_gap(num_classes: int = 1000, in_channels: int = 3, input_size: int = 224) -> VGG:
    """VGG-16 with global average pooling for ImageNet: 15.23 million parameters, 15.35 GFLOPs.

    The convolutions of VGG-16 without batch normalisation, four max-pools, the average over the
    14×14 positions, one linear layer. Networks pruned from it are ThiNet's VGG-GAP (the first ten
    convolutions halved) and VGG-Tiny.

    Source: Luo et al. 2017, "ThiNet: A Filter Level Pruning Method for Deep Neural Network
    Compression"; layers as listed by Liu et al. 2019, "Rethinking the Value of Network Pruning".

    Args:
        num_classes: Logits per image, at least 1.
        in_channels: Channels of the images, at least 1.
        input_size: Height and width of the images in pixels, at least 16.

    Raises:
        SourceError: A size is too small.
    """
    return _vgg("vgg16_gap", VGG16, num_classes, in_channels, input_size, batch_norm=False)
