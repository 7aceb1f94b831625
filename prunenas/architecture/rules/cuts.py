"""Operators that cut an axis into parts: slice, chunk, split, gated linear units, views as heads.

Where channels are cut, the forward pass computes a place from their number (``C // 2``), so that
the parts are as long at every width. They are therefore tied: a channel of the first part stays or
goes with those in the same place of the others. Whether the place does follow the width, or is a
number that the forward pass writes out, the graph does not tell; it is tried out (``proof``).
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import gcd, prod

import torch

from prunenas.architecture.channels import Axis, Run
from prunenas.architecture.graph import Cut, Value, Walk
from prunenas.architecture.rules._base import ORDERS, Arguments, Axes, Shape

BETWEEN = "{what} between places that belong to one channel, or to channels shuffled together"

MOST_PARTS = 32
"""A cut that asks for more equal parts picks channels rather than dividing them."""


def cut(
    a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node
) -> Axes | list[Axes]:
    """Slice, chunk, split: whole axes stay, parts of channels are tied."""
    x: Value = a["self"]
    many = isinstance(node.meta.get("val"), (list, tuple))
    changed = {i for shape in shapes for i, size in enumerate(shape) if size != x.shape[i]}
    carrying = [i for i in changed if x.axes[i] is not None]
    if not carrying:
        return [x.axes] * len(shapes) if many else x.axes
    (dim,) = carrying
    if many:
        starts = [0, *accumulate(shape[dim] for shape in shapes[:-1])]
    else:
        start = a.get("start") or 0
        starts = [start + x.shape[dim] if start < 0 else start]
    ends = [start + shape[dim] for start, shape in zip(starts, shapes, strict=True)]
    if a.get("step", 1) == 1:
        parts = _parts(x.axes[dim], starts, ends, walk, node)
    else:
        reason = f"{walk.where(node)} picks one of every {a['step']} channels"
        parts = [_fixed(x.axes[dim], shape[dim], reason, walk) for shape in shapes]
    result = [(*x.axes[:dim], part, *x.axes[dim + 1 :]) for part in parts]
    walk.cuts.append(Cut(node.name, walk.train, tuple(shapes), tuple(result)))
    return result if many else result[0]


def _fixed(axis: Axis, size: int, reason: str, walk: Walk) -> Axis:
    """A part of an axis that is frozen, and the rest of it with it."""
    loose = walk.channels.is_loose(axis)
    walk.channels.freeze(axis, reason)
    return None if loose else walk.channels.new(size, frozen=reason)


def _parts(
    axis: Axis, starts: Sequence[int], ends: Sequence[int], walk: Walk, node: torch.fx.Node
) -> list[Axis]:
    """The parts of an axis from starts to ends, frozen where it can't be cut there."""
    channels, size = walk.channels, walk.channels.size(axis)
    places = sorted({0, size, *starts, *ends})
    steps = [b - a for a, b in pairwise(places)]
    borders = {0, *accumulate(channels.size((run,)) for run in channels.resolve(axis))}
    if len(set(steps)) > 1 and borders.issuperset(places):  # unequal parts: what was concatenated
        units = channels.cut(axis, places[1:])
    else:
        unit = gcd(*steps)
        if size // unit > MOST_PARTS or (unit == 1 and size > 2):
            taken = ", ".join(f"{a} to {b}" for a, b in zip(starts, ends, strict=True))
            reason = (
                f"{walk.where(node)} takes channels {taken} of {size}, which are no equal parts"
            )
            return [_fixed(axis, b - a, reason, walk) for a, b in zip(starts, ends, strict=True)]
        units = tie(axis, size // unit, f"cuts its {size} channels", walk, node)
        places = list(range(0, size + 1, unit))
    if units is None:
        reason = f"{walk.where(node)} {BETWEEN.format(what=f'cuts its {size} channels')}"
        return [_fixed(axis, b - a, reason, walk) for a, b in zip(starts, ends, strict=True)]
    found: list[Axis] = []
    for start, end in zip(starts, ends, strict=True):
        chosen = units[places.index(start) : places.index(end)]
        found.append(tuple(run for part in chosen for run in part or ()))
    return found


def tie(
    axis: Axis, count: int, what: str, walk: Walk, node: torch.fx.Node
) -> tuple[Axis, ...] | None:
    """The axis in equal parts that have the same channels; None, and frozen, where it has none."""
    walk.channels.note(axis, f"{walk.where(node)} {what}")
    size = walk.channels.size(axis) // count
    parts = walk.channels.cut(axis, [size * (i + 1) for i in range(count)])
    if parts is None:
        walk.channels.freeze(axis, f"{walk.where(node)} {BETWEEN.format(what=what)}")
        return None
    for part in parts[1:]:
        walk.channels.join(parts[0], part, f"{walk.where(node)} {what} and {ORDERS}")
    return parts


def glu(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Gated linear unit: one half of an axis times a function of the other."""
    x: Value = a["self"]
    dim = int(a.get("dim", -1)) % len(x.shape)
    if x.axes[dim] is None:
        return x.axes
    halves = tie(x.axes[dim], 2, f"cuts its {x.shape[dim]} channels", walk, node)
    axes: Axes = (*x.axes[:dim], halves[0] if halves else None, *x.axes[dim + 1 :])
    walk.cuts.append(Cut(node.name, walk.train, tuple(shapes), (axes,)))
    return axes


def take_apart(axis: Axis, sizes: Sequence[int], walk: Walk, node: torch.fx.Node) -> list[Axis]:
    """An axis seen as several of these sizes, such as heads: the longest of them varies.

    The others count something that the forward pass knows by itself (heads, groups, queries and
    keys and values).
    """
    what = f"takes its channels apart into {' × '.join(map(str, sizes))}"
    if "attention" in walk.kind(node).lower():
        what += " (attention heads)"
    result: list[Axis] = [None] * len(sizes)
    vary = max(range(len(sizes)), key=lambda i: (sizes[i], i))
    after = prod(sizes[vary + 1 :])
    parts = tie(axis, prod(sizes[:vary]), what, walk, node)
    if parts is None:
        reason = f"{walk.where(node)} {BETWEEN.format(what=what)}"
        result[vary] = walk.channels.new(sizes[vary], frozen=reason)
        return result
    result[vary] = parts[0]
    if after > 1:
        result[vary] = walk.channels.new(sizes[vary])
        neighbours = tuple(Run(group, repeat * after) for group, repeat in result[vary] or ())
        walk.channels.join(parts[0], neighbours, f"{walk.where(node)} {what} and {ORDERS}")
    return result
