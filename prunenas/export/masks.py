"""``masks.safetensors``: what an export's masks keep, one bit for each weight, kernel or filter."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from prunenas.architecture import Architecture, pack, unpack
from prunenas.errors import ExportError
from prunenas.export.plain import one_line

MASKS_FILE = "masks.safetensors"
"""Beside the config, which has the masks' figures and digests; there only where there are masks."""


def write_masks(folder: Path, architecture: Architecture) -> None:
    """Write the masks of an architecture that has any."""
    if architecture.masks:
        save_file(pack(architecture.bits()), folder / MASKS_FILE)


def read_masks(folder: Path, architecture: Architecture) -> Architecture:
    """Return an architecture with the masks that lie beside its file.

    Raises:
        ExportError: The file is missing or damaged, or its masks are others.
    """
    if not architecture.masks:
        return architecture
    path = folder / MASKS_FILE
    if not path.is_file():
        raise ExportError(f"{path}: missing, though the architecture has masks")
    try:
        return architecture.with_bits(unpack(load_file(path)))
    except SafetensorError as error:
        raise ExportError(f"{path}: damaged: {error}") from error
    except ExportError as error:
        raise ExportError(f"{path}: {one_line(error)}") from error
