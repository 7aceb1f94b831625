"""What MLflow shows of studies: a projection of their records, which can be rebuilt at any time.

A study is a parent run, a trial a child run under it. :class:`Tracker` writes them and raises;
:class:`SafeTracker` wraps it for a running study, which no tracking trouble may end.
"""

from prunenas.tracking.config import TrackingConfig, read_config
from prunenas.tracking.reach import check_reachable
from prunenas.tracking.registry import Registered, register
from prunenas.tracking.retrained import SafeTraining, TrainingTracker
from prunenas.tracking.safe import SafeTracker
from prunenas.tracking.server import server_command, server_environment
from prunenas.tracking.tracker import Tracker

__all__ = [
    "Registered",
    "SafeTracker",
    "SafeTraining",
    "Tracker",
    "TrackingConfig",
    "TrainingTracker",
    "check_reachable",
    "read_config",
    "register",
    "server_command",
    "server_environment",
]
