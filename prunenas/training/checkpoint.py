"""A training on disk: replaced in one step, and trusted only if it is whole and fits."""

import hashlib
import io
import os
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prunenas.architecture.masking import BUFFER as MASK
from prunenas.training.metrics import EpochMetrics, Metrics

_FORMAT = 2  # raise it when a checkpoint means something else than before
_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Checkpoint:
    """Everything a training needs to go on as if it had never stopped.

    Random numbers and the learning rate aren't here: both are functions of seed and step.

    Attributes:
        network: State dict, buffers included.
        optimizer: The optimiser's state dict.
        scaler: That of the gradient scaler; empty where none is used.
        curve: The finished epochs.
        best: State dict of the best epoch so far; empty where none is kept.
    """

    network: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    scaler: Mapping[str, Any]
    curve: tuple[EpochMetrics, ...]
    best: Mapping[str, Any]

    def write(self, path: Path, *, identity: Mapping[str, Any]) -> None:
        """Replace the file at ``path`` in one step: whoever reads it finds the old or the new."""
        buffer = io.BytesIO()
        torch.save(
            {
                "format": _FORMAT,
                "identity": dict(identity),
                "network": dict(self.network),
                "optimizer": dict(self.optimizer),
                "scaler": dict(self.scaler),
                "best": dict(self.best),
                "curve": [asdict(epoch) for epoch in self.curve],
            },
            buffer,
        )
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

    @classmethod
    def read(
        cls, path: Path, *, identity: Mapping[str, Any], device: torch.device
    ) -> "Checkpoint | None":
        """Read the file at ``path``; ``None`` if there is none, or it is damaged or another's."""
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
        if stored.get("format") != _FORMAT or stored.get("identity") != dict(identity):
            return None
        return cls(
            network=stored["network"],
            optimizer=stored["optimizer"],
            scaler=stored["scaler"],
            best=stored["best"],
            curve=tuple(
                EpochMetrics(
                    **{
                        **epoch,
                        "train": Metrics(**epoch["train"]),
                        "validation": Metrics(**epoch["validation"]),
                    }
                )
                for epoch in stored["curve"]
            ),
        )


def shape_digest(network: nn.Module) -> str:
    """Name a network's tensors by their names, shapes and types, not by their values.

    Masks are named by their values, unless they change while the network is trained.
    """
    state = network.state_dict()
    tensors: list[tuple[object, ...]] = [
        (name, tuple(tensor.shape), str(tensor.dtype))
        for name, tensor in state.items()
        if isinstance(tensor, torch.Tensor)
    ]
    for name, mask in network.named_buffers():
        if name not in state and name.rpartition(".")[2] == MASK:
            tensors.append((name, hashlib.sha256(mask.cpu().numpy().tobytes()).hexdigest()))
    return hashlib.sha256(repr(tensors).encode()).hexdigest()
