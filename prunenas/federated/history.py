"""What became of a federated training, round by round; plain values that round-trip as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from torch import Tensor


@dataclass(frozen=True)
class RoundReport:
    """One round.

    Attributes:
        round: From 1; 0 is initial pruning.
        seconds: What it takes by the time model.
        kept: Weights kept during it, by the weight's name.
        density: Share of the prunable weights kept during it.
        sent: Payload bytes from the server to all clients together.
        received: Payload bytes from the clients to the server.
        loss: Mean over the updates used, weighted by examples, nats.
        replied: Clients whose updates were used.
        failed: Why others gave none, by their numbers.
        refused: Why others' updates were not used, by their numbers.
        reconfigured: Whether the masks changed after it.
    """

    round: int
    seconds: float
    kept: Mapping[str, int]
    density: float
    sent: int
    received: int
    loss: float
    replied: tuple[int, ...]
    failed: Mapping[int, str]
    refused: Mapping[int, str]
    reconfigured: bool


@dataclass(frozen=True)
class Point:
    """The network after some rounds.

    Attributes:
        round: Rounds done.
        seconds: What they take together, by the time model.
        accuracy: Share of validation images named right, in [0, 1].
        loss: Mean cross-entropy of validation images, nats.
        density: Share of the prunable weights kept.
        sent: Payload bytes sent by the server so far.
        received: Payload bytes received by it so far.
    """

    round: int
    seconds: float
    accuracy: float
    loss: float
    density: float
    sent: int
    received: int


@dataclass
class History:
    """Rounds and validations of a training so far.

    Attributes:
        reports: Of each round; initial pruning first, where there was one.
        points: Of each validation.
    """

    reports: list[RoundReport] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """What all rounds take together, by the time model."""
        return sum(report.seconds for report in self.reports)

    @property
    def sent(self) -> int:
        """Payload bytes sent by the server."""
        return sum(report.sent for report in self.reports)

    @property
    def received(self) -> int:
        """Payload bytes received by the server."""
        return sum(report.received for report in self.reports)

    def troubles(self) -> dict[int, list[str]]:
        """Return what went wrong with each client, by its number: each reason once."""
        found: dict[int, list[str]] = {}
        for report in self.reports:
            for client, why in {**report.failed, **report.refused}.items():
                if why not in found.setdefault(client, []):
                    found[client].append(why)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote, or JSON made of it."""
        reports = [
            RoundReport(
                **{
                    **report,
                    "replied": tuple(report["replied"]),
                    "failed": {int(client): why for client, why in report["failed"].items()},
                    "refused": {int(client): why for client, why in report["refused"].items()},
                }
            )
            for report in plain["reports"]
        ]
        return cls(reports, [Point(**point) for point in plain["points"]])


@dataclass(frozen=True)
class FederatedRun:
    """A federated training that is done.

    Attributes:
        history: Its rounds and validations.
        mask_digest: Of the last masks, 16 hexadecimal characters.
        masks: Of all prunable weights by name, bool, on the CPU.
        weights: State dict of floating tensors, dropped weights at 0, on the CPU.
        stopped: Whether it was ended early on purpose.
    """

    history: History
    mask_digest: str
    masks: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    stopped: bool = False
