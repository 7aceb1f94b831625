"""A study as one page: everything that is known of it, in a file that needs nothing else."""

from prunenas.report.baselines import Baseline, baselines
from prunenas.report.page import page

__all__ = ["Baseline", "baselines", "page"]
