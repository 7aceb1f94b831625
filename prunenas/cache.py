"""Results that are never computed twice: tensors and facts under the digest of their causes.

An entry is one safetensors file, ``FOLDER/KIND/KEY[:2]/KEY.safetensors``. It is written in one
step and carries a checksum, so a reader finds it whole or not at all, whatever was killed when.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

DEFAULT_FOLDER = Path(".prunenas/cache")

_FORMAT = "1"


@dataclass(frozen=True)
class Entry:
    """One result.

    Attributes:
        tensors: On the CPU, contiguous, by name.
        meta: JSON values.
    """

    tensors: Mapping[str, Tensor]
    meta: Mapping[str, Any]


class Cache:
    """A folder of results, shared by trials, studies and processes.

    >>> import tempfile
    >>> cache = Cache(Path(tempfile.mkdtemp()))
    >>> key = cache.key(model="vgg_mini", seed=0)
    >>> with cache.lock("dense", key):
    ...     if cache.get("dense", key) is None:
    ...         cache.put("dense", key, {"weight": torch.ones(2)}, {"accuracy": 0.5})
    >>> cache.get("dense", key).meta
    {'accuracy': 0.5}
    """

    def __init__(self, folder: Path = DEFAULT_FOLDER) -> None:
        self.folder = Path(folder)

    @staticmethod
    def key(**parts: Any) -> str:
        """Digest of everything a result depends on: JSON values, whose order doesn't matter.

        Returns:
            64 hexadecimal digits, the SHA-256 of the parts as canonical JSON.

        Raises:
            TypeError: A part is no JSON value.
            ValueError: A number is infinite or not a number.
        """
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def get(self, kind: str, key: str) -> Entry | None:
        """The result, or ``None``; a damaged one counts as absent and is removed."""
        path = self._path(kind, key)
        if not path.is_file():
            return None
        try:
            return _read(path)
        except (SafetensorError, KeyError, ValueError):
            path.unlink(missing_ok=True)
            return None

    def put(
        self, kind: str, key: str, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]
    ) -> None:
        """Store a result, in place of an earlier one.

        Args:
            kind: A short word, the folder.
            key: From ``key``.
            tensors: By name; copied to the CPU.
            meta: JSON values.

        Raises:
            OSError: The folder can't be written.
        """
        # Copies: safetensors stores neither strided tensors nor two that share memory.
        whole = {
            name: tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
        }
        text = json.dumps(meta, sort_keys=True, allow_nan=False)
        about = {"format": _FORMAT, "meta": text, "checksum": _checksum(whole, text)}
        path = self._path(kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.stem}.{os.getpid()}.partial")
        try:
            save_file(whole, partial, metadata=about)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def keys(self, kind: str) -> list[str]:
        """Keys of all results of a kind, sorted."""
        return sorted(path.stem for path in (self.folder / kind).glob("*/*.safetensors"))

    def remove(self, kind: str, key: str) -> None:
        """Forget a result; nothing happens where there is none."""
        self._path(kind, key).unlink(missing_ok=True)

    @contextmanager
    def lock(self, kind: str, key: str) -> Iterator[None]:
        """Hold the result for yourself: others who ask for its lock wait until you leave.

        Taken again by the thread that holds it, it doesn't wait. A process that dies lets go.
        """
        path = self._path(kind, key).with_suffix(".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path, is_singleton=True):
            yield

    def _path(self, kind: str, key: str) -> Path:
        if not kind.isidentifier() or not key.isalnum():
            raise ValueError(f"kind and key must be plain words, but are {kind!r} and {key!r}")
        return self.folder / kind / key[:2] / f"{key}.safetensors"


def _read(path: Path) -> Entry:
    with safe_open(path, framework="pt") as file:
        about = file.metadata() or {}
        # The open file is no mapping: only keys() lists it.
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if about["format"] != _FORMAT or about["checksum"] != _checksum(tensors, about["meta"]):
        raise ValueError("checksum")
    return Entry(tensors, json.loads(about["meta"]))


def _checksum(tensors: Mapping[str, Tensor], meta: str) -> str:
    """SHA-256 over names, types, shapes, bytes and meta: safetensors itself checks none."""
    digest = hashlib.sha256(meta.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
