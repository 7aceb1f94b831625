"""Learning rates, against torch's own schedulers stepped by hand."""

from collections.abc import Callable

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, OneCycleLR

from prunenas.training import Recipe
from prunenas.training.schedule import learning_rate


def ours(recipe: Recipe, steps_per_epoch: int, epochs: int) -> list[float]:
    return [
        learning_rate(recipe, step, steps_per_epoch=steps_per_epoch, epochs=epochs)
        for step in range(steps_per_epoch * epochs)
    ]


def torchs(
    make: Callable[[torch.optim.SGD], LRScheduler], steps: int, *, every: int
) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    scheduler = make(optimizer)
    rates = []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step % every == every - 1:
            scheduler.step()
    return rates


@pytest.mark.parametrize("epochs", [2, 3, 4, 13])
def test_step(epochs: int) -> None:
    recipe = Recipe(epochs=epochs, lr=0.2, gamma=0.3)
    milestones = [int(epochs * 0.5), int(epochs * 0.75)]
    steps = 7 * epochs
    expected = torchs(lambda o: MultiStepLR(o, milestones, gamma=0.3), steps, every=7)
    assert ours(recipe, 7, epochs) == pytest.approx(expected)


@pytest.mark.parametrize(("steps", "epochs"), [(1, 1), (7, 1), (25, 4)])
def test_cosine(steps: int, epochs: int) -> None:
    total = steps * epochs
    expected = torchs(lambda o: CosineAnnealingLR(o, T_max=total), total, every=1)
    assert ours(Recipe(epochs=epochs, lr=0.2, schedule="cosine"), steps, epochs) == (
        pytest.approx(expected)
    )


@pytest.mark.parametrize(("steps", "epochs"), [(10, 1), (25, 4), (7, 13)])
def test_one_cycle(steps: int, epochs: int) -> None:
    total = steps * epochs
    expected = torchs(
        lambda o: OneCycleLR(o, max_lr=0.2, total_steps=total, cycle_momentum=False),
        total - 1,  # torch's last step comes before its last scheduler step
        every=1,
    )
    rates = ours(Recipe(epochs=epochs, lr=0.2, schedule="one_cycle"), steps, epochs)
    assert rates[:-1] == pytest.approx(expected)
    assert rates[-1] == pytest.approx(0.2 / 25 / 1e4)


@pytest.mark.parametrize("total", [1, 2, 3, 4])
def test_one_cycle_of_a_few_steps_stays_positive_and_below_the_peak(total: int) -> None:
    rates = ours(Recipe(epochs=1, lr=0.2, schedule="one_cycle"), total, 1)
    assert all(0 < rate <= 0.2 for rate in rates)


def test_warm_up_rises_linearly_and_never_starts_at_zero() -> None:
    rates = ours(Recipe(epochs=2, lr=0.2, schedule="constant", warmup_epochs=0.5), 8, 2)
    assert rates == pytest.approx([0.04, 0.08, 0.12, 0.16] + [0.2] * 12)


def test_cosine_falls_over_what_the_warm_up_leaves() -> None:
    rates = ours(Recipe(epochs=2, lr=0.2, schedule="cosine", warmup_epochs=1), 4, 2)
    assert rates[:4] == pytest.approx([0.04, 0.08, 0.12, 0.16])
    assert rates[4:] == pytest.approx(torchs(lambda o: CosineAnnealingLR(o, T_max=4), 4, every=1))


def test_one_epoch_has_the_learning_rate_it_was_given() -> None:
    assert ours(Recipe(epochs=1, lr=0.2), 2, 1) == [0.2, 0.2]
