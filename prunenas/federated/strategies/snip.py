"""SNIP in a federation: masks after one round, by how much each weight mattered in it.

Lee, Ajanthan, Torr, "SNIP: Single-shot Network Pruning based on Connection Sensitivity", ICLR 2019:
weights of largest ``|weight x gradient|`` stay. As PruneFL's authors compare it (Jiang et al. 2023,
their code): the gradient is what the first round of all clients changed, divided by the learning
rate, and the weights are those before it.

Differs from the paper: one round of several local steps instead of one batch's gradient.
"""

from typing import ClassVar, final

from pydantic import Field

from prunenas.federated.packing import Masks
from prunenas.federated.strategies._base import Moment, Strategy, largest


@final
class Snip(Strategy):
    """Keeps the weights that mattered most in the first round."""

    source: ClassVar[str] = "Lee et al. 2019, SNIP: Single-shot Network Pruning, ICLR"
    needs_density: ClassVar[bool] = True

    density: float = Field(gt=0, le=1, description="Share of the prunable weights to keep")

    def reconfigures_after(self, round_number: int, rounds: int) -> bool:
        """Return whether it was the first round."""
        del rounds
        return round_number == 1

    def masks_after(self, moment: Moment) -> Masks:
        """Return masks of the weights that mattered most."""
        scores = {
            name: ((moment.weights[name] - change) * change).abs() / moment.lr
            for name, change in moment.change.items()
        }
        return largest(scores, self.density)
