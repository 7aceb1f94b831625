"""The learning rate as a function of the step: no state to save, so a resume can't get it wrong."""

import math

from prunenas.training.recipe import Recipe, exact

# One-cycle's shape, as in torch.optim.lr_scheduler.OneCycleLR (Smith 2018, "A disciplined
# approach to neural network hyper-parameters"; momentum isn't cycled here).
_RISE = 0.3
_FIRST = 1 / 25
_LAST = _FIRST / 1e4


def milestone_epochs(recipe: Recipe, epochs: int) -> tuple[int, ...]:
    """Finished epochs at which ``step`` lowers the learning rate: ``int(milestone × epochs)``.

    One that comes to 0 is left out: a training of one epoch has the learning rate it was given.

    >>> milestone_epochs(Recipe(epochs=160), 243)
    (121, 182)
    """
    at = (int(exact(milestone) * epochs) for milestone in recipe.milestones)
    return tuple(epoch for epoch in at if epoch > 0)


def learning_rate(recipe: Recipe, step: int, *, steps_per_epoch: int, epochs: int) -> float:
    """Learning rate of one optimiser step.

    ``step`` changes between epochs only; ``cosine`` and ``one_cycle`` at every step, which keeps
    their shape in trainings of a few epochs. Warm-up multiplies ``step`` and ``constant``, and
    comes before ``cosine``, which then falls over the steps that are left.

    Args:
        recipe: Peak learning rate and shape.
        step: Steps done before this one, from 0.
        steps_per_epoch: Optimiser steps in an epoch, >= 1.
        epochs: Epochs of the whole training, >= 1.
    """
    total = steps_per_epoch * epochs
    step = min(step, total - 1)
    warm = min(math.ceil(recipe.warmup_epochs * steps_per_epoch), total - 1)
    rise = (step + 1) / (warm + 1) if step < warm else 1.0
    match recipe.schedule:
        case "constant":
            return recipe.lr * rise
        case "step":
            passed = sum(step // steps_per_epoch >= m for m in milestone_epochs(recipe, epochs))
            return recipe.lr * recipe.gamma**passed * rise
        case "cosine":
            if step < warm:
                return recipe.lr * rise
            return _between(recipe.lr, 0.0, (step - warm) / (total - warm))
        case "one_cycle":
            peak = _RISE * total - 1
            if step <= peak:
                return _between(recipe.lr * _FIRST, recipe.lr, step / peak if peak > 0 else 1.0)
            rest = total - 1 - peak
            return _between(recipe.lr, recipe.lr * _LAST, (step - peak) / rest)


def _between(start: float, end: float, share: float) -> float:
    """Half a cosine wave from ``start`` (share 0) to ``end`` (share 1)."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
