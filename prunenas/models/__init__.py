"""The papers' networks for small images, each a plain function of its arguments.

A model source without a dot or slash names a function of this room: ``vgg_mini`` is
:func:`prunenas.models.vgg_mini`. The first line of its docstring and the ``Source:`` line are what
``prunenas list models`` prints.

The constructors keep two promises that building an architecture relies on: the size of each layer
comes from the constructor's arguments, and the forward pass contains no width.
"""

from prunenas.models.lenet import lenet5
from prunenas.models.resnet import resnet20, resnet56
from prunenas.models.vgg import vgg16, vgg_mini

__all__ = ["lenet5", "resnet20", "resnet56", "vgg16", "vgg_mini"]
