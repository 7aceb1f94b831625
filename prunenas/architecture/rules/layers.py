"""Convolutions, linear layers and normalisations: where channels begin and are counted."""

from collections.abc import Sequence
from math import prod

import torch

from prunenas.architecture.channels import Axis, Run
from prunenas.architecture.graph import LayerAxes, Product, Value, Walk
from prunenas.architecture.rules._base import (
    ORDERS,
    Arguments,
    Axes,
    Shape,
    fixed_axis,
    for_one,
    foreign,
    plain,
)


def convolution(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Opens channels of its own; a depthwise one passes the input's on, a grouped one divides."""
    x, weight, groups = a["input"], a["weight"], int(a["groups"])
    transposed = "transpose" in str(node.target)
    shape = shapes[0]
    size_in, size_out = x.shape[1], shape[1]
    for axis in x.axes[2:]:  # an attention over channels, which sees them side by side
        walk.channels.freeze(axis, f"{walk.where(node)} slides over channels as places")
    fan_in = fixed_axis(x.axes[1], size_in, walk, node)
    layer = walk.layer_of(node, "conv", weight, (size_in, size_out, groups))
    fan_out: Axis
    depthwise = groups > 1 and groups == size_in and size_out % size_in == 0
    if layer is None:
        walk.channels.freeze(fan_in, foreign(walk, node))
        fan_out = walk.channels.new(size_out, frozen=foreign(walk, node))
    elif layer.name in walk.axes:  # the same weights a second time
        known = walk.axes[layer.name]
        walk.channels.join(known.fan_in, fan_in, f"{walk.where(node)} is used twice, and {ORDERS}")
        fan_out = known.fan_out
    else:
        if depthwise:
            times = size_out // size_in
            fan_out = tuple(Run(group, repeat * times) for group, repeat in fan_in or ())
        else:
            fan_out = walk.channels.new(size_out)
            walk.producers.append((str(layer.name), prod(shape[2:])))
            if groups > 1:
                walk.channels.divide(fan_in, groups, walk.where(node), blocks=True)
                walk.channels.divide(fan_out, groups, walk.where(node), blocks=True)
        walk.axes[str(layer.name)] = LayerAxes(layer, fan_in, fan_out, groups, depthwise)
    places = prod(x.shape[2:]) * x.shape[0] if transposed else prod(shape[2:]) * shape[0]
    factor = for_one(places * prod(weight.shape[2:]), x, weight)
    if depthwise:
        walk.products.append(Product(factor, None, fan_out))
    else:
        walk.products.append(Product(factor, fan_in, fan_out, groups))
    return (x.axes[0], fan_out, *plain(shape[2:]))


def linear(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Opens channels on the last axis."""
    x, weight = a["input"], a["weight"]
    for axis in x.axes[:-1]:
        walk.channels.freeze(
            axis, f"{walk.where(node)} mixes places, of which channels are one axis"
        )
    fan_in = fixed_axis(x.axes[-1], x.shape[-1], walk, node)
    size_out = shapes[0][-1]
    layer = walk.layer_of(node, "linear", weight, (x.shape[-1], size_out))
    if layer is None:
        for axis in (fan_in, *weight.axes):
            walk.channels.freeze(axis, foreign(walk, node))
        fan_out = walk.channels.new(size_out, frozen=foreign(walk, node))
    elif layer.name in walk.axes:
        known = walk.axes[layer.name]
        walk.channels.join(known.fan_in, fan_in, f"{walk.where(node)} is used twice, and {ORDERS}")
        fan_out = known.fan_out
    else:
        fan_out = walk.channels.new(size_out)
        walk.producers.append((str(layer.name), 1))
        walk.axes[str(layer.name)] = LayerAxes(layer, fan_in, fan_out)
    walk.products.append(Product(for_one(prod(x.shape[:-1]), x, weight), fan_in, fan_out))
    return (*x.axes[:-1], fan_out)


def norm(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Normalisation with one scale and shift for each entry of the channel axis 1."""
    del shapes
    x: Value = a["input"] if "input" in a else a["self"]
    _features(x.axes[1] if len(x.axes) > 1 else None, a, walk, node)
    if "num_groups" in a and len(x.axes) > 1:
        walk.together.append(x.axes[1])
        walk.channels.divide(x.axes[1], int(a["num_groups"]), walk.where(node))
    return x.axes


def layer_norm(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Normalisation over the last axis, or over several last ones, which keep their sizes."""
    del shapes
    x: Value = a["input"]
    walk.together += x.axes[-len(a["normalized_shape"]) :]
    if len(a["normalized_shape"]) == 1:
        _features(x.axes[-1], a, walk, node)
    else:
        for axis in x.axes[-len(a["normalized_shape"]) :]:
            walk.channels.freeze(axis, f"{walk.where(node)} normalises over several axes")
    return x.axes


def prelu(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """One slope for all, or one for each channel, as a normalisation's scale."""
    if prod(a["weight"].shape) > 1:
        return norm(a, shapes, walk, node)
    axes: Axes = a["self"].axes
    return axes


def _features(axis: Axis, a: Arguments, walk: Walk, node: torch.fx.Node) -> None:
    if axis is None:
        return
    weight = a.get("weight")
    tensors = [weight, a.get("running_mean"), a.get("bias"), a.get("running_var")]
    held = next((t for t in tensors[:2] if isinstance(t, Value)), None)
    layer = walk.layer_of(node, "norm", held, (walk.channels.size(axis),))
    if layer is None:
        for tensor in (t for t in tensors if isinstance(t, Value)):  # parameters of a class's own
            if tensor.axes[0] is None:
                walk.channels.freeze(axis, foreign(walk, node))
            else:
                walk.channels.join(axis, tensor.axes[0], f"{walk.where(node)} {ORDERS}")
    elif layer.name in walk.axes:
        walk.channels.join(
            walk.axes[layer.name].fan_out, axis, f"{walk.where(node)} is used twice, and {ORDERS}"
        )
    else:
        walk.axes[str(layer.name)] = LayerAxes(layer, None, axis)
