"""How long a round of federated learning lasts, as a function of what masks keep.

Source: Jiang et al., "Model Pruning Enables Efficient Federated Learning on Edge Devices"
(PruneFL), arXiv 1909.12326: a round's time is a constant plus, for each layer, so many seconds for
each of its weights that are kept; the authors' code takes communication and local updates together
in that one figure.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Self

from prunenas.errors import FederatedError, unknown

_FIELDS = ("constant", "layers", "seconds_per_byte")

BYTES_PER_WEIGHT = 8
"""Of one kept weight in one round: 4 bytes down to the client, 4 up from it."""


@dataclass(frozen=True)
class TimeModel:
    """Seconds of a round.

    Attributes:
        constant: Of what no mask changes, > 0.
        layers: For each weight of the round's network that is pruned, by its name and in module
            order, seconds for each weight kept, > 0: computation of all local updates and
            communication. A weight that is not named is not pruned; its time is in ``constant``.
        seconds_per_byte: Of communication, one way, > 0; already inside ``layers``.
    """

    constant: float
    layers: Mapping[str, float]
    seconds_per_byte: float

    def __post_init__(self) -> None:
        if not isinstance(self.layers, Mapping) or not self.layers:
            raise FederatedError(
                f"a time model needs seconds for a layer at least, but has {self.layers!r:.80}"
            )
        positive("a time model's constant", self.constant)
        positive("a time model's seconds_per_byte", self.seconds_per_byte)
        for name, seconds in self.layers.items():
            positive(f"a time model's seconds for {name}", seconds)
        object.__setattr__(self, "layers", dict(self.layers))  # nobody else's, to be changed

    def round_seconds(self, kept: Mapping[str, int]) -> float:
        """Return how many seconds a round lasts.

        Args:
            kept: How many weights are kept of each layer, >= 0.

        Raises:
            FederatedError: It names other layers than the time model, or a number is negative.
        """
        self.check(kept)
        for name, number in kept.items():
            if number < 0:
                raise FederatedError(f"a layer keeps >= 0 weights, but {name} keeps {number}")
        return self.constant + sum(self.layers[name] * number for name, number in kept.items())

    def update_seconds(self, kept: Mapping[str, int], updates: int) -> float:
        """Return how many seconds one local update lasts, without any communication.

        Args:
            kept: How many weights are kept of each layer, >= 0.
            updates: Local updates of a round, >= 1.

        Raises:
            FederatedError: It names other layers than the time model, or a number is negative.
        """
        communication = BYTES_PER_WEIGHT * self.seconds_per_byte * sum(kept.values())
        return (self.round_seconds(kept) - communication) / updates

    def check(self, names: Mapping[str, Any]) -> None:
        """Refuse what does not name exactly the layers that the time model has.

        Raises:
            FederatedError: A layer is unknown, or left out.
        """
        for name in names:
            if name not in self.layers:
                raise FederatedError(unknown("layer of the time model", name, self.layers))
        for name in self.layers:
            if name not in names:
                raise FederatedError(
                    f"each of the time model's {len(self.layers)} layers must be given, "
                    f"but {name} is not"
                )

    def at_bandwidth(self, bandwidth: float) -> Self:
        """Return the time model with another speed of communication.

        Args:
            bandwidth: Bytes a second, one way, > 0.

        Raises:
            FederatedError: It is not, or the model's own is faster than its layers allow.
        """
        byte = 1 / positive("a bandwidth in bytes a second", bandwidth)
        more = BYTES_PER_WEIGHT * (byte - self.seconds_per_byte)
        layers = {name: seconds + more for name, seconds in self.layers.items()}
        return type(self)(self.constant, layers, byte)

    def only(self, names: Collection[str], sizes: Mapping[str, int]) -> Self:
        """Return the time model of a network of which fewer layers are pruned.

        Args:
            names: Those that are; each is one of the model's, one at least.
            sizes: How many weights all have, by their names: the others keep them all.
        """
        rest = sum(each * sizes[name] for name, each in self.layers.items() if name not in names)
        layers = {name: each for name, each in self.layers.items() if name in names}
        return type(self)(self.constant + rest, layers, self.seconds_per_byte)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "constant": self.constant,
            "layers": dict(self.layers),
            "seconds_per_byte": self.seconds_per_byte,
        }

    @classmethod
    def from_dict(cls, plain: Any) -> Self:
        """Read what `to_dict` wrote; a file may say more, as of where it was measured.

        Raises:
            FederatedError: A key is missing, or a value is not what it must be.
        """
        if not isinstance(plain, Mapping) or not set(_FIELDS) <= set(plain):
            raise FederatedError(
                f"a time model must be a mapping with the keys {', '.join(_FIELDS)}, "
                f"but got {str(plain)[:80]}"
            )
        return cls(**{field: plain[field] for field in _FIELDS})


def positive(what: str, value: Any) -> float:
    """Return a number of seconds, bytes or the like.

    Raises:
        FederatedError: It is no number, not finite, or not > 0.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and value > 0):
        raise FederatedError(f"{what} must be finite and > 0, but is {value!r:.80}")
    return float(value)
