"""What Optuna is told of a trial, so that every sampler learns from it.

==============  ===========================================================================
complete        COMPLETE, with its values.
infeasible      COMPLETE, a little worse than the worst that is known: the lowest accuracy of the
                trials before it, at one FLOP more than that trial, which therefore beats it on
                every page. Where targets are searched there is a constraint too, above 0: tpe,
                gp and nsga2 keep away from what was asked. Told PRUNED it would teach only tpe.
stopped         PRUNED: no dashboard shows it as finished. tpe counts it among the bad; with one
                objective it has its accuracy as an intermediate value, by which tpe ranks it. gp
                and nsga2 look at complete trials only.
failed          FAIL: nothing is known of its architecture.
==============  ===========================================================================
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from optuna.trial import TrialState

from prunenas.trial import Record

CONSTRAINTS = "constraints"
"""The trial's attribute that has the constraint, as a list of one.

The form of Optuna before 5, which reads it like its own: optuna-dashboard 0.21 knows no other, and
would show what was never trained on the front.
"""


@dataclass(frozen=True)
class Verdict:
    """What is told: a state, and values where the state has them."""

    state: TrialState
    values: tuple[float, ...] | None = None


def verdict(
    record: Record, earlier: Iterable[Record], directions: Sequence[str], least: int
) -> Verdict:
    """What Optuna is told of a record.

    Args:
        record: How the trial ended.
        earlier: Records of the study; only those before this one count, so that a study that was
            interrupted tells the same.
        directions: One entry for each objective.
        least: FLOPs of the narrowest network, told where nothing is known yet.
    """
    if record.state == "stopped":
        return Verdict(TrialState.PRUNED)
    if record.state == "infeasible":
        known = [
            (other.accuracy, other.flops + 1)
            for other in earlier
            if other.number < record.number
            and other.state == "complete"
            and other.accuracy is not None
            and other.flops is not None
        ]
        accuracy, flops = min(known, default=(0.0, least))
        return Verdict(TrialState.COMPLETE, (accuracy, float(flops))[: len(directions)])
    if record.state == "complete" and record.accuracy is not None and record.flops is not None:
        return Verdict(
            TrialState.COMPLETE, (record.accuracy, float(record.flops))[: len(directions)]
        )
    return Verdict(TrialState.FAIL)


def violation(record: Record, asked: int, least: int, dense: int) -> float:
    """The constraint: how far the target asked for lies below the narrowest network.

    As a share of the dense network's FLOPs, 0 or less where the target can be met. Every trial of a
    study that searches targets has it: the Gaussian process wants it of all or none.

    Args:
        record: How the trial ended.
        asked: The target in FLOPs.
        least: FLOPs of the narrowest network.
        dense: FLOPs of the dense network.
    """
    below = (least - asked) / dense
    # A method may have a floor of its own, above the narrowest network.
    return max(below, 1e-3) if record.state == "infeasible" else min(below, 0.0)
