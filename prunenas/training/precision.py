"""Which numbers and which memory order a device trains fastest in."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from prunenas.errors import TrainingError
from prunenas.training.recipe import MemoryFormat, Precision

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Numerics:
    """A device with the arithmetic that was chosen for it.

    ``auto`` means:

    ======  ==================================================  =============
    device  precision                                           memory format
    ======  ==================================================  =============
    CPU     float32                                             channels_last
    CUDA    bfloat16 from compute capability 8.0 (Ampere),      channels_last
            float16 from 7.0 (Volta), float32 before
    other   float32                                             contiguous
    ======  ==================================================  =============

    The CPU's choice was measured (torch 2.15, 2 cores with AVX-512 and AVX512-BF16, batches of
    128, forward + backward + step, median of 5 interleaved rounds), as speed over contiguous
    float32. vgg_mini at 1×28×28: channels_last 1.36, bfloat16 0.85, both 1.11. A ResNet-20 at
    3×32×32: 1.49, 1.18, 1.27. So channels_last alone wins on both. float16 ran more than
    ten times slower, and is refused. CUDA's choice follows what its matrix units support and
    isn't measured.
    """

    device: torch.device
    dtype: torch.dtype
    memory_format: torch.memory_format

    @classmethod
    def choose(
        cls,
        device: torch.device | str,
        *,
        precision: Precision = "auto",
        memory_format: MemoryFormat = "auto",
    ) -> "Numerics":
        """Settle what ``auto`` means on this device.

        Raises:
            TrainingError: float16 on a CPU.
        """
        device = torch.device(device)
        if precision == "auto":
            precision = _fastest_precision(device)
        if memory_format == "auto":
            fast = device.type in ("cpu", "cuda")
            memory_format = "channels_last" if fast else "contiguous"
        if precision == "float16" and device.type == "cpu":
            raise TrainingError(
                "unusable precision",
                "precision float16 needs a GPU. Known for a CPU: auto, bfloat16, float32",
            )
        return cls(device, _DTYPES[precision], _FORMATS[memory_format])

    def autocast(self) -> torch.autocast:
        """Context of the forward pass; does nothing in float32."""
        mixed = self.dtype != torch.float32
        # The dtype of a disabled autocast is checked too, and float32 is no choice of it.
        dtype = self.dtype if mixed else torch.bfloat16
        return torch.autocast(self.device.type, dtype=dtype, enabled=mixed)

    def place(self, images: torch.Tensor) -> torch.Tensor:
        """Images ``(N, C, H, W)`` on the device, in its memory order."""
        return images.to(self.device, non_blocking=True, memory_format=self.memory_format)

    @contextmanager
    def laid_out(self, network: nn.Module) -> Iterator[None]:
        """Move the network to the device, in its memory order while inside.

        Outside, weights are contiguous again, which files of weights ask for.
        """
        _move(network, self.device, self.memory_format)
        try:
            yield
        finally:
            _move(network, self.device, torch.contiguous_format)

    def to_dict(self) -> dict[str, str]:
        """Names only, for comparing a checkpoint with the training that finds it."""
        return {
            "device": self.device.type,
            "dtype": str(self.dtype),
            "memory_format": str(self.memory_format),
        }


def _fastest_precision(device: torch.device) -> Precision:
    if device.type != "cuda":
        return "float32"
    major, _ = torch.cuda.get_device_capability(device)
    return "bfloat16" if major >= 8 else "float16" if major >= 7 else "float32"


def _move(network: nn.Module, device: torch.device, order: torch.memory_format) -> None:
    network.to(device)
    network.to(memory_format=order)
