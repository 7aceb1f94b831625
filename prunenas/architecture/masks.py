"""Weight masks: which weights of a network are there at all.

A mask belongs to the weight of one convolution or linear layer. What it keeps or drops as one is a
weight, a kernel (all weights between one input and one output channel) or a filter (all weights of
one output channel). A mask is small, one bit for each of these; that a network obeys it is
``masking``'s.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor

from prunenas.errors import ExportError

Granularity = Literal["weight", "kernel", "filter"]
GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)

_MAX_WEIGHTS = 1 << 40
_FIELDS = {"granularity", "shape", "uses", "kept", "digest"}


@dataclass(frozen=True)
class Mask:
    """Which parts of one layer's weight are kept.

    Attributes:
        granularity: What is kept or dropped as one.
        shape: Of the weight, ``(out, in / groups, *kernel)`` or ``(out, in)``.
        uses: Multiply-adds that each of its weights makes for one input.
        kept: How many weights, kernels or filters are kept; at least one.
        digest: 16 hexadecimal characters of the SHA-256 of the bits.
        bits: One for each weight, kernel or filter in C order, 1 where it is kept, eight to a
            byte, the first one highest; None where only the figures above are known.
    """

    granularity: Granularity
    shape: tuple[int, ...]
    uses: int
    kept: int
    digest: str
    bits: bytes | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls, keep: Tensor, granularity: Granularity, *, shape: tuple[int, ...], uses: int
    ) -> Self:
        """Make a mask.

        Args:
            keep: Bool, one for each weight, kernel or filter: the first dimensions of ``shape``,
                all, two or one of them.
            granularity: What each entry stands for.
            shape: Of the weight.
            uses: Multiply-adds of each weight for one input.

        Raises:
            ValueError: ``keep`` has another shape, or keeps nothing.
        """
        units = _units(shape, granularity)
        if tuple(keep.shape) != units:
            raise ValueError(
                f"a {granularity} mask must have shape {units}, not {tuple(keep.shape)}"
            )
        kept = int(keep.sum())
        if not kept:
            raise ValueError(f"a mask must keep a {granularity} at least, but keeps none")
        bits = np.packbits(keep.cpu().numpy().astype(bool).ravel()).tobytes()
        return cls(granularity, tuple(shape), uses, kept, _digest(bits), bits)

    @property
    def units(self) -> int:
        """How many weights, kernels or filters there are, kept or not."""
        return prod(_units(self.shape, self.granularity))

    @property
    def total(self) -> int:
        """Number of weights, kept or not."""
        return prod(self.shape)

    @property
    def weights(self) -> int:
        """Number of weights that are kept."""
        return self.kept * (self.total // self.units)

    @property
    def density(self) -> float:
        """Share of the weights that are kept, in (0, 1]."""
        return self.kept / self.units

    @property
    def flops(self) -> int:
        """Multiply-adds of the weights that are kept, for one input."""
        return self.uses * self.weights

    @property
    def whole_flops(self) -> int:
        """Multiply-adds of all weights: what fvcore counts of the layer."""
        return self.uses * self.total

    def tensor(self) -> Tensor:
        """Return the mask for each weight, bool of shape ``shape``.

        Raises:
            ExportError: Its bits are not known.
        """
        if self.bits is None:
            raise ExportError("a mask's bits lie in a file of their own, which was not read")
        flat = np.unpackbits(np.frombuffer(self.bits, dtype=np.uint8), count=self.units)
        units = _units(self.shape, self.granularity)
        keep = torch.from_numpy(flat.astype(bool)).reshape(units)
        return keep.reshape(*units, *[1] * (len(self.shape) - len(units))).expand(self.shape)

    def with_bits(self, bits: bytes) -> Self:
        """Return the mask with its bits.

        Raises:
            ExportError: They are not this mask's, or keep another number than it says.
        """
        if _digest(bits) != self.digest or len(bits) != -(-self.units // 8):
            raise ExportError(
                f"a mask's bits must have the digest {self.digest}, not {_digest(bits)}"
            )
        flat = np.unpackbits(np.frombuffer(bits, dtype=np.uint8))
        if flat[self.units :].any():
            raise ExportError(f"a mask of {self.units} bits must fill its last byte with zeros")
        if (kept := int(np.count_nonzero(flat))) != self.kept:
            raise ExportError(
                f"a mask's kept must be what its bits keep, {kept}, but is {self.kept}"
            )
        return replace(self, bits=bits)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values, without the bits."""
        return {
            "granularity": self.granularity,
            "shape": list(self.shape),
            "uses": self.uses,
            "kept": self.kept,
            "digest": self.digest,
        }

    @classmethod
    def from_dict(cls, plain: Any) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            ExportError: A key is missing or unknown, or a value is not what it must be.
        """
        law = f"a mask must be a mapping with the keys {', '.join(sorted(_FIELDS))}"
        if not isinstance(plain, Mapping) or set(plain) != _FIELDS:
            raise ExportError(f"{law}, but got {str(plain)[:80]}")
        if plain["granularity"] not in GRANULARITIES:
            known = ", ".join(GRANULARITIES)
            raise ExportError(f"a mask's granularity must be one of {known}")
        shape = plain["shape"]
        sizes = isinstance(shape, (list, tuple)) and len(shape) >= 2
        if not (sizes and all(_is_count(size) for size in shape) and prod(shape) <= _MAX_WEIGHTS):
            raise ExportError(f"a mask's shape must hold two sizes or more, but is {shape!r:.80}")
        units = prod(_units(tuple(shape), plain["granularity"]))
        if not (_is_count(plain["kept"]) and plain["kept"] <= units):
            raise ExportError(f"a mask must keep 1..{units}, but keeps {plain['kept']!r:.80}")
        if not (_is_count(plain["uses"]) or plain["uses"] == 0):
            raise ExportError(f"a mask's uses must be an int >= 0, but is {plain['uses']!r:.80}")
        if not isinstance(plain["digest"], str):
            raise ExportError("a mask's digest must be a string")
        return cls(
            plain["granularity"], tuple(shape), plain["uses"], plain["kept"], plain["digest"]
        )


def density_of(plain: Mapping[str, Any] | None) -> float | None:
    """Return the share of masked layers' weights that an architecture keeps, in (0, 1].

    Args:
        plain: ``Architecture.to_dict()``, as a record has it; None where none was derived.

    Returns:
        None where there are no masks.
    """
    kept = weights_kept(plain or {}).values()
    return sum(left for left, _ in kept) / sum(total for _, total in kept) if kept else None


def weights_kept(plain: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return how many weights masks keep, and of how many, by the weight's name.

    Args:
        plain: ``Architecture.to_dict()``.
    """
    masks = {name: Mask.from_dict(each) for name, each in plain.get("masks", {}).items()}
    return {name: (mask.weights, mask.total) for name, mask in masks.items()}


def share_kept(masks: Collection[Mask]) -> float:
    """Return the share of several layers' weights that their masks keep; 1 where there are none."""
    total = sum(mask.total for mask in masks)
    return sum(mask.weights for mask in masks) / total if total else 1.0


def pack(bits: Mapping[str, bytes]) -> dict[str, Tensor]:
    """Return masks' bits as tensors for a file, uint8 of shape ``(bytes,)``."""
    return {
        name: torch.frombuffer(bytearray(each), dtype=torch.uint8) for name, each in bits.items()
    }


def unpack(tensors: Mapping[str, Tensor]) -> dict[str, bytes]:
    """Return what `pack` was given.

    Raises:
        ExportError: A tensor holds no bytes.
    """
    for name, tensor in tensors.items():
        if tensor.dtype != torch.uint8 or tensor.dim() != 1:
            raise ExportError(f"a mask's bits must be bytes in a row, but {name} is {tensor.dtype}")
    return {name: tensor.cpu().numpy().tobytes() for name, tensor in tensors.items()}


def _units(shape: tuple[int, ...], granularity: Granularity) -> tuple[int, ...]:
    return {"weight": tuple(shape), "kernel": tuple(shape[:2]), "filter": tuple(shape[:1])}[
        granularity
    ]


def _digest(bits: bytes) -> str:
    return hashlib.sha256(bits).hexdigest()[:16]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
