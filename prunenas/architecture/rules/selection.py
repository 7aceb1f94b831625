"""Channel selection layers: a stream goes on whole, its reader takes some of it."""

from collections.abc import Sequence

import torch

from prunenas.architecture.graph import LayerAxes, Value, Walk
from prunenas.architecture.rules._base import Arguments, Axes, Shape, opaque


def index_select(
    a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node
) -> Axes | list[Axes]:
    """Opens channels of its own where a channel selection layer reads by its indices.

    The indices point into the stream, so that the stream keeps its width.
    """
    x: Value = a["self"]
    dim, index = int(a["dim"]) % len(x.shape), a["index"]
    name, _, buffer = (index.parameter or "").rpartition(".") if index is not None else ("",) * 3
    layer = walk.layers.get(name)
    known = layer is not None and layer.kind == "select" and buffer == "index" and dim == 1
    if layer is None or not known or layer.name in walk.axes:
        return opaque(a, shapes, walk, node)
    walk.channels.freeze(x.axes[1], "a channel selection reads it by index")
    fan_out = walk.channels.new(shapes[0][1])
    walk.axes[str(layer.name)] = LayerAxes(layer, x.axes[1], fan_out)
    places = shapes[0][2:]
    walk.producers.append((str(layer.name), int(torch.Size(places).numel())))
    source = _normalisation(node.args[0], walk)
    if source is not None:
        walk.normalised[str(layer.name)] = source
    return (x.axes[0], fan_out, *x.axes[2:])


def _normalisation(node: object, walk: Walk) -> str | None:
    """The normalisation layer that made a tensor, directly or through element-wise operators."""
    while isinstance(node, torch.fx.Node) and node.op == "call_function":
        operator = str(node.target)
        if "_norm" in operator:
            name = walk.module(node)
            layer = walk.layers.get(name or "")
            return layer.name if layer is not None and layer.kind == "norm" else None
        if torch.Tag.pointwise not in getattr(node.target, "tags", ()) or len(node.args) > 1:
            return None
        node = node.args[0]
    return None
