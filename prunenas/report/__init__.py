"""Studies and comparisons as pages: everything that is known of one, in a file that needs nothing
else."""

from typing import TYPE_CHECKING, Any

from prunenas.report.baselines import Baseline, baselines
from prunenas.report.page import page
from prunenas.report.pictures import pictures

if TYPE_CHECKING:
    from prunenas.report.comparison import comparison_page
    from prunenas.report.federated import federated_page

__all__ = ["Baseline", "baselines", "comparison_page", "federated_page", "page", "pictures"]


def __getattr__(name: str) -> Any:
    # Comparisons need scipy's statistics, which a study's page should not wait for.
    if name == "comparison_page":
        from prunenas.report.comparison import comparison_page

        return comparison_page
    if name == "federated_page":
        from prunenas.report.federated import federated_page

        return federated_page
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
