"""A training's state on disk: replaced in one step, and trusted only if it is whole and fits."""

import hashlib
import io
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

_FORMAT = 1  # raise it when a file means something else than before
_DIGEST = hashlib.sha256().digest_size


def write_checkpoint(path: Path, values: Mapping[str, Any], *, identity: Any) -> None:
    """Replace a checkpoint; whoever reads it finds the old one or the new one.

    Args:
        path: The file; its folder is made.
        values: Tensors and plain values, nested in dicts and lists.
        identity: Of the training, plain values; a reader with another finds nothing.

    Raises:
        OSError: It can't be written.
    """
    buffer = io.BytesIO()
    torch.save({"format": _FORMAT, "identity": identity, "values": dict(values)}, buffer)
    payload = buffer.getbuffer()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(hashlib.sha256(payload).digest())
            file.write(payload)
        partial.replace(path)
    except OSError as error:  # a full disk doesn't say of which file
        error.filename = error.filename or str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def read_checkpoint(
    path: Path, *, identity: Any, device: torch.device | str = "cpu"
) -> dict[str, Any] | None:
    """Return a checkpoint's values, or None: there is none, it is damaged, or another's.

    Args:
        path: The file.
        identity: Of the training.
        device: Where its tensors are wanted.
    """
    try:
        content = memoryview(path.read_bytes())
    except FileNotFoundError:
        return None
    digest, payload = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(payload).digest() != digest:
        return None
    try:  # weights_only: a checkpoint is data, and reading one must not run code
        stored = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    except pickle.UnpicklingError:
        return None
    if stored.get("format") != _FORMAT or stored.get("identity") != identity:
        return None
    values: dict[str, Any] = stored["values"]
    return values
