"""Training from scratch: recipe, protocol, the loop, and what it says of itself.

>>> from prunenas.training import scratch_epochs
>>> scratch_epochs("scratch_b", 160, dense_flops=1_000, flops=500)
320
"""

from prunenas.training.evaluation import evaluate
from prunenas.training.loop import train
from prunenas.training.metrics import EpochMetrics, Metrics, Training, point
from prunenas.training.recipe import Recipe, scratch_epochs

__all__ = [
    "EpochMetrics",
    "Metrics",
    "Recipe",
    "Training",
    "evaluate",
    "point",
    "scratch_epochs",
    "train",
]
