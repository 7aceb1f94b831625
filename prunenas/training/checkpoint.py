"""What of a training is on disk, to go on from."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prunenas.architecture.masking import BUFFER as MASK
from prunenas.training.metrics import EpochMetrics, Metrics
from prunenas.training.sealed import read_checkpoint, write_checkpoint

_FORMAT = 2  # raise it when a checkpoint means something else than before


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
        values = {
            "network": dict(self.network),
            "optimizer": dict(self.optimizer),
            "scaler": dict(self.scaler),
            "best": dict(self.best),
            "curve": [asdict(epoch) for epoch in self.curve],
        }
        write_checkpoint(path, values, identity=_named(identity))

    @classmethod
    def read(
        cls, path: Path, *, identity: Mapping[str, Any], device: torch.device
    ) -> "Checkpoint | None":
        """Read the file at ``path``; ``None`` if there is none, or it is damaged or another's."""
        stored = read_checkpoint(path, identity=_named(identity), device=device)
        if stored is None:
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


def _named(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {"format": _FORMAT, **identity}


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
