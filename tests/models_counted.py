"""Counting a network's parameters and multiply-adds from its layers' definitions alone."""

import math
from functools import cache
from typing import Any

import torch
from torch import nn

from prunenas import models

Shape = tuple[int, int, int]

SHAPES: dict[str, Shape] = {
    "conv2": (1, 28, 28),
    "conv4": (3, 84, 84),
    "densenet40": (3, 32, 32),
    "densenet_bc_100": (3, 32, 32),
    "lenet5": (1, 28, 28),
    "lenet_300_100": (1, 28, 28),
    "preresnet110": (3, 32, 32),
    "preresnet164": (3, 32, 32),
    "resnet20": (3, 32, 32),
    "resnet32": (3, 32, 32),
    "resnet44": (3, 32, 32),
    "resnet50_sampled": (3, 224, 224),
    "resnet56": (3, 32, 32),
    "resnet110": (3, 32, 32),
    "vgg11": (3, 32, 32),
    "vgg11_prunefl": (3, 32, 32),
    "vgg13": (3, 32, 32),
    "vgg16": (3, 32, 32),
    "vgg16_gap": (3, 224, 224),
    "vgg19": (3, 32, 32),
    "vgg_mini": (1, 28, 28),
}
"""Every model of our own, with the images that its default arguments are for."""


def weightless(name: str, **arguments: Any) -> nn.Module:
    """A model on the meta device: layers and shapes, no memory and no random numbers."""
    with torch.device("meta"):
        network: nn.Module = getattr(models, name)(**arguments)
    return network


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def count_weights(network: nn.Module) -> int:
    """Parameters of convolutions and linear layers without biases, as sparsity papers count."""
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return sum(layer.weight.numel() for layer in layers)


def count_flops(network: nn.Module, shape: Shape) -> int:
    """Multiply-adds of one image, from the layers' definitions and the sizes that flow by."""
    total = 0

    def add(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            kernel = math.prod(module.kernel_size) * module.in_channels
            total += kernel * module.out_channels * output.shape[2] * output.shape[3]
        elif isinstance(module, nn.Linear):
            total += module.in_features * module.out_features

    handles = [module.register_forward_hook(add) for module in network.modules()]
    device = next(network.parameters()).device
    network.eval()(torch.zeros(1, *shape, device=device))
    for handle in handles:
        handle.remove()
    return total


@cache
def counted(name: str) -> tuple[int, int]:
    """Parameters and multiply-adds of a model with its default arguments."""
    network = weightless(name)
    return count_parameters(network), count_flops(network, SHAPES[name])
