"""Results that are never computed twice: tensors and facts under the digest of their causes.

An entry is one safetensors file, ``FOLDER/KIND/KEY[:2]/KEY.safetensors``. It is written in one
step and carries a checksum, so a reader finds it whole or not at all, whatever was killed when.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import filelock
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from prunenas.places import CACHE

_FORMAT = "1"
_UNFINISHED = "unfinished"
_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Entry:
    """One result.

    Attributes:
        tensors: On the CPU, contiguous, by name.
        meta: JSON values.
    """

    tensors: Mapping[str, Tensor]
    meta: Mapping[str, Any]


@dataclass(frozen=True)
class Item:
    """A file of a cache, as a list shows it.

    Attributes:
        kind: The kind of its result.
        key: Its key.
        path: The file.
        bytes: Its size.
        used: When it was last written or read, in seconds since 1970.
        about: What it is, in words; None where nothing says it.
        unfinished: Whether it is the checkpoint of a result that is not there yet.
        damaged: Whether its head can't be read. Only ``Cache.get`` reads a whole file.
    """

    kind: str
    key: str
    path: Path
    bytes: int
    used: float
    about: str | None
    unfinished: bool
    damaged: bool


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

    def __init__(
        self, folder: Path = CACHE, warn: Callable[[str], None] = lambda text: None
    ) -> None:
        """Args: the folder, and who is told in one line of a damaged or unwritable result."""
        self.folder = Path(folder)
        self._warn = warn

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
        """The result, or ``None``; a damaged one is told, removed, and counts as absent."""
        path = self._path(kind, key)
        try:
            entry = _read(path)
        except FileNotFoundError:
            return None
        except (SafetensorError, KeyError, ValueError):
            self._warn(f"the stored result {path} is damaged and is computed again")
            path.unlink(missing_ok=True)
            return None
        with suppress(OSError):  # another user's store may be read all the same
            os.utime(path)  # the time of its last use, which pruning goes by
        return entry

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
        _write(self._path(kind, key), tensors, meta)

    def keep(
        self, kind: str, key: str, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]
    ) -> None:
        """``put`` for results that are in hand: a full disk costs the next one, not this one."""
        self._keep(self._path(kind, key), tensors, meta)

    def pause(
        self, kind: str, key: str, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]
    ) -> None:
        """Keep what there is of a result until it is whole; only who holds the lock may."""
        self._keep(self._paused(kind, key), tensors, meta)

    def paused(self, kind: str, key: str) -> Entry | None:
        """What `pause` kept, or ``None``; if it is damaged, too: the work begins anew."""
        try:
            return _read(self._paused(kind, key))
        except (FileNotFoundError, SafetensorError, KeyError, ValueError):
            return None

    def resume(self, kind: str, key: str) -> None:
        """Forget what `pause` kept, once the result is whole."""
        self._paused(kind, key).unlink(missing_ok=True)

    def unfinished(self, kind: str, key: str) -> Path:
        """Where whoever holds the lock keeps a checkpoint, and the next holder takes it up."""
        return self.folder / _UNFINISHED / f"{kind}-{self._path(kind, key).stem}.pt"

    def items(self) -> list[Item]:
        """Every result and every checkpoint of one, last used first."""
        found = [_item(path) for path in self.folder.glob("*/*/*.safetensors")]
        begun = (self.folder / _UNFINISHED).glob("[!.]*-*")
        found += [_checkpoint(path) for path in begun]
        return sorted((item for item in found if item), key=lambda item: (-item.used, item.key))

    def drop(self, item: Item) -> bool:
        """Remove an item, unless a process holds its lock; whether it was removed."""
        lock = filelock.FileLock(self._path(item.kind, item.key).with_suffix(".lock"))
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        try:
            with lock.acquire(timeout=0):
                item.path.unlink(missing_ok=True)
        except filelock.Timeout:
            return False
        return True

    def drop_litter(self) -> None:
        """Remove what writers that were killed half-way have left, once it is an hour old."""
        for path in self.folder.rglob(".*.partial"):
            if path.stat().st_mtime < time.time() - 3600:
                path.unlink(missing_ok=True)

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

    def _keep(self, path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        try:
            _write(path, tensors, meta)
        except OSError as error:
            reason = " ".join(str(error).split())
            self._warn(f"a result can't be stored in {self.folder}: {reason}")

    def _paused(self, kind: str, key: str) -> Path:
        return self.unfinished(kind, key).with_suffix(_SUFFIX)

    def _path(self, kind: str, key: str) -> Path:
        if not kind.isidentifier() or not key.isalnum():
            raise ValueError(f"kind and key must be plain words, but are {kind!r} and {key!r}")
        return self.folder / kind / key[:2] / f"{key}{_SUFFIX}"


def _write(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    # Copies: safetensors stores neither strided tensors nor two that share memory.
    whole = {
        name: tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    text = json.dumps(meta, sort_keys=True, allow_nan=False)
    about = {"format": _FORMAT, "meta": text, "checksum": _checksum(whole, text)}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial")
    try:
        save_file(whole, partial, metadata=about)
        partial.replace(path)
    except SafetensorError as error:  # what it says of a full disk is no OSError
        raise OSError(" ".join(str(error).split())) from error
    finally:
        partial.unlink(missing_ok=True)


def _read(path: Path) -> Entry:
    with safe_open(path, framework="pt") as file:
        about = file.metadata() or {}
        # The open file is no mapping: only keys() lists it.
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if about["format"] != _FORMAT or about["checksum"] != _checksum(tensors, about["meta"]):
        raise ValueError("checksum")
    return Entry(tensors, json.loads(about["meta"]))


def _item(path: Path) -> Item | None:
    """A result's file without its tensors; None if it has just been removed."""
    about, damaged = None, False
    try:
        size, used = path.stat().st_size, path.stat().st_mtime
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["meta"]).get("about")
    except FileNotFoundError:
        return None
    except (SafetensorError, KeyError, ValueError):
        damaged = True
    return Item(path.parts[-3], path.stem, path, size, used, about, False, damaged)


def _checkpoint(path: Path) -> Item | None:
    kind, _, key = path.stem.partition("-")
    if path.suffix == _SUFFIX:
        item = _item(path)
        return None if item is None else replace(item, kind=kind, key=key, unfinished=True)
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return Item(kind, key, path, stat.st_size, stat.st_mtime, None, True, False)


def _checksum(tensors: Mapping[str, Tensor], meta: str) -> str:
    """SHA-256 over names, types, shapes, bytes and meta: safetensors itself checks none."""
    digest = hashlib.sha256(meta.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
