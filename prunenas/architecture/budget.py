"""Meeting a FLOPs budget before anything is trained.

The proposed ratios are scaled by a common factor (bisection), then single steps of one channel (or
one divisor) use up what rounding left, no further off the proportions than it takes. The closed
form makes both cheap: a few milliseconds.
"""

from collections.abc import Iterator
from itertools import combinations_with_replacement
from math import comb

import numpy as np
from numpy.typing import NDArray

from prunenas.architecture.flops import Quadratic, Vector
from prunenas.errors import BudgetError

Flags = NDArray[np.bool_]

_BISECTIONS = 40  # halves the interval of the factor far below one channel
_DRIFT = 0.02  # how far a width may lie off its proportion, as a share of the dense width, or
# one step where that is more; and how often as far, where nothing near the budget is found
_DRIFTS = (1, 2, 4, 8)
_NEAR = 0.005  # as a share of the budget
_CLOSE = 1e-4  # as a share of the budget: nearer than this is near enough
_ROUNDS = 8
_STEPS = 4  # that are taken back at once, where single ones don't help
_MOVES = 150  # tried at the most for more than one step: many groups have enough with single ones


def whole_budget(flops_ratio: float | None, flops: int | None, dense_flops: int) -> int:
    """A budget in multiply-adds, of exactly one of a share of the dense network's and a figure.

    Raises:
        BudgetError: Both or none are given, the share lies outside (0, 1] or the figure below 1.
    """
    if flops_ratio is not None and flops is None:
        if not 0 < flops_ratio <= 1:
            raise BudgetError(f"0 < flops_ratio <= 1 must hold, but got {flops_ratio!r}")
        return int(flops_ratio * dense_flops + 1e-6)
    if flops is None or flops_ratio is not None:
        raise BudgetError("exactly one of flops_ratio and flops must be given")
    if flops < 1:
        raise BudgetError(f"flops >= 1 must hold, but got {flops!r}")
    return flops


def project(
    flops: Quadratic,
    budget: int,
    ratios: Vector,
    dense: Vector,
    divisors: Vector,
    fixed: Flags,
) -> Vector | None:
    """Widths in the proportions of ``ratios`` whose FLOPs come nearest to the budget from below.

    Args:
        flops: Closed form over all groups.
        budget: Multiply-adds that must not be exceeded.
        ratios: Proposed share kept of each group, in (0, 1]; shape (groups,).
        dense: Widths of the dense network.
        divisors: What each width must be a multiple of.
        fixed: Groups whose ratio is kept as it is.

    Returns:
        Widths, or None where even the narrowest network exceeds the budget.
    """

    def at(factor: float) -> Vector:
        scaled = np.where(fixed, ratios, np.minimum(ratios * factor, 1.0))
        return rounded(scaled, dense, divisors)

    low, high = 0.0, float(1.0 / ratios[~fixed].min()) if (~fixed).any() else 1.0
    best = at(low)
    if flops(best) > budget:
        return None
    if flops(at(high)) <= budget:
        return at(high)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        widths = at(middle)
        if flops(widths) <= budget:
            low, best = middle, widths
        else:
            high = middle
    steps = np.maximum(np.round(_DRIFT * dense / divisors), 1) * divisors
    for drift in _DRIFTS:
        lower = np.where(fixed, best, np.maximum(best - drift * steps, divisors))
        upper = np.where(fixed, best, np.minimum(best + drift * steps, dense))
        found = _use_up(flops, budget, best, lower, upper, divisors)
        if budget - flops(found) <= _NEAR * budget:
            break
    # In the end no group has room for a step more, wherever it lies.
    limits = np.where(fixed, found, np.floor(dense / divisors) * divisors)
    return _fill(flops, budget, found, limits, divisors)


def rounded(ratios: Vector, dense: Vector, divisors: Vector) -> Vector:
    """Nearest multiples of the divisors to ``ratios * dense``, at least one divisor."""
    # The small term lets 0.5 * 3 = 1.5 round up whatever its last binary digit is.
    counts = np.floor(ratios * dense / divisors + 0.5 + 1e-9)
    limits = np.floor(dense / divisors)
    widths: Vector = np.clip(counts, 1, limits) * divisors
    return widths


def _use_up(
    flops: Quadratic, budget: int, widths: Vector, lower: Vector, upper: Vector, divisors: Vector
) -> Vector:
    """Widen single groups; then narrow some by a step or more and widen others, while it helps."""
    widths = _fill(flops, budget, widths, upper, divisors)
    gap = budget - flops(widths)
    for _ in range(_ROUNDS):
        if gap <= _CLOSE * budget:
            break
        for steps in range(1, _STEPS + 1):
            best, found = gap, widths
            for narrowed in _moves(steps, widths, lower, divisors):
                trial = widths - divisors * narrowed
                # What was narrowed stays so, or the move would be taken back.
                trial = _fill(flops, budget, trial, np.where(narrowed > 0, trial, upper), divisors)
                left = budget - flops(trial)
                if left < best:
                    best, found = left, trial
            if best < gap:
                widths = _fill(flops, budget, found, upper, divisors)
                gap = budget - flops(widths)
                break
        else:
            break
    return widths


def _moves(steps: int, widths: Vector, lower: Vector, divisors: Vector) -> Iterator[Vector]:
    """All ways to narrow by so many steps in all; each as the number of steps by group."""
    free = np.flatnonzero(widths - divisors >= lower)
    if steps > 1 and comb(len(free) + steps - 1, steps) > _MOVES:
        return
    for chosen in combinations_with_replacement(free, steps):
        narrowed: Vector = np.bincount(chosen, minlength=len(widths)).astype(float)
        if (widths - narrowed * divisors >= lower)[free].all():
            yield narrowed


def _fill(flops: Quadratic, budget: int, widths: Vector, upper: Vector, divisors: Vector) -> Vector:
    """Widen by single steps, the dearest that fits first, until none fits."""
    widths = widths.copy()
    while True:
        cost = flops.steps(widths, divisors)
        gap = budget - flops(widths)
        fits = (widths + divisors <= upper) & (cost <= gap) & (cost > 0)
        if not fits.any():
            return widths
        index = int(np.argmax(np.where(fits, cost, -1)))
        widths[index] += divisors[index]
