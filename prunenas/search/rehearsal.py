"""A finished trial's proposal again: the method, its hyperparameters and ratios as they were."""

from optuna.trial import FixedTrial

from prunenas.architecture import Space
from prunenas.errors import StudyError
from prunenas.search.proposal import propose
from prunenas.spec import Study
from prunenas.trial import Candidate, Record


def proposed(record: Record, study: Study, space: Space) -> Candidate:
    """Return what was proposed for a trial.

    Args:
        record: Of the trial.
        study: Its study.
        space: Of the study's dense network.

    Raises:
        StudyError: The study has other parameters than the trial.
    """
    try:
        return propose(FixedTrial(record.parameters, number=record.number), study, space)
    except ValueError as error:  # Optuna's word for a parameter that isn't there
        raise StudyError(
            f"trial {record.number} of {record.study!r} was proposed for other settings: "
            f"{' '.join(str(error).split())}"
        ) from error
