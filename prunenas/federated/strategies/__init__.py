"""What decides the masks of a federated training: one file each, and one line here."""

from prunenas.federated.strategies._base import Moment, Strategy
from prunenas.federated.strategies.conventional import Conventional
from prunenas.federated.strategies.iterative_magnitude import IterativeMagnitude
from prunenas.federated.strategies.prunefl import PruneFL
from prunenas.federated.strategies.random import RandomMasks
from prunenas.federated.strategies.snip import Snip

STRATEGIES: dict[str, type[Strategy]] = {
    "prunefl": PruneFL,
    "conventional": Conventional,
    "snip": Snip,
    "iterative_magnitude": IterativeMagnitude,
    "random": RandomMasks,
}

__all__ = ["STRATEGIES", "Moment", "Strategy"]
