"""Federated learning on masked networks: server, clients, and what decides the masks.

Framework-free: how messages travel is another room's. `federate` does it all in one process.

>>> from prunenas.federated import STRATEGIES, Federation
>>> Federation(rounds=100, partition={"kind": "shards"}).per_round
10
>>> sorted(STRATEGIES)
['conventional', 'iterative_magnitude', 'prunefl', 'random', 'snip']
"""

from prunenas.federated.client import Client, LostMasks
from prunenas.federated.federation import Federation, TimeSection
from prunenas.federated.history import FederatedRun, History, Point, RoundReport
from prunenas.federated.messages import Task, Update, nbytes
from prunenas.federated.run import federate
from prunenas.federated.server import Server
from prunenas.federated.setting import Setting, round_seconds, time_model
from prunenas.federated.strategies import STRATEGIES, Strategy
from prunenas.federated.time import TimeModel

__all__ = [
    "STRATEGIES",
    "Client",
    "FederatedRun",
    "Federation",
    "History",
    "LostMasks",
    "Point",
    "RoundReport",
    "Server",
    "Setting",
    "Strategy",
    "Task",
    "TimeModel",
    "TimeSection",
    "Update",
    "federate",
    "nbytes",
    "round_seconds",
    "time_model",
]
