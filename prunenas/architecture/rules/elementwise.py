"""Operators that keep every position where it is."""

from collections.abc import Sequence

import torch

from prunenas.architecture.graph import Walk
from prunenas.architecture.rules._base import Arguments, Axes, Shape, broadcast, operands, plain


def pointwise(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Element by element with broadcasting: axes of equal length carry the same channels."""
    return tuple(
        broadcast(operands(a), position, len(shapes[0]), size, walk, node)
        for position, size in enumerate(shapes[0])
    )


def same(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Same shape as the first tensor: dropout, softmax, clone."""
    del walk, node
    tensors = operands(a)
    return tensors[0].axes if tensors and tensors[0].shape == shapes[0] else plain(shapes[0])


def new(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """A new tensor of a size that the graph writes out."""
    del a, walk, node
    return plain(shapes[0])
