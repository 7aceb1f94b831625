"""Operators that join, move, pool or reshape axes."""

from collections.abc import Sequence
from math import prod

import torch

from prunenas.architecture.channels import Axis, Run
from prunenas.architecture.graph import Cut, Value, Walk
from prunenas.architecture.rules._base import (
    Arguments,
    Axes,
    Shape,
    broadcast,
    fixed_axis,
    fixed_size,
    opaque,
    plain,
)
from prunenas.architecture.rules.cuts import take_apart
from prunenas.architecture.rules.elementwise import pointwise


def cat(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Strings the runs of its inputs together."""
    tensors: list[Value] = list(a["tensors"])
    rank = len(shapes[0])
    dim = int(a.get("dim", 0)) % rank
    axes: list[Axis] = []
    for position, size in enumerate(shapes[0]):
        if position != dim:
            axes.append(broadcast(tensors, position, rank, size, walk, node))
            continue
        parts = [tensor.axes[position] for tensor in tensors]
        if None in parts:  # tokens, say: what has been learnt for some of them adds no channels
            parts = [fixed_size(axis, walk, node) for axis in parts]
        if all(axis is None for axis in parts):
            axes.append(None)
            continue
        runs: list[Run] = []
        for axis, tensor in zip(parts, tensors, strict=True):
            runs += fixed_axis(axis, tensor.shape[position], walk, node) or ()
        axes.append(tuple(runs))
    return tuple(axes)


def stack(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """A new axis on which equal tensors lie."""
    tensors: list[Value] = list(a["tensors"])
    rank = len(tensors[0].shape)
    dim = int(a.get("dim", 0)) % len(shapes[0])
    axes = [
        broadcast(tensors, position, rank, size, walk, node)
        for position, size in enumerate(tensors[0].shape)
    ]
    return (*axes[:dim], None, *axes[dim:])


def reshape(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """View, flatten, unsqueeze: axes merge, stay, or are taken apart."""
    x: Value = a["self"] if "self" in a else a["input"]
    result: list[Axis] = []
    apart = False
    for inner, outer in _blocks(x.shape, shapes[0]):
        axes = [x.axes[i] for i in inner]
        sizes = [x.shape[i] for i in inner]
        carrying = [i for i, axis in enumerate(axes) if axis is not None and sizes[i] > 1]
        targets = [size for size in outer if size > 1]
        found: list[Axis]
        if len(carrying) == 1 and len(targets) == 1:
            channels = axes[carrying[0]] or ()
            before = prod(sizes[: carrying[0]])
            after = prod(sizes[carrying[0] + 1 :])
            found = [tuple(Run(group, repeat * after) for group, repeat in channels) * before]
        elif len(carrying) == 1 and sizes[carrying[0]] == prod(sizes):
            axis = fixed_size(axes[carrying[0]], walk, node)
            found = take_apart(axis, targets, walk, node) if axis else [None] * len(targets)
            apart = True
        else:
            for axis in axes:
                walk.channels.freeze(
                    axis, f"{walk.where(node)} mixes channels with rows, columns or inputs"
                )
            found = [None] * len(targets)
        left = iter(found)
        result += [next(left) if size > 1 else None for size in outer]
    if apart:
        walk.cuts.append(Cut(node.name, walk.train, tuple(shapes), (tuple(result),)))
    return tuple(result)


def _blocks(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """Cut two shapes of equal product into the shortest blocks of equal product.

    Returns pairs of (positions in ``old``, sizes in ``new``).
    """
    blocks: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        inner, outer = [i] if i < len(old) else [], [new[j]] if j < len(new) else []
        left = old[i] if inner else 1
        right = new[j] if outer else 1
        i, j = i + len(inner), j + len(outer)
        while left != right:
            if left < right:
                inner.append(i)
                left *= old[i]
                i += 1
            else:
                outer.append(new[j])
                right *= new[j]
                j += 1
        blocks.append((inner, outer))
    return blocks


def squeeze(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Axes of length 1 go."""
    x: Value = a["self"]
    rank = len(x.shape)
    dims = a.get("dim", range(rank))
    gone = {int(d) % rank for d in (dims if isinstance(dims, (list, tuple, range)) else [dims])}
    for i in gone:
        if x.shape[i] > 1:
            walk.channels.freeze(
                x.axes[i], f"{walk.where(node)} drops its channels' axis where one is left"
            )
    del shapes
    return tuple(axis for i, axis in enumerate(x.axes) if i not in gone or x.shape[i] > 1)


def permute(
    a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node
) -> Axes | list[Axes]:
    """Axes change places."""
    x: Value = a["self"] if "self" in a else a["input"]
    rank = len(x.shape)
    order = list(range(rank))
    if "dims" in a:
        order = [int(dim) % rank for dim in a["dims"]]
    elif "dim0" in a:
        first, second = int(a["dim0"]) % rank, int(a["dim1"]) % rank
        order[first], order[second] = second, first
    elif "source" in a:  # movedim
        sources, targets = (
            [int(d) % rank for d in (dims if isinstance(dims, (list, tuple)) else [dims])]
            for dims in (a["source"], a["destination"])
        )
        order = [dim for dim in order if dim not in sources]
        for target, source in sorted(zip(targets, sources, strict=True)):
            order.insert(target, source)
    elif rank == 2 or str(node.target).startswith("aten.mT"):
        order[-2:] = [rank - 1, rank - 2]
    else:
        return opaque(a, shapes, walk, node)
    return tuple(x.axes[i] for i in order)


def reduce(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Mean, sum, maximum over some axes: the others stay."""
    del walk, node
    x: Value = a["self"] if "self" in a else a["input"]
    dims = a.get("dim")
    listed = [] if dims is None else dims if isinstance(dims, (list, tuple)) else [dims]
    gone = {int(dim) % len(x.shape) for dim in listed} or set(range(len(x.shape)))
    if a.get("keepdim"):
        return tuple(None if i in gone else axis for i, axis in enumerate(x.axes))
    kept = tuple(axis for i, axis in enumerate(x.axes) if i not in gone)
    return kept if len(kept) == len(shapes[0]) else plain(shapes[0])


def pool(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Pooling and resizing work on rows and columns alone; (N, C, ...) stay."""
    x: Value = a["self"] if "self" in a else a["input"]
    for axis in x.axes[2:]:
        walk.channels.freeze(axis, f"{walk.where(node)} slides over channels as places")
    return (*x.axes[:2], *plain(shapes[0][2:]))


def pad(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Padding along the channels adds channels of a fixed number (ResNet's shortcut A)."""
    x: Value = a["self"]
    axes = list(x.axes)
    for index in range(len(a["pad"]) // 2):
        position = len(axes) - 1 - index
        before, after = int(a["pad"][2 * index]), int(a["pad"][2 * index + 1])
        if axes[position] is None or (before == 0 and after == 0):
            continue
        if before < 0 or after < 0 or a.get("mode", "constant") != "constant":
            walk.channels.freeze(axes[position], f"{walk.where(node)} cuts or mirrors channels")
            axes[position] = None
            continue
        runs = axes[position] or ()
        reason = f"{walk.where(node)} adds a fixed number of channels"
        head = walk.channels.new(before, frozen=reason) or () if before else ()
        tail = walk.channels.new(after, frozen=reason) or () if after else ()
        axes[position] = (*head, *runs, *tail)
    del shapes
    return tuple(axes)


def select(
    a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node
) -> Axes | list[Axes]:
    """One entry of an axis, or all of them one by one."""
    x: Value = a["self"]
    dim = int(a.get("dim", 0)) % len(x.shape)
    walk.channels.freeze(x.axes[dim], f"{walk.where(node)} picks single channels")
    kept = tuple(axis for i, axis in enumerate(x.axes) if i != dim)
    return [kept] * len(shapes) if isinstance(node.meta.get("val"), (list, tuple)) else kept


def expand(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Axes of length 1 grow; the others carry on."""
    x: Value = a["self"]
    if isinstance(a.get("other"), Value):  # expand_as: to another tensor's channels
        return pointwise({"self": x, "other": a["other"]}, shapes, walk, node)
    lead = len(shapes[0]) - len(x.shape)
    return tuple(
        x.axes[i - lead] if i >= lead and x.shape[i - lead] == size else None
        for i, size in enumerate(shapes[0])
    )


def repeat(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """All entries of an axis several times, one after the other."""
    del node, walk
    x: Value = a["self"]
    lead = len(shapes[0]) - len(x.shape)
    axes: list[Axis] = [None] * lead
    for axis, old, new in zip(x.axes, x.shape, shapes[0][lead:], strict=True):
        axes.append(axis * (new // old) if axis is not None and old > 1 else None)
    return tuple(axes)


def moved(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Flip and roll: an axis whose channels change places is frozen."""
    x: Value = a["self"]
    for dim in a["dims"] or range(len(x.shape)):
        walk.channels.freeze(x.axes[int(dim)], f"{walk.where(node)} moves channels")
    del shapes
    return x.axes


def pixel_shuffle(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Every r x r channels become one channel of r x r as many places."""
    x: Value = a["self"]
    if x.axes[-3] is None:
        return plain(shapes[0])
    merged = walk.channels.new(shapes[0][-3]) or ()
    apart = tuple(Run(group, int(a["upscale_factor"]) ** 2) for group, _ in merged)
    walk.channels.join(x.axes[-3], apart, f"{walk.where(node)} merges channels of several groups")
    return (*x.axes[:-3], merged, None, None)


def pixel_unshuffle(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Every channel becomes r x r channels."""
    del walk, node
    x: Value = a["self"]
    if x.axes[-3] is None:
        return plain(shapes[0])
    times = int(a["downscale_factor"]) ** 2
    return (*x.axes[:-3], tuple(Run(g, r * times) for g, r in x.axes[-3]), None, None)
