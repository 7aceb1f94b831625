"""The LeNets that pruning papers use, as Caffe has them."""

from torch import Tensor, nn

from prunenas.models._base import check_sizes


class LeNet300(nn.Module):
    """Three linear layers over all pixels, with ReLU between them.

    Takes images ``(N, in_channels, H, W)`` and gives logits ``(N, num_classes)``.
    """

    def __init__(self, num_classes: int, in_channels: int, input_size: int) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Linear(in_channels * input_size * input_size, 300),
            nn.ReLU(inplace=True),
            nn.Linear(300, 100),
            nn.ReLU(inplace=True),
            nn.Linear(100, num_classes),
        )
        _caffe(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch of images."""
        logits: Tensor = self.classifier(self.flatten(images))
        return logits


class LeNet(nn.Module):
    """Two 5×5 convolutions with max-pools, then two linear layers.

    Takes images ``(N, in_channels, H, W)`` and gives logits ``(N, num_classes)``. As in Caffe, the
    only ReLU stands between the linear layers.
    """

    def __init__(self, num_classes: int, in_channels: int, input_size: int) -> None:
        super().__init__()
        side = ((input_size - 4) // 2 - 4) // 2  # of the feature map after both max-pools
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 20, 5),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 50, 5),
            nn.MaxPool2d(2),
        )
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Linear(50 * side * side, 500), nn.ReLU(inplace=True), nn.Linear(500, num_classes)
        )
        _caffe(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch of images."""
        logits: Tensor = self.classifier(self.flatten(self.features(images)))
        return logits


def _caffe(network: nn.Module) -> None:
    """Caffe's "xavier" initialisation: uniform with variance 1 / fan-in, biases 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(module.weight, mode="fan_in", nonlinearity="linear")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def lenet_300_100(num_classes: int = 10, in_channels: int = 1, input_size: int = 28) -> LeNet300:
    """LeNet-300-100: 300 and 100 hidden units, no convolution; 266,200 weights on 1×28×28.

    Source: LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition", sizes;
    with ReLU the LeNet-300-100 of Han et al. 2015, "Learning both Weights and Connections for
    Efficient Neural Networks", who train it in Caffe: its initialisation.

    Args:
        num_classes: Logits per image, at least 1.
        in_channels: Channels of the images, at least 1.
        input_size: Height and width of the images in pixels, at least 1.

    Raises:
        SourceError: A size is too small.
    """
    check_sizes("lenet_300_100", num_classes, in_channels, input_size, least=1)
    return LeNet300(num_classes, in_channels, input_size)


def lenet5(num_classes: int = 10, in_channels: int = 1, input_size: int = 28) -> LeNet:
    """LeNet-5 in Caffe's form: 20 and 50 filters, 500 hidden units; 430,500 weights on 1×28×28.

    Source: LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition", as
    modified in Caffe (Jia et al. 2014, examples/mnist), sizes and initialisation; the LeNet-5 of
    Han et al. 2015, "Learning both Weights and Connections for Efficient Neural Networks".

    Args:
        num_classes: Logits per image, at least 1.
        in_channels: Channels of the images, at least 1.
        input_size: Height and width of the images in pixels, at least 16.

    Raises:
        SourceError: A size is too small.
    """
    check_sizes("lenet5", num_classes, in_channels, input_size, least=16)
    return LeNet(num_classes, in_channels, input_size)
