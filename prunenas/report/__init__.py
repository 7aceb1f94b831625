"""A study as one page: everything that is known of it, in a file that needs nothing else."""

from prunenas.report.page import page

__all__ = ["page"]
