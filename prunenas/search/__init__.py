"""Studies: Optuna proposes, trials answer."""

from prunenas.search.engine import Labour, run_study
from prunenas.search.events import Event
from prunenas.search.ledger import names, read_study
from prunenas.search.projection import track_study
from prunenas.search.replay import trained_weights, whole_architecture
from prunenas.search.samplers import SAMPLERS
from prunenas.search.view import StudyView

__all__ = [
    "SAMPLERS",
    "Event",
    "Labour",
    "StudyView",
    "list_studies",
    "open_study",
    "run_study",
    "track_study",
    "trained_weights",
    "whole_architecture",
]

list_studies = names
open_study = read_study
