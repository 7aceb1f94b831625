"""Matrix products of computed tensors, attention among them."""

from collections.abc import Sequence
from math import prod

import torch

from prunenas.architecture.graph import Product, Value, Walk
from prunenas.architecture.rules._base import ORDERS, Arguments, Axes, Shape, for_one, plain
from prunenas.architecture.rules.elementwise import pointwise


def matmul(
    a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node
) -> Axes | list[Axes]:
    """Batched matrix product (..., M, K) x (..., K, N)."""
    factors = ("self", "other", "mat1", "mat2")
    x, y = [value for name, value in a.items() if name in factors][-2:]
    shape = shapes[0]
    if len(x.shape) < 2 or len(y.shape) < 2:
        for axis in (*x.axes, *y.axes):
            walk.channels.freeze(axis, f"{walk.where(node)} multiplies by a vector")
        walk.products.append(Product(for_one(prod(shape) * x.shape[-1], x, y)))
        return plain(shape)
    for axis in (*x.axes[:-2], *y.axes[:-2], x.axes[-2]):
        walk.channels.freeze(
            axis, f"{walk.where(node)} multiplies matrices with channels among their rows"
        )
    inner = [x.axes[-1], y.axes[-2]]
    if None in inner:
        fixed = walk.fixed_tensor(x if inner[0] is None else y)
        for axis in inner:
            walk.channels.freeze(axis, f"{walk.where(node)} combines its channels with {fixed}")
    else:
        walk.channels.join(inner[0], inner[1], f"{walk.where(node)} {ORDERS}")
    factor = for_one(prod(shape[:-1]), x, y)
    fan_in = inner[0] if inner[0] is not None else inner[1]
    if fan_in is None:
        factor *= x.shape[-1]
    if y.axes[-1] is None:
        factor *= shape[-1]
    walk.products.append(Product(factor, fan_in, y.axes[-1]))
    return (*plain(shape[:-1]), y.axes[-1])


def addmm(
    a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node
) -> Axes | list[Axes]:
    """A matrix product to which a tensor is added."""
    factors = {("self" if "1" in k else "other"): a[k] for k in a if k[:3] in ("mat", "bat")}
    axes = matmul(factors, shapes, walk, node)
    assert isinstance(axes, tuple)  # one product, one output
    product = Value(shapes[0], axes)
    return pointwise({"self": a["self"], "other": product}, shapes, walk, node)


def attention(
    a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node
) -> Axes | list[Axes]:
    """softmax(q k') v for each head: q and k share their features, the output has those of v."""
    q, k, v = a["query"], a["key"], a["value"]
    for tensor in (q, k, v, *(value for value in [a.get("attn_mask")] if value is not None)):
        features = tensor in (q, k, v) and tensor.axes[-1] is not None
        for axis in tensor.axes[: -1 if features else None]:
            walk.channels.freeze(
                axis, f"{walk.where(node)} multiplies matrices with channels among their rows"
            )
    if q.axes[-1] is None or k.axes[-1] is None:
        for tensor in (q, k):
            walk.channels.freeze(
                tensor.axes[-1],
                f"{walk.where(node)} combines its channels with a tensor of fixed size",
            )
    else:
        walk.channels.join(q.axes[-1], k.axes[-1], f"{walk.where(node)} {ORDERS}")
    pairs = for_one(prod(shapes[0][:-1]) * k.shape[-2], q, k, v)
    for tensor in (k, v):
        axis = tensor.axes[-1]
        walk.products.append(Product(pairs * (tensor.shape[-1] if axis is None else 1), axis))
    return (*plain(shapes[0][:-1]), v.axes[-1])
