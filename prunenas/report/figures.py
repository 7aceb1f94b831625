"""What a study's records come to: progress over trials and compute, and what was saved.

Compute is counted in *dense trainings*: FLOPs of one input times epochs, as shares of the dense
network's times the recipe's epochs (validations, where a federation trains). All trainings see the
same images, so that it is proportional to multiply-adds.

Pure: values in, values out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from prunenas.federated import Federation
from prunenas.search.view import StudyView
from prunenas.tracking.front import hypervolume
from prunenas.training import scratch_epochs
from prunenas.trial import Record


@dataclass(frozen=True)
class Progress:
    """How far a study was after a trial.

    Attributes:
        trials: Trials ended.
        compute: Dense trainings spent by then, on trainings from scratch.
        hypervolume: Share of the unit square, FLOPs ratio by accuracy, that is covered.
        best: Highest accuracy; None before any.
    """

    trials: int
    compute: float
    hypervolume: float
    best: float | None


@dataclass(frozen=True)
class Compute:
    """Where a study's compute went, in dense trainings.

    Attributes:
        spent: On trainings from scratch.
        reused: Not spent, because an equal architecture's training was there.
        stopped: Not spent, because trials ended early.
        infeasible: Number of trials that were told at once, never trained.
        seconds: Wall time of all trials together.
    """

    spent: float
    reused: float
    stopped: float
    infeasible: int
    seconds: float


def progress(view: StudyView) -> list[Progress]:
    """Return a study's progress after each trial, in the order in which they ended."""
    found: list[Progress] = []
    reached: list[tuple[float, float]] = []
    compute, best = 0.0, None
    for count, record in enumerate(sorted(view.records, key=lambda each: each.finished), 1):
        if record.reused is None:
            compute += cost(view, record)
        if record.state == "complete" and record.accuracy is not None:
            best = record.accuracy if best is None else max(best, record.accuracy)
            reached.append((record.flops_ratio or 0.0, record.accuracy))
        found.append(Progress(count, compute, hypervolume(reached), best))
    return found


def compute(view: StudyView) -> Compute:
    """Return where a study's compute went."""
    spent = reused = stopped = 0.0
    for record in view.records:
        own = cost(view, record)
        if record.reused is None:
            spent += own
        else:
            reused += own
        if record.state == "stopped" and record.epochs:
            stopped += own * (planned(view, record) / record.epochs - 1)
    return Compute(
        spent=spent,
        reused=reused,
        stopped=stopped,
        infeasible=sum(record.state == "infeasible" for record in view.records),
        seconds=sum(record.seconds for record in view.records),
    )


def cost(view: StudyView, record: Record) -> float:
    """Return what a trial's own training is worth, in dense trainings."""
    epochs: int = _validations(view) or view.settings["train"]["epochs"]
    return (record.flops_ratio or 0.0) * record.epochs / epochs


def planned(view: StudyView, record: Record) -> int:
    """Return how many epochs a trial was to be trained."""
    recipe = view.settings["train"]
    if (validations := _validations(view)) is not None:
        return validations
    return scratch_epochs(
        recipe["protocol"],
        recipe["epochs"],
        dense_flops=view.dense_flops,
        flops=record.flops or view.dense_flops,
        cap=recipe["scratch_b_cap"],
    )


def _validations(view: StudyView) -> int | None:
    """How often a federated training is validated; None where trials are not trained so."""
    if view.settings["train"]["protocol"] != "federated":
        return None
    return Federation(**view.settings["federation"]).evaluations


def uniform(records: Sequence[Record]) -> list[Record]:
    """Return the complete trials whose architecture nobody had to find: the controls."""
    return [
        record
        for record in records
        if record.state == "complete"
        and (record.method in ("uniform", "random", "random_sparse") or _is_uniform(record))
    ]


def _is_uniform(record: Record) -> bool:
    return (record.start or "").startswith("uniform")
