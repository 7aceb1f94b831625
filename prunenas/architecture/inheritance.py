"""Cutting a dense network's trained weights to the channels that stay.

An architecture needs no weights; what inherits them is the fine-tuned baseline, and methods that
score channels by the weights that belong to them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from prunenas.errors import WidthError


class Piece(NamedTuple):
    """The next positions of an axis: ``size`` channels of a group (None: of none that varies)."""

    group: str | None
    size: int
    repeat: int


Pieces = tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Slice:
    """Where a group's channels lie in a layer.

    Entry ``start + channel * repeat + j`` with ``0 <= j < repeat`` of the layer's weight (its rows;
    where the layer reads the group, its columns; or a normalisation layer's scale) belongs to
    ``channel``.
    """

    layer: str
    start: int
    repeat: int


@dataclass(frozen=True, slots=True)
class Sliced:
    """A layer's axes as pieces of groups.

    Attributes:
        layer: The layer's name.
        kind: ``"conv"``, ``"linear"``, ``"norm"`` or ``"select"``.
        fan_in: Pieces of the input axis; empty for norms.
        fan_out: Pieces of the output axis, or of a normalisation layer's features.
        groups: The convolution's groups; 1 where weights span all inputs, or for depthwise.
        transposed: Whether the weight has its input axis first.
        aliases: Further names under which the network holds the layer.
        depthwise: Whether each channel passes through by itself, as part of its own group.
    """

    layer: str
    kind: str
    fan_in: Pieces
    fan_out: Pieces
    groups: int
    transposed: bool
    aliases: tuple[str, ...] = ()
    depthwise: bool = False

    def holds(self, tensor: str) -> bool:
        """Whether a tensor of the state dict is the layer's own, or of its parametrizations."""
        owner = tensor.rpartition(".")[0].partition(".parametrizations.")[0]
        return owner == self.layer or owner in self.aliases


def slices_of(layers: Sequence[Sliced], group: str, *, norms: bool) -> tuple[Slice, ...]:
    """All places where a group's channels are outputs of a layer (or a norm's features)."""
    found = []
    for layer in layers:
        if layer.kind == "select" or (layer.kind == "norm") != norms:
            continue  # a selection has no weights
        start = 0
        for name, size, repeat in layer.fan_out:
            if name == group:
                found.append(Slice(layer.layer, start, repeat))
            start += size * repeat
    return tuple(found)


def columns_of(layers: Sequence[Sliced], group: str) -> tuple[Slice, ...]:
    """All places where a group's channels are inputs of a convolution or linear layer."""
    found = []
    for layer in layers:
        if layer.kind not in ("conv", "linear") or layer.depthwise:
            continue
        start = 0
        for name, size, repeat in layer.fan_in:
            if name == group:
                found.append(Slice(layer.layer, start, repeat))
            start += size * repeat
    return tuple(found)


def sliced(
    layers: Sequence[Sliced],
    groups: Mapping[str, tuple[int, int]],
    state: Mapping[str, Tensor],
    kept: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """See ``Space.inherit``; ``groups`` maps names to (dense width, divisor)."""
    for name, indices in kept.items():
        _check(name, indices, groups)
    result = {name: tensor.clone() for name, tensor in state.items()}
    for layer in layers:
        rows, columns = _positions(layer.fan_out, kept), _positions(layer.fan_in, kept)
        for name in filter(layer.holds, state):
            result[name] = _cut(state[name], rows, columns, layer).clone()
    return result


def _cut(tensor: Tensor, rows: Tensor, columns: Tensor, layer: Sliced) -> Tensor:
    """Select along each axis that is as long as the layer's outputs or inputs in the dense net."""
    axes = [(rows, _length(layer.fan_out)), (columns, _length(layer.fan_in))]
    if layer.transposed and tensor.dim() > 1:
        axes.reverse()
    (_, first), (_, second) = axes
    if layer.groups > 1 and tensor.shape[:2] == (first, second // layer.groups):
        return _grouped(tensor, rows, columns, layer)
    for axis, (kept, length) in enumerate(axes[: tensor.dim()]):
        if tensor.shape[axis] == length:
            tensor = tensor.index_select(axis, kept.to(tensor.device))
    return tensor


def _length(pieces: Pieces) -> int:
    return sum(size * repeat for _, size, repeat in pieces)


def _positions(pieces: Pieces, kept: Mapping[str, Tensor]) -> Tensor:
    parts, start = [torch.empty(0, dtype=torch.int64)], 0
    for name, size, repeat in pieces:
        channels = kept[name] if name is not None and name in kept else torch.arange(size)
        parts.append((start + channels[:, None] * repeat + torch.arange(repeat)).flatten())
        start += size * repeat
    return torch.cat(parts)


def cut_axes(tensor: Tensor, axes: Sequence[Pieces], kept: Mapping[str, Tensor]) -> Tensor:
    """A tensor cut along each of its axes to the kept channels; ``axes`` has one entry for each."""
    for axis, pieces in enumerate(axes):
        tensor = tensor.index_select(axis, _positions(pieces, kept).to(tensor.device))
    return tensor


def length(pieces: Pieces, widths: Mapping[str, int]) -> int:
    """Positions on an axis where the groups have these widths; a group without one is dense."""
    return sum(
        (size if name is None else widths.get(name, size)) * repeat for name, size, repeat in pieces
    )


def _grouped(tensor: Tensor, rows: Tensor, columns: Tensor, layer: Sliced) -> Tensor:
    """A grouped convolution's weight: each block of outputs reads its own block of inputs."""
    blocks = layer.groups
    fan_in, fan_out = _length(layer.fan_in) // blocks, _length(layer.fan_out) // blocks
    parts = []
    for block in range(blocks):
        own_rows = rows[(rows >= block * fan_out) & (rows < (block + 1) * fan_out)]
        own_columns = columns[(columns >= block * fan_in) & (columns < (block + 1) * fan_in)]
        if layer.transposed:
            first, second = own_columns, own_rows - block * fan_out
        else:
            first, second = own_rows, own_columns - block * fan_in
        parts.append(_select(tensor, first, second))
    return torch.cat(parts)


def _select(tensor: Tensor, first: Tensor, second: Tensor) -> Tensor:
    first, second = first.to(tensor.device), second.to(tensor.device)
    return tensor.index_select(0, first).index_select(1, second)


def _check(name: str, indices: Tensor, groups: Mapping[str, tuple[int, int]]) -> None:
    if name not in groups:
        raise WidthError(f"kept channels are given for {name!r}, which is no free channel group")
    width, divisor = groups[name]
    ordered = bool((indices[1:] > indices[:-1]).all())
    inside = len(indices) > 0 and int(indices.min()) >= 0 and int(indices.max()) < width
    if not (indices.dim() == 1 and ordered and inside):
        raise WidthError(
            f"kept channels of {name} must be sorted indices in 0..{width - 1}, at least one"
        )
    if divisor > 1:
        counts = torch.bincount(indices // (width // divisor), minlength=divisor)
        if bool((counts != counts[0]).any()):
            raise WidthError(
                f"each of the {divisor} blocks of {name} must keep as many channels, "
                f"but they keep {counts.tolist()}"
            )
