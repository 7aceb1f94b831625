"""What became of a training, in the server's folder."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunenas.errors import FederatedError
from prunenas.federated.history import FederatedRun, History
from prunenas.training.sealed import read_checkpoint, write_checkpoint

CHECKPOINT = "checkpoint.bin"
OUTCOME = "outcome.json"
WEIGHTS = "weights.bin"


@dataclass(frozen=True)
class Wire:
    """Bytes of a round's arrays as Flower carries them, their headers included.

    Attributes:
        round: From 1; 0 is initial pruning.
        sent: To all clients together.
        received: From them.
    """

    round: int
    sent: int
    received: int


@dataclass(frozen=True)
class Outcome:
    """A training over Flower that is done.

    Attributes:
        run: What `federate` returns.
        wire: Of each round, as ``run.history.reports``.
    """

    run: FederatedRun
    wire: tuple[Wire, ...]

    def write(self, folder: Path, identity: str) -> None:
        """Write it into the server's folder: plain values as JSON, and the tensors."""
        values = {"masks": dict(self.run.masks), "weights": dict(self.run.weights)}
        write_checkpoint(folder / WEIGHTS, values, identity=identity)
        _replace(
            folder / OUTCOME,
            {
                "identity": identity,
                "history": self.run.history.to_dict(),
                "mask_digest": self.run.mask_digest,
                "wire": [vars(each) for each in self.wire],
            },
        )

    @classmethod
    def read(cls, folder: Path) -> "Outcome":
        """Read what `write` or `write_trouble` wrote.

        Raises:
            FederatedError: The training failed, or there is none.
        """
        try:
            plain = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise FederatedError(
                f"a finished server must leave an outcome, but there is none in {folder}; "
                "`flwr log` tells why"
            ) from None
        if "trouble" in plain:
            raise FederatedError(plain["trouble"])
        values = read_checkpoint(folder / WEIGHTS, identity=plain["identity"])
        if values is None:
            raise FederatedError(f"the weights in {folder} are damaged or another run's")
        run = FederatedRun(
            history=History.from_dict(plain["history"]),
            mask_digest=plain["mask_digest"],
            masks=values["masks"],
            weights=values["weights"],
        )
        return cls(run, tuple(Wire(**each) for each in plain["wire"]))


def write_trouble(folder: Path, why: str) -> None:
    """Write why there is no outcome."""
    _replace(folder / OUTCOME, {"trouble": why})


def _replace(path: Path, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
