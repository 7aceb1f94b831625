"""Paths of grouped convolutions: single groups taken out, as from a ResNeXt block.

A space's widths keep every group of a grouped convolution, each as wide as the others. Here groups
as a whole go, with the channels that only they read and make; those that stay keep their width.
A convolution's last group stays: where all of a residual branch are to go, ``Space.without`` takes
out the branch, and the space that is left is asked for the rest.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from prunenas.architecture.flops import Terms, Vector
from prunenas.architecture.inheritance import Pieces, sliced
from prunenas.architecture.space import Space
from prunenas.architecture.tensors import cut
from prunenas.architecture.value import Architecture
from prunenas.errors import WidthError


@dataclass(frozen=True)
class Paths:
    """The paths of one grouped convolution.

    Attributes:
        layer: The convolution.
        count: Its groups in the dense network.
        inputs: The channel group that it reads.
        outputs: The channel group that it makes.
    """

    layer: str
    count: int
    inputs: str
    outputs: str


def grouped_paths(space: Space) -> tuple[Paths, ...]:
    """Return the grouped convolutions whose groups can be taken out one by one.

    Those that alone cut their input's and their output's channels into blocks. Depthwise ones are
    none: their groups are channels. Nor are those whose channels a group or layer normalisation
    reads: its number of groups is fixed, and its statistics would be those of other channels.
    """
    divisors = {group.name: group.divisor for group in space.groups}
    found: list[Paths] = []
    met: list[str] = []
    for layer in space._lineage.layers:
        if layer.groups == 1:
            continue
        ends = [_single(layer.fan_in), _single(layer.fan_out)]
        met += [piece for axis in (layer.fan_in, layer.fan_out) for piece, *_ in axis if piece]
        if None not in ends and all(divisors.get(str(end)) == layer.groups for end in ends):
            found.append(Paths(layer.layer, layer.groups, str(ends[0]), str(ends[1])))
    return tuple(
        paths
        for paths in found
        if met.count(paths.inputs) == met.count(paths.outputs) == 1
        and not {paths.inputs, paths.outputs} & space._lineage.together
    )


def without_paths(space: Space, gone: Mapping[str, Collection[int]]) -> Architecture:
    """Return the dense network without some paths.

    Args:
        space: Of the dense network.
        gone: By grouped convolution, the groups that are taken out, of ``range(count)``.

    Raises:
        WidthError: A layer's groups can't be taken out, or all or none of that number would be.
    """
    left = {paths.layer: stay for paths, stay in _left(space, gone)}
    widths = {name: len(kept) for name, kept in kept_channels(space, gone).items()}
    whole = {paths.layer: paths.count for paths in grouped_paths(space)}
    vector = space._named.vector(widths)
    layers = tuple(
        replace(layer, sizes=(*layer.sizes[:2], len(left[layer.name])))
        if layer.name in left
        else layer
        for layer in space._sizes.at(vector)
    )
    scales = {name: whole[name] / len(stay) for name, stay in left.items()}
    return replace(
        space.dense,
        widths={**space.dense.widths, **widths},
        layers=layers,
        flops=_sum(space._products, vector, scales),
        params=_sum(space._parameters, vector, scales),
        tensors=space._lineage.shapes({**space.dense.widths, **widths}),
    )


def kept_channels(space: Space, gone: Mapping[str, Collection[int]]) -> dict[str, Tensor]:
    """Return the channels that stay of the groups that lose some, sorted int64 indices."""
    widths = {group.name: group.width for group in space.groups}
    return {
        name: torch.arange(widths[name]).reshape(paths.count, -1)[stay].flatten()
        for paths, stay in _left(space, gone)
        for name in (paths.inputs, paths.outputs)
    }


def inherit_paths(
    space: Space, state: Mapping[str, Tensor], gone: Mapping[str, Collection[int]]
) -> dict[str, Tensor]:
    """Return the dense network's state dict for ``without_paths``; see ``Space.inherit``."""
    kept = kept_channels(space, gone)
    # Blocks go as a whole: no law says here that each keeps as many channels.
    sizes = {name: (space.dense.widths[name], 1) for name in kept}
    lineage = space._lineage
    left = {name: tensor for name, tensor in state.items() if space._has(name)}
    return cut(lineage.tensors, sliced(lineage.layers, sizes, left, kept), kept)


def _left(space: Space, gone: Mapping[str, Collection[int]]) -> list[tuple[Paths, list[int]]]:
    known = {paths.layer: paths for paths in grouped_paths(space)}
    left = []
    for layer, lost in gone.items():
        stay = [i for i in range(known[layer].count) if i not in lost] if layer in known else []
        if not stay or not set(lost) <= set(range(known[layer].count)):
            raise WidthError(
                f"some groups of a grouped convolution of {space.source} must stay, "
                f"but of {layer!r} go {sorted(lost)}"
            )
        left.append((known[layer], stay))
    return left


def _single(axis: Pieces) -> str | None:
    return axis[0].group if len(axis) == 1 and axis[0].repeat == 1 else None


def _sum(terms: Terms, widths: Vector, scales: Mapping[str, float]) -> int:
    """The terms' sum where some convolutions have fewer groups: each of their weights reads more.

    A term of two widths is a convolution's weight, for which the dense number of groups was
    divided by; one of a single width is its bias.
    """
    w = np.concatenate(([1.0], widths))
    values = terms.factors * (terms.a @ w) * (terms.b @ w)
    both = (terms.a[:, 1:] != 0).any(axis=1) & (terms.b[:, 1:] != 0).any(axis=1)
    scale = np.array([scales.get(owner, 1.0) for owner in terms.owners])
    return round(float((values * np.where(both, scale, 1.0)).sum()))
