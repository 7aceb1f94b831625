"""``model.safetensors``: trained weights, written whole and read only where they fit."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prunenas.architecture import masked
from prunenas.errors import ExportError
from prunenas.export.config import CONFIG_FILE


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> str:
    """Write a state dict; its SHA-256."""
    # Copies, because safetensors refuses tensors that share memory, as tied weights do.
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in weights.items()}
    save_file(tensors, path, metadata={"format": "pt"})
    return sha256(path)


def check_weights(path: Path, checksum: str, state: Mapping[str, Tensor]) -> None:
    """See that a file holds the tensors of a state dict, by checksum, names and shapes.

    Nothing is allocated but the file's header; ``state`` may be on the meta device.

    Raises:
        ExportError: The file is missing or damaged, or its tensors are others.
    """
    if not path.is_file():
        raise ExportError(f"{path}: missing, though {CONFIG_FILE} says that weights were exported")
    if sha256(path) != checksum:
        raise ExportError(f"{path}: damaged, its checksum is not the one in {CONFIG_FILE}")
    try:
        with safe_open(path, framework="pt") as file:
            # An open safetensors file is no mapping: it has keys, but can't be iterated over.
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ExportError(f"{path}: damaged: {error}") from error
    wanted = {name: tuple(tensor.shape) for name, tensor in state.items()}
    law = f"{path}: weights must fit the architecture"
    if missing := sorted(wanted.keys() - found.keys()):
        raise ExportError(f"{law}, but {missing[0]} is missing")
    if strange := sorted(found.keys() - wanted.keys()):
        raise ExportError(f"{law}, which has no {strange[0]}")
    for name, shape in wanted.items():
        if found[name] != shape:
            raise ExportError(f"{law}: {name} must be {shape}, but is {found[name]}")


def fill(network: nn.Module, path: Path) -> None:
    """Load a file that :func:`check_weights` has passed.

    Raises:
        ExportError: Its tensors can't be copied into the network's, or are not 0 where the
            network's masks drop them.
    """
    state = network.state_dict()  # knows its modules' versions, which a file of tensors does not
    try:
        state.update(load_file(path))
        network.load_state_dict(state)
    except (SafetensorError, RuntimeError) as error:
        # torch tells every tensor on a line of its own; the first is the summary.
        reason = " ".join(str(error).split())[:300]
        raise ExportError(f"{path}: weights must fit the architecture: {reason}") from error
    if wrong := sum(int(weight[~mask].count_nonzero()) for weight, mask in masked(network)):
        raise ExportError(f"{path}: weights that masks drop must be 0, but {wrong} are not")


def sha256(path: Path) -> str:
    """A file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
