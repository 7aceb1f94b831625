"""One candidate, from proposal to record.

A :class:`Record` is everything that is kept of a trial: it lives in the study's storage, MLflow is
a projection of it, and the command line shows it.
"""

from prunenas.trial.record import Candidate, Outcome, Record, State, blank_record
from prunenas.trial.run import halted, job_of, run_trial

__all__ = [
    "Candidate",
    "Outcome",
    "Record",
    "State",
    "blank_record",
    "halted",
    "job_of",
    "run_trial",
]
