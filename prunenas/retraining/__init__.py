"""An exported architecture, trained for real: resumable, tracked, its weights into the export."""

from prunenas.retraining.plan import Plan, check_fit, load_data
from prunenas.retraining.run import Watcher, retrain

__all__ = ["Plan", "Watcher", "check_fit", "load_data", "retrain"]
