"""Parameters and buffers that no layer holds (layer scales, tokens) but that follow its channels.

They are no layers, so that a constructor can't be told their sizes: it makes them at the dense
width, and they are cut afterwards. Their first entries are as good as any: such tensors start out
constant (a layer scale of 1e-6, a norm's own ones and zeros) or with independent draws whose
variance does not depend on the width (a class token), unlike a layer's weights, whose variance is
that of its fan. Where a network multiplies by such a tensor as by a layer's weight, it is therefore
not cut at all: the rules freeze its sizes.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import gt

import torch
from torch import Tensor, nn

from prunenas.architecture.inheritance import Pieces, cut_axes, length
from prunenas.errors import SourceError


@dataclass(frozen=True, slots=True)
class Following:
    """A tensor whose sizes follow channel groups.

    Attributes:
        name: Its name in ``named_parameters()`` or ``named_buffers()``.
        axes: For each of its axes, the pieces of groups that lie on it.
    """

    name: str
    axes: tuple[Pieces, ...]

    def shape(self, widths: Mapping[str, int]) -> tuple[int, ...]:
        """Its sizes where the groups have these widths; a group without one is dense."""
        return tuple(length(pieces, widths) for pieces in self.axes)


@dataclass(frozen=True, slots=True)
class Loose:
    """A tensor that no layer holds.

    Attributes:
        sizes: For each of its axes the size, or None where it can't follow channels.
        why: Why it can't; None where it can along every axis longer than 1.
    """

    sizes: tuple[int | None, ...]
    why: str | None = None


def loose_tensors(network: nn.Module, layers: Collection[str]) -> dict[str, Loose]:
    """Tensors that none of the named layers holds: which of their axes may follow channels.

    A trained parameter may along every axis longer than 1. What is not trained was set by hand
    and may only where all entries along the axis are equal: of a pattern, such as sines and
    cosines of positions, the first entries are another pattern. A tensor under two names (tied
    weights, a block used twice) and one that the state dict leaves out follow nothing.

    Args:
        network: With memory for such tensors: their values are read.
        layers: Names of layers.

    Returns:
        The tensors by name.
    """
    named = [
        *network.named_parameters(remove_duplicate=False),
        *network.named_buffers(remove_duplicate=False),
    ]
    names = Counter(id(tensor) for _, tensor in named)
    saved = network.state_dict(keep_vars=True)
    found: dict[str, Loose] = {}
    for name, tensor in named:
        owner = name.rpartition(".")[0].partition(".parametrizations.")[0]
        if owner in layers:
            continue
        why = None
        if names[id(tensor)] > 1:
            why = "which has two names"
        elif name not in saved:
            why = "which the state dict leaves out"
        follows = [
            why is None and size > 1 and (tensor.requires_grad or _constant(tensor, axis))
            for axis, size in enumerate(tensor.shape)
        ]
        if why is None and sum(follows) < sum(size > 1 for size in tensor.shape):
            why = "a pattern that no training changes"
        sizes = zip(follows, tensor.shape, strict=True)
        found[name] = Loose(tuple(size if can else None for can, size in sizes), why)
    return found


def _constant(tensor: Tensor, axis: int) -> bool:
    if tensor.is_meta:
        return False
    return bool((tensor == tensor.narrow(axis, 0, 1)).all())


def narrow(network: nn.Module, shapes: Mapping[str, Sequence[int]]) -> None:
    """Keep the first entries of the named tensors, in place.

    The parameter stays the same object: whoever else refers to it sees the new size, and what its
    author wrote on it (a learning rate of its own, say) stays.

    Raises:
        SourceError: The network has no such tensor, or one that is not as large.
    """
    tensors = dict(chain(network.named_parameters(), network.named_buffers()))
    for name, shape in shapes.items():
        tensor = tensors.get(name)
        if tensor is None:
            raise SourceError(
                f"the constructor makes no parameter or buffer {name!r}, which the architecture has"
            )
        if len(shape) != tensor.dim() or any(map(gt, shape, tensor.shape)):
            made, wanted = ("×".join(map(str, s)) for s in (tensor.shape, shape))
            raise SourceError(
                f"the constructor makes {name!r} of {made} where the architecture has {wanted}"
            )
        if tuple(shape) != tuple(tensor.shape):
            first = tensor.data[tuple(slice(size) for size in shape)]
            tensor.data = first.clone(memory_format=torch.contiguous_format)


def cut(
    tensors: Sequence[Following], state: dict[str, Tensor], kept: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """A state dict with the tensors cut to the kept channels; see ``Space.inherit``."""
    for tensor in tensors:
        if tensor.name in state:
            state[tensor.name] = cut_axes(state[tensor.name], tensor.axes, kept)
    return state
