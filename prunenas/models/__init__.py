"""The papers' networks, each a plain function of its arguments.

A model source without a dot or slash names a function of this room: ``vgg_mini`` is
:func:`prunenas.models.vgg_mini`. The first line of its docstring and the ``Source:`` line are what
``prunenas list models`` prints.

The constructors keep three promises that building an architecture relies on: the size of each layer
comes from the constructor's arguments, the forward pass contains no width, and ``(num_classes,
in_channels, input_size)`` are the first three arguments, of which 28×28 grey images work wherever
32×32 colour ones do.
"""

from prunenas.models.densenet import densenet40, densenet_bc_100
from prunenas.models.lenet import lenet5, lenet_300_100
from prunenas.models.preresnet import preresnet110, preresnet164
from prunenas.models.prunefl import conv2, conv4, vgg11_prunefl
from prunenas.models.resnet import resnet20, resnet32, resnet44, resnet56, resnet110
from prunenas.models.resnet50 import resnet50_sampled
from prunenas.models.vgg import vgg11, vgg13, vgg16, vgg16_gap, vgg19, vgg_mini

__all__ = [
    "conv2",
    "conv4",
    "densenet40",
    "densenet_bc_100",
    "lenet5",
    "lenet_300_100",
    "preresnet110",
    "preresnet164",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet50_sampled",
    "resnet56",
    "resnet110",
    "vgg11",
    "vgg11_prunefl",
    "vgg13",
    "vgg16",
    "vgg16_gap",
    "vgg19",
    "vgg_mini",
]
