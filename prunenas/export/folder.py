"""An export is a folder: ``config.json``, and ``model.safetensors`` where weights were exported."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prunenas.architecture import Architecture, build, count_flops
from prunenas.errors import ExportError
from prunenas.export.config import CONFIG_FILE, WEIGHTS_FILE, ExportConfig, read_config

# An innermost list over several lines, such as a layer's sizes; no string holds a raw line break.
_SHORT_LIST = re.compile(r"\[\n\s*((?:[^\[\]{}\n]+\n\s*)*?[^\[\]{}\n]+)\n\s*\]")
_LINE_BREAK = re.compile(r"\n\s*")


def write_export(
    folder: str | Path,
    architecture: Architecture,
    *,
    dense_flops: int,
    provenance: Mapping[str, Any],
    weights: Mapping[str, Tensor] | None = None,
    replace: bool = False,
) -> Path:
    """Write an architecture, whole or not at all.

    Everything is written into a folder beside, read back, built, counted by fvcore and loaded;
    only then it is renamed. The architecture's source is imported for that: the caller has
    searched with it, or trusts it otherwise.

    Args:
        folder: Where to; its parents are made.
        architecture: What to write.
        dense_flops: FLOPs of the dense network, for the share.
        provenance: Where it comes from; JSON values.
        weights: State dict of the trained network.
        replace: Whether an export that stands there already gives way.

    Returns:
        ``folder`` as a path.

    Raises:
        ExportError: The folder exists (unless ``replace``, and then unless it is an export), can't
            be written, or the network doesn't have the FLOPs or the weights that are claimed.
    """
    target = Path(folder)
    _refuse_occupied(target, replace)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise ExportError(f"{target}: can't be written: {error.strerror or error}") from error
    try:
        checksum = None if weights is None else _write_weights(staging / WEIGHTS_FILE, weights)
        config = ExportConfig(
            architecture, architecture.flops / dense_flops, dict(provenance), checksum
        )
        _write_config(staging / CONFIG_FILE, config, target)
        _verify(staging, config, target)
        staging.chmod(0o777 & ~_umask())  # mkdtemp's folders are their owner's alone
        _move(staging, target)
    except OSError as error:
        raise ExportError(f"{target}: can't be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def load(folder: str | os.PathLike[str], *, trust: bool = False) -> nn.Module:
    """Build the network of an export.

    ::

        network = prunenas.load("exports/best")
        logits = network(images)          # images: (N, C, H, W)

    Args:
        folder: What ``prunenas export`` wrote.
        trust: Whether the network's source may be a module outside prunenas and torchvision;
            importing it runs its code.

    Returns:
        The network on the CPU: with the exported weights and in evaluation mode, or where none
        were exported with fresh random ones and in training mode.

    Raises:
        ExportError: The folder is no export or is damaged.
        SourceError: The source is not installed, or needs ``trust``.
    """
    config = read_config(Path(folder))
    network = build(config.architecture, trust=trust)
    if config.weights_sha256 is None:
        return network
    _fill(network, Path(folder), config.weights_sha256, shown=Path(folder))
    return network.eval()


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


def _write_weights(path: Path, weights: Mapping[str, Tensor]) -> str:
    # Copies, because safetensors refuses tensors that share memory, as tied weights do.
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in weights.items()}
    save_file(tensors, path, metadata={"format": "pt"})
    return _sha256(path)


def _write_config(path: Path, config: ExportConfig, target: Path) -> None:
    try:
        text = json.dumps(config.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        text = _SHORT_LIST.sub(lambda found: f"[{_LINE_BREAK.sub(' ', found[1])}]", text)
    except (TypeError, ValueError) as error:
        raise ExportError(f"{target}: provenance must hold JSON values: {error}") from error
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())


def _verify(folder: Path, config: ExportConfig, target: Path) -> None:
    written = read_config(folder)
    if written.to_dict() != json.loads(json.dumps(config.to_dict())):
        raise ExportError(f"{target}: what was written does not read back as it was")
    network = build(written.architecture, trust=True)
    counted = count_flops(network, written.architecture.input_shape)
    if counted != written.architecture.flops:
        raise ExportError(
            f"{target}: an architecture's flops must be what fvcore counts, {counted}, "
            f"but are {written.architecture.flops}"
        )
    if written.weights_sha256 is not None:
        _fill(network, folder, written.weights_sha256, shown=target)


def _fill(network: nn.Module, folder: Path, checksum: str, shown: Path) -> None:
    path, name = folder / WEIGHTS_FILE, shown / WEIGHTS_FILE
    if not path.is_file():
        raise ExportError(f"{name}: missing, though {CONFIG_FILE} says that weights were exported")
    if _sha256(path) != checksum:
        raise ExportError(f"{name}: damaged, its checksum is not the one in {CONFIG_FILE}")
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        # torch tells every tensor on a line of its own; the first is the summary.
        reason = " ".join(str(error).split())[:300]
        raise ExportError(f"{name}: weights must fit the architecture: {reason}") from error


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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
