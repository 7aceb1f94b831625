"""Masks while a network is trained: what is dropped stays 0, whatever the optimiser does."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prunenas.architecture import drop, masked


class Masks:
    """The masks of a network, applied around each step of an optimiser.

    Before the step to the gradients, so that neither momentum nor a second moment gathers anything
    where a weight is dropped; after it to the weights, so that they are 0 even so. Each takes one
    pass over the masked weights.
    """

    def __init__(self, network: nn.Module) -> None:
        """Args: the network, whose masks are read now; see `changed`.

        What they drop is set to 0, whatever it was. From then on a product with 0 is enough: a
        gradient that is not finite leaves a loss that isn't, which ends the training.
        """
        self._network = network
        self._read()

    def _read(self) -> None:
        self._pairs = masked(self._network)
        drop(self._pairs)
        self._weights: list[Tensor] = [weight for weight, _ in self._pairs]
        # A factor of the weight's own type: a product of bool and float would be cast each time.
        self._factors = [mask.to(weight.dtype) for weight, mask in self._pairs]

    def __bool__(self) -> bool:
        return bool(self._pairs)

    def silence(self) -> None:
        """Set the gradients of dropped weights to 0; before the optimiser's step."""
        pairs = [
            (weight.grad, factor)
            for weight, factor in zip(self._weights, self._factors, strict=True)
            if weight.grad is not None
        ]
        if pairs:
            torch._foreach_mul_([grad for grad, _ in pairs], [factor for _, factor in pairs])

    @torch.no_grad()
    def drop(self) -> None:
        """Set dropped weights to 0; after the optimiser's step."""
        if self._pairs:
            torch._foreach_mul_(self._weights, self._factors)

    def changed(self, optimizer: torch.optim.Optimizer) -> None:
        """Read the network's masks anew, and forget what the optimiser knows of dropped weights.

        A weight that drops back later starts without momentum.
        """
        self._read()
        for weight, mask in self._pairs:
            state: Mapping[str, object] = optimizer.state.get(weight, {})
            for value in state.values():
                if isinstance(value, Tensor) and value.shape == mask.shape:
                    drop([(value, mask)])
