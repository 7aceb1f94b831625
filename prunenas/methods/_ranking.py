"""From a score for each channel to the widths of the whole network.

One threshold for all groups: a channel is kept iff its score is above it. It comes from a share of
channels to keep, or from a FLOPs budget by bisection. Counts are rounded up to a group's divisor
and are never 0; a group without scores stays full.

Equal scores go together, so a threshold alone meets a budget to the channel only where no scores
are equal. ``filled`` uses up what it leaves: channels below the threshold come back one step (one
channel; ``divisor`` of them) at a time, the highest score first, as long as one fits. Of equals the
group that comes first in the forward pass is first. Where that leaves more than half a per cent,
because a channel costs as much, ``nearest`` trades the weakest channels for one that fits better.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping

import torch
from torch import Tensor

from prunenas.architecture import Space
from prunenas.errors import BudgetError
from prunenas.methods._base import strongest

NEAR = 0.005  # of the budget: what may be left of it

BELOW_ALL = -1.0  # a threshold under every absolute value: nothing goes

Scores = Mapping[str, Tensor]
"""For each group that is ranked one figure for each channel, at least 0, shape ``(width,)``."""


def ranked_widths(
    space: Space, scores: Scores, *, keep: float, flops: int | None
) -> tuple[float, dict[str, int]]:
    """Return the threshold and all widths: for a share of the channels, or onto a budget.

    Args:
        space: Of the dense network.
        scores: The higher, the rather a channel stays.
        keep: Share of the ranked channels to keep, in (0, 1].
        flops: A budget in multiply-adds of one input, instead; what is left of it is filled.

    Raises:
        BudgetError: Even the narrowest network costs more.
    """
    if flops is None:
        threshold = global_threshold(scores, keep)
        return threshold, widths_above(space, scores, threshold)
    threshold = budget_threshold(space, scores, flops)
    return threshold, nearest(space, scores, widths_above(space, scores, threshold), flops)


def ranked_channels(space: Space, scores: Scores, widths: Mapping[str, int]) -> dict[str, Tensor]:
    """Return the channels that stay of each ranked group: the strongest, sorted."""
    return {
        group.name: strongest(scores[group.name], widths[group.name], group.divisor)
        for group in space.groups
        if group.name in scores
    }


def global_threshold(scores: Scores, keep: float) -> float:
    """Return the score at index ``int(total * (1 - keep))`` of all in ascending order.

    ``BELOW_ALL`` for ``keep = 1``, and where there are none.
    """
    if keep == 1 or not scores:
        return BELOW_ALL
    ascending = torch.cat(list(scores.values())).sort().values
    total = len(ascending)
    # Rounded first: 1 - 0.9 is 0.09999999999999998 in binary, and a tenth of 10 channels is one.
    index = math.floor(round(total * (1 - keep), 6))
    return float(ascending[min(index, total - 1)])


def budget_threshold(space: Space, scores: Scores, flops: int) -> float:
    """Return the smallest threshold whose network costs at most ``flops``.

    Raises:
        BudgetError: Even the narrowest network costs more.
    """
    values = {value for score in scores.values() for value in score.tolist()}
    candidates: list[float] = [BELOW_ALL, *sorted(values)]

    def within(threshold: float) -> bool:
        return space.flops(widths_above(space, scores, threshold)) <= flops

    # A higher threshold never adds a channel and so never adds cost: bisection is exact.
    index = bisect_left(candidates, True, key=within)
    if index == len(candidates):
        least = space.flops(widths_above(space, scores, candidates[-1]))
        raise BudgetError(
            f"every group keeps a channel, and those that have no scores or are to stay whole all "
            f"of them, so flops >= {least:,} must hold, but the budget is {flops:,}"
        )
    return candidates[index]


def widths_above(space: Space, scores: Scores, threshold: float) -> dict[str, int]:
    """Return every free group's width when the channels above the threshold stay.

    Counts are rounded up to the group's divisor and are never 0; a group without scores is full.
    """
    widths = {}
    for group in space.groups:
        width = group.width
        if group.name in scores:
            count = int((scores[group.name] > threshold).sum())
            width = max(1, math.ceil(count / group.divisor)) * group.divisor
        widths[group.name] = width
    return widths


def nearest(space: Space, scores: Scores, widths: Mapping[str, int], flops: int) -> dict[str, int]:
    """Return `filled` widths, or those after one trade if these come nearer to the budget.

    A trade adds a step to one group and takes the steps of lowest score from the others until
    the network is within the budget again, which is then filled.
    """
    best = start = filled(space, scores, widths, flops)
    if space.flops(start) >= (1 - NEAR) * flops:
        return start
    steps = {group.name: group.divisor for group in space.groups if group.name in scores}
    ordered = {name: scores[name].sort(descending=True).values.tolist() for name in steps}
    for name in steps:
        if start[name] == len(ordered[name]):
            continue
        trial = {**start, name: start[name] + steps[name]}
        while space.flops(trial) > flops:
            others = [other for other in steps if other != name and trial[other] > steps[other]]
            if not others:
                break
            weakest = min(others, key=lambda other: float(ordered[other][trial[other] - 1]))
            trial[weakest] -= steps[weakest]
        if space.flops(trial) <= flops:
            trial = filled(space, scores, trial, flops)
            if space.flops(trial) > space.flops(best):
                best = trial
    return best


def filled(space: Space, scores: Scores, widths: Mapping[str, int], flops: int) -> dict[str, int]:
    """Return the widths after single steps that fit, those of highest score first.

    The score of the step to a width w is the one at index ``w - divisor`` of its group's in
    descending order: a step is taken under a threshold iff it is above it.
    """
    widths = dict(widths)
    steps = {group.name: group.divisor for group in space.groups if group.name in scores}
    ordered = {name: scores[name].sort(descending=True).values.tolist() for name in steps}

    def fits(name: str) -> bool:
        return (
            widths[name] < len(ordered[name])
            and space.flops({**widths, name: widths[name] + steps[name]}) <= flops
        )

    # Cost only grows, so what doesn't fit now never will.
    while steps := {name: step for name, step in steps.items() if fits(name)}:
        best = max(steps, key=lambda name: float(ordered[name][widths[name]]))
        widths[best] += steps[best]
    return widths
