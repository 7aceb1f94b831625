"""Studies and search spaces: YAML files as validated values, with all their mistakes at once.

>>> from prunenas.spec import load_study
>>> study = load_study("studies/quickstart.yaml")
>>> study.methods[0].space.widths.per
'group'
"""

from prunenas.spec.comparison import Arm, Comparison, load_comparison
from prunenas.spec.federated import (
    ComparedStrategy,
    FederatedComparison,
    federated_of,
    load_federated,
)
from prunenas.spec.files import maps_text
from prunenas.spec.fitting import check_densities, check_whole, check_widths
from prunenas.spec.load import (
    check,
    is_federated_file,
    is_study,
    known_spaces,
    load_space,
    load_study,
)
from prunenas.spec.objective import COSTS, Cost, LatencySection, Objective, SearchSection
from prunenas.spec.recipe import load_recipe
from prunenas.spec.space import Densities, Domain, SearchSpace, ShareRange, Widths
from prunenas.spec.study import (
    DataSection,
    MethodEntry,
    ModelSection,
    Study,
)
from prunenas.spec.times import load_times, times_text

__all__ = [
    "COSTS",
    "Arm",
    "ComparedStrategy",
    "Comparison",
    "Cost",
    "DataSection",
    "Densities",
    "Domain",
    "FederatedComparison",
    "LatencySection",
    "MethodEntry",
    "ModelSection",
    "Objective",
    "SearchSection",
    "SearchSpace",
    "ShareRange",
    "Study",
    "Widths",
    "check",
    "check_densities",
    "check_whole",
    "check_widths",
    "federated_of",
    "is_federated_file",
    "is_study",
    "known_spaces",
    "load_comparison",
    "load_federated",
    "load_recipe",
    "load_space",
    "load_study",
    "load_times",
    "maps_text",
    "times_text",
]
