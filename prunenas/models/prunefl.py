"""The networks of PruneFL: small ones for federated learning, in the form of its authors' code."""

from torch import Tensor, nn

from prunenas.models._base import VGG11, check_sizes, convolutions


class FederatedNetwork(nn.Module):
    """Convolutions, then linear layers over all positions of the last feature map.

    Takes images ``(N, in_channels, H, W)`` and gives logits ``(N, num_classes)``.
    """

    def __init__(self, features: list[nn.Module], classifier: list[nn.Module]) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(*classifier)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch of images."""
        logits: Tensor = self.classifier(self.flatten(self.features(images)))
        return logits


def conv2(num_classes: int = 62, in_channels: int = 1, input_size: int = 28) -> FederatedNetwork:
    """PruneFL's Conv-2 for FEMNIST: 6,601,504 weights, 17,211,904 FLOPs on 1×28×28.

    Two 5×5 convolutions of 32 and 64 channels, each with ReLU and max-pool, then 2048 hidden
    units. The authors train it with binary cross-entropy on every logit.

    Source: Jiang et al. 2023, "Model Pruning Enables Efficient Federated Learning on Edge Devices"
    (PruneFL); sizes and initialisation from its authors' code.

    Args:
        num_classes: Logits per image, at least 1.
        in_channels: Channels of the images, at least 1.
        input_size: Height and width of the images in pixels, at least 4.

    Raises:
        SourceError: A size is too small.
    """
    check_sizes("conv2", num_classes, in_channels, input_size, least=4)
    side = input_size // 4  # of the feature map after both max-pools
    features: list[nn.Module] = [
        nn.Conv2d(in_channels, 32, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    ]
    hidden, logits = nn.Linear(64 * side * side, 2048), nn.Linear(2048, num_classes)
    for layer in (hidden, logits):
        nn.init.kaiming_uniform_(layer.weight, mode="fan_out")
    return FederatedNetwork(features, [hidden, nn.ReLU(inplace=True), logits])


def conv4(num_classes: int = 2, in_channels: int = 3, input_size: int = 84) -> FederatedNetwork:
    """PruneFL's Conv-4 for CelebA: 31,202 parameters, 28,788,480 FLOPs on 3×84×84.

    Four 3×3 convolutions of 32 channels, each with batch normalisation and max-pool, the last two
    padded by two pixels, then one linear layer. No ReLU: the max-pools are what is not linear.

    Source: Jiang et al. 2023, "Model Pruning Enables Efficient Federated Learning on Edge Devices"
    (PruneFL), after the CelebA network of LEAF (Caldas et al. 2018); sizes from the authors' code.

    Args:
        num_classes: Logits per image, at least 1.
        in_channels: Channels of the images, at least 1.
        input_size: Height and width of the images in pixels, at least 4.

    Raises:
        SourceError: A size is too small.
    """
    check_sizes("conv4", num_classes, in_channels, input_size, least=4)
    features: list[nn.Module] = []
    channels, side = in_channels, input_size
    for padding in (1, 1, 2, 2):
        features.append(nn.Conv2d(channels, 32, 3, padding=padding))
        features.append(nn.BatchNorm2d(32))
        features.append(nn.MaxPool2d(2))
        channels, side = 32, (side + 2 * padding - 2) // 2
    return FederatedNetwork(features, [nn.Linear(channels * side * side, num_classes)])


def vgg11_prunefl(
    num_classes: int = 10, in_channels: int = 3, input_size: int = 32
) -> FederatedNetwork:
    """PruneFL's VGG-11 for CIFAR-10: 9,747,136 weights, 153,293,824 FLOPs on 3×32×32.

    No batch normalisation; two hidden layers of 512 units. The fifth max-pool takes the whole
    feature map: 2×2 on 32×32 pixels, as in VGG; on 28×28 one position is left before it already.
    The authors train it with binary cross-entropy on every logit.

    Source: Jiang et al. 2023, "Model Pruning Enables Efficient Federated Learning on Edge Devices"
    (PruneFL); sizes and initialisation from its authors' code.

    Args:
        num_classes: Logits per image, at least 1.
        in_channels: Channels of the images, at least 1.
        input_size: Height and width of the images in pixels, at least 16.

    Raises:
        SourceError: A size is too small.
    """
    check_sizes("vgg11_prunefl", num_classes, in_channels, input_size, least=16)
    features, channels = convolutions(VGG11, in_channels, batch_norm=False)
    features.append(nn.MaxPool2d(input_size // 16))
    first, second = nn.Linear(channels, 512), nn.Linear(512, 512)
    for layer in (first, second):
        nn.init.kaiming_uniform_(layer.weight)
    logits = nn.Linear(512, num_classes)
    # The narrow output layer would get large weights by its fan-out; a slope of 1.5 tempers them.
    nn.init.kaiming_uniform_(logits.weight, a=1.5, mode="fan_out")
    relus = nn.ReLU(inplace=True), nn.ReLU(inplace=True)
    return FederatedNetwork(features, [first, relus[0], second, relus[1], logits])
