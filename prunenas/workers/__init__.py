"""Processes that carry out tasks for the one that hands them out."""

from prunenas.workers.pool import Pool, prepare
from prunenas.workers.process import Bench, Doer, Task

__all__ = ["Bench", "Doer", "Pool", "Task", "prepare"]
