"""Only kept weights travel: from whole tensors to rows of values, and back.

A masked weight goes as the values that its mask keeps, in C order; everything else goes whole.
Masks go as bits, eight to a byte, and are named by a digest.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from prunenas.errors import FederatedError

Masks = Mapping[str, Tensor]
"""By the weight's name which of it is kept, bool of its shape."""


@dataclass(frozen=True)
class Packing:
    """The masks of a moment, ready for use.

    Attributes:
        masks: Of all prunable weights; also those that keep everything.
        digest: 16 hexadecimal characters of the SHA-256 over names, shapes and bits.
        kept: Indices into the flat weight that are kept, int64, sorted; not for weights that keep
            everything.
    """

    masks: Masks
    digest: str
    kept: Mapping[str, Tensor]

    @classmethod
    def of(cls, masks: Masks) -> "Packing":
        """Make it from masks, each bool."""
        content = hashlib.sha256()
        for name in sorted(masks):
            content.update(f"{name} {tuple(masks[name].shape)}\n".encode())
            content.update(_bits(masks[name]).numpy().data)
        kept = {
            name: mask.flatten().nonzero().flatten()
            for name, mask in masks.items()
            if not bool(mask.all())
        }
        return cls(dict(masks), content.hexdigest()[:16], kept)

    @classmethod
    def from_bits(cls, bits: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> "Packing":
        """Make it from what `bits` gave.

        Args:
            bits: By the weight's name.
            shapes: Of the weights that may be masked.

        Raises:
            FederatedError: Names or sizes are others.
        """
        if bits.keys() != shapes.keys():
            odd = sorted(bits.keys() ^ shapes.keys())
            raise FederatedError(
                f"masks must be those of all prunable weights, not so: {odd[0][:80]!r}"
            )
        masks = {}
        for name, shape in shapes.items():
            row, size = bits[name], prod(shape)
            if row.dtype != torch.uint8 or row.shape != (-(-size // 8),):
                raise FederatedError(
                    f"the mask of {name} must be {-(-size // 8)} bytes, but is {row.dtype} of "
                    f"{tuple(row.shape)}"
                )
            flat = np.unpackbits(row.cpu().numpy(), count=size).astype(bool)
            masks[name] = torch.from_numpy(flat).reshape(shape)
        return cls.of(masks)

    def bits(self) -> dict[str, Tensor]:
        """Return the masks for sending, uint8 of shape ``(bytes,)`` each."""
        return {name: _bits(mask) for name, mask in self.masks.items()}

    def counts(self) -> dict[str, int]:
        """Return how many weights each mask keeps."""
        return {
            name: len(self.kept[name]) if name in self.kept else mask.numel()
            for name, mask in self.masks.items()
        }

    @property
    def density(self) -> float:
        """Share of the prunable weights that is kept, in [0, 1]."""
        return sum(self.counts().values()) / sum(mask.numel() for mask in self.masks.values())

    def pack(self, name: str, whole: Tensor) -> Tensor:
        """Return what travels of a tensor: a copy, flat where a mask drops part of it."""
        index = self.kept.get(name)
        return whole.detach().clone() if index is None else whole.detach().flatten()[index]

    def unpack(self, name: str, values: Tensor, into: Tensor) -> None:
        """Write what travelled into a whole tensor, in place; dropped places become 0."""
        index = self.kept.get(name)
        if index is None:
            into.copy_(values)
        else:
            into.zero_().view(-1)[index] = values

    def add(self, name: str, values: Tensor, into: Tensor, factor: float) -> None:
        """Add ``factor`` times what travelled to the kept places of a whole tensor, in place."""
        index = self.kept.get(name)
        if index is None:
            into.add_(values, alpha=factor)
        else:
            into.view(-1).index_add_(0, index.to(into.device), values, alpha=factor)

    def shape(self, name: str, whole: torch.Size) -> tuple[int, ...]:
        """Return the shape that travels of a tensor of a whole shape."""
        index = self.kept.get(name)
        return tuple(whole) if index is None else (len(index),)

    def dropped(self, name: str, whole: Tensor) -> Tensor:
        """Return a tensor's values at the places that its mask drops, flat, in C order."""
        return whole[~self.masks[name]]


def _bits(mask: Tensor) -> Tensor:
    return torch.from_numpy(np.packbits(mask.cpu().numpy().ravel()))
