"""Studies and comparisons as pages: everything that is known of one, in a file that needs nothing
else."""

from prunenas.report.baselines import Baseline, baselines
from prunenas.report.comparison import comparison_page
from prunenas.report.page import page

__all__ = ["Baseline", "baselines", "comparison_page", "page"]
