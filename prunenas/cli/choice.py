"""Which architectures of a study an export takes."""

from collections.abc import Sequence

from prunenas.cli import units
from prunenas.cli.repeats import figure
from prunenas.errors import StudyError
from prunenas.search import StudyView
from prunenas.search.repeats import ENOUGH
from prunenas.trial import Record


def choose(
    view: StudyView, trials: Sequence[int], flops_ratio: float | None, everything: bool
) -> list[tuple[str, Record]]:
    """Return the folder's name and the record of each architecture that was asked for.

    The best one is the best by the mean of fresh seeds where the study has repeats; an architecture
    that has none is only taken where no candidate meets ``flops_ratio``.

    Raises:
        StudyError: There is none; the message says the nearest.
    """
    usable = [r for r in view.records if r.state == "complete" and r.architecture is not None]
    if not usable:
        raise StudyError(f"study {view.name!r} has no complete trial yet")
    if trials:
        return [(f"trial_{number}", _numbered(view, usable, number)) for number in trials]
    if everything:
        return [(f"trial_{record.number}", record) for record in view.final_front]
    # By means of fresh seeds where there are some, else by the search's scores.
    judged = [each.record for each in view.ranking if each.n >= ENOUGH]
    if flops_ratio is None:
        return [("best", judged[0] if judged else max(usable, key=_merit))]
    within = [record for record in usable if (record.flops_ratio or 0.0) <= flops_ratio]
    if ranked := [record for record in judged if record in within]:
        return [(f"best_{flops_ratio:g}", ranked[0])]
    if not within:
        least = min(record.flops_ratio or 0.0 for record in usable)
        raise StudyError(
            f"no architecture of study {view.name!r} has at most {flops_ratio:g} of the dense "
            f"FLOPs; the smallest has {least:.4f}"
        )
    return [(f"best_{flops_ratio:g}", max(within, key=_merit))]


def accuracy(view: StudyView, record: Record) -> str:
    """Word a trial's accuracy: the search's, and that of fresh seeds where it has some."""
    told = units.accuracy(record.accuracy)
    for each in view.repeats:
        if each.record == record and each.n:
            told += f" (fresh seeds: {figure(each)})"
    return told


def _merit(record: Record) -> tuple[float, int]:
    return record.accuracy or 0.0, -(record.flops or 0)


def _numbered(view: StudyView, usable: Sequence[Record], number: int) -> Record:
    for record in usable:
        if record.number == number:
            return record
    state = next((record.state for record in view.records if record.number == number), None)
    if state is not None:
        raise StudyError(
            f"trial {number} of study {view.name!r} is {state}: it has nothing to export"
        )
    known = ", ".join(str(record.number) for record in usable)
    raise StudyError(f"study {view.name!r} has no trial {number}. Complete: {known}")
