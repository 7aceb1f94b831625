"""What Optuna is told of a trial, so that every sampler learns from it.

==============  ===========================================================================
complete        COMPLETE, with its values.
infeasible      COMPLETE, a little worse than the worst that is known: the lowest accuracy of the
                trials before it, at a little more FLOPs and latency than that trial, which
                therefore beats it on every page. Where targets are searched or latency has a limit
                there is a constraint too, above 0: tpe, gp and nsga2 keep away from what was asked,
                or is slow. Told PRUNED it would teach only tpe.
stopped         PRUNED: no dashboard shows it as finished. tpe counts it among the bad; with one
                objective it has its accuracy as an intermediate value, by which tpe ranks it. gp
                and nsga2 look at complete trials only.
failed          FAIL: nothing is known of its architecture.
==============  ===========================================================================
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from optuna.trial import TrialState

from prunenas.trial import Record

CONSTRAINTS = "constraints"
"""The trial's attribute that has the constraints, as a list.

The form of Optuna before 5, which reads it like its own: optuna-dashboard 0.21 knows no other, and
would show what was never trained on the front.
"""


@dataclass(frozen=True)
class Verdict:
    """What is told: a state, and values where the state has them."""

    state: TrialState
    values: tuple[float, ...] | None = None


def verdict(record: Record, earlier: Iterable[Record], costs: Sequence[str], least: int) -> Verdict:
    """What Optuna is told of a record.

    Args:
        record: How the trial ended.
        earlier: Records of the study; only those before this one count, so that a study that was
            interrupted tells the same.
        costs: What the study minimizes.
        least: FLOPs of the narrowest network, told where nothing is known yet.
    """
    known = record.costs(costs)
    if record.state == "stopped":
        return Verdict(TrialState.PRUNED)
    if record.state == "infeasible":
        worst = [
            (other.accuracy, *(_more(*pair) for pair in zip(costs, theirs, strict=True)))
            for other in earlier
            if other.number < record.number
            and other.state == "complete"
            and other.accuracy is not None
            and (theirs := other.costs(costs)) is not None
        ]
        nothing = {
            "flops": float(least),
            "latency_ms": record.latency_ms or 0.0,
            "round_seconds": record.round_seconds or 0.0,
        }
        unknown = (0.0, *(nothing[cost] for cost in costs))
        return Verdict(TrialState.COMPLETE, min(worst, default=unknown))
    if record.state == "complete" and record.accuracy is not None and known is not None:
        return Verdict(TrialState.COMPLETE, (record.accuracy, *map(float, known)))
    return Verdict(TrialState.FAIL)


def _more(cost: str, value: float) -> float:
    """A little more of a cost: a FLOP, or a thousandth of the time."""
    return float(value + 1) if cost == "flops" else 1.001 * value


def constraints(
    record: Record,
    *,
    asked: int | None,
    latency_ms: float | None,
    least: int,
    dense: int,
) -> list[float]:
    """The constraints of a trial, above 0 where it breaks one; of a study's trials all or none.

    Args:
        record: How the trial ended.
        asked: The target in FLOPs that it was to meet, where targets are searched.
        latency_ms: What its latency may be, where the study says.
        least: FLOPs of the narrowest network.
        dense: FLOPs of the dense network.
    """
    found = []
    if asked is not None:
        met = replace(record, state="complete") if record.architecture is not None else record
        found.append(violation(met, asked, least, dense))
    if latency_ms is not None:
        # An architecture that was never derived is neither fast nor slow.
        measured = latency_ms if record.latency_ms is None else record.latency_ms
        found.append(measured / latency_ms - 1)
    return found


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
