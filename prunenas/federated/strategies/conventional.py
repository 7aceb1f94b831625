"""Conventional federated learning: nothing is pruned.

McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data",
AISTATS, algorithm 1 (FedAvg). A network that comes with masks keeps them.
"""

from typing import ClassVar, final

from prunenas.federated.packing import Masks
from prunenas.federated.strategies._base import Moment, Strategy


@final
class Conventional(Strategy):
    """Trains the network as it comes."""

    source: ClassVar[str] = (
        "McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from "
        "Decentralized Data, AISTATS"
    )

    def masks_after(self, moment: Moment) -> Masks:
        """Return the masks as they are."""
        return moment.masks
