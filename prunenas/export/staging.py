"""A folder is written whole or not at all: beside its place first, then renamed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prunenas.errors import ExportError
from prunenas.export.config import CONFIG_FILE, read_config


@contextmanager
def staged(target: Path, *, replace: bool, copy: bool = False) -> Iterator[Path]:
    """A folder to write into; it takes the target's place where the block ends without an error.

    Args:
        target: Where the folder goes; its parents are made.
        replace: Whether an export that stands there already gives way.
        copy: Whether the folder begins as a copy of the target.

    Raises:
        ExportError: The target exists (unless ``replace``, and then unless it is an export), can't
            be written, or the block failed with one, whose message then begins with the target.
    """
    _refuse_occupied(target, replace)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise ExportError(f"{target}: can't be written: {error.strerror or error}") from error
    try:
        if copy:
            shutil.copytree(target, staging, dirs_exist_ok=True, symlinks=True)
        yield staging
        # mkdtemp's folders and safetensors' files are their owner's alone.
        for path in (staging, *staging.glob("model.*"), *staging.glob("*.safetensors")):
            path.chmod((0o777 if path.is_dir() else 0o666) & ~_umask())
        _move(staging, target)
    except OSError as error:
        raise ExportError(f"{target}: can't be written: {error.strerror or error}") from error
    except ExportError as error:
        # The reader knows the target, not the folder that is gone by now.
        text = str(error).replace(str(staging), str(target))
        raise ExportError(text if str(target) in text else f"{target}: {text}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a file and see it to the disk, so that a renamed folder is never half empty."""
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _refuse_occupied(target: Path, replace: bool) -> None:
    if not target.exists():
        return
    if not replace:
        raise ExportError(
            f"{target}: exists already; choose another folder, or replace it (--replace)"
        )
    if not (target / CONFIG_FILE).is_file():
        raise ExportError(f"{target}: exists and is not an export, so it is not replaced")
    read_config(target)


def _move(staging: Path, target: Path) -> None:
    if not target.exists():
        staging.rename(target)
        return
    # A folder can't be renamed over a full one: the old one steps aside, and back if this fails.
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    old = aside / target.name
    target.rename(old)
    try:
        staging.rename(target)
    except OSError:
        old.rename(target)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
