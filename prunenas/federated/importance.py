"""The server's sums of squared gradients: what each weight would bring, kept or not.

For each round and client ``(sum of its steps' gradients)² × examples``, as PruneFL's authors count
(Jiang et al. 2023, their code). Steps are plain SGD's, so that what a kept weight changed by tells
the sum of its gradients; clients add up dropped weights' themselves, and hand them in before masks
change.

Differs from the authors' simulation where not all clients hand in what they added up, because they
take turns or one has failed: dropped weights' sums are then scaled up to as many examples as kept
weights' are about. There every client hands in everything, whoever is chosen.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from prunenas.federated.messages import Update
from prunenas.federated.packing import Packing


class Importance:
    """Sums since the masks changed last.

    Args:
        names: Of all parameters that are trained.

    Attributes:
        since: The first round that they are about.
        squares: By name, float32 of the whole parameter's shape; empty before the first update.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = sorted(names)
        self.begin(1)

    def begin(self, since: int) -> None:
        """Forget everything: a round begins after which sums are about other masks."""
        self.since = since
        self.squares: dict[str, Tensor] = {}
        self._seen = 0  # examples that kept weights' sums are about
        self._summed: dict[int, int] = {}  # by client, those that what it keeps is about

    def lost(self, client: int) -> None:
        """Note that a client has lost what it kept."""
        self._summed.pop(client, None)

    def add(
        self,
        updates: Sequence[Update],
        packing: Packing,
        lr: float,
        weights: Mapping[str, Tensor],
    ) -> None:
        """Add what a round's updates tell.

        Args:
            updates: One at least.
            packing: The round's masks.
            lr: Learning rate of its steps.
            weights: The parameters, for shapes and devices.
        """
        for update in updates:
            self._seen += update.examples
            self._summed[update.client] = self._summed.get(update.client, 0) + update.examples
        told = sum(self._summed[each.client] for each in updates if each.squares is not None)
        for name in self._names:
            device = weights[name].device
            square = self.squares.setdefault(name, torch.zeros_like(weights[name]))
            for update in updates:
                gradient = update.changes[name].to(device) / -lr
                packing.add(name, gradient.square_(), square, float(update.examples))
                if update.squares is not None and name in update.squares:
                    dropped = ~packing.masks[name].to(device)
                    square[dropped] += update.squares[name].to(device) * (self._seen / told)

    def others(self, names: Iterable[str]) -> float:
        """Return the sum of all squares but those of some names."""
        rest = self.squares.keys() - set(names)
        return sum(float(self.squares[name].double().sum()) for name in sorted(rest))

    def state(self) -> dict[str, Any]:
        """Return everything, for ``torch.save``."""
        return {
            "since": self.since,
            "squares": dict(self.squares),
            "seen": self._seen,
            "summed": dict(self._summed),
        }

    def load(self, state: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """Take up what `state` returned, on the parameters' devices."""
        self.since, self._seen = state["since"], state["seen"]
        self._summed = dict(state["summed"])
        self.squares = {
            name: each.to(weights[name].device) for name, each in state["squares"].items()
        }
