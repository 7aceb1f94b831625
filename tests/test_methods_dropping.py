"""Steps of drop pruning against their flow equation and their limits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunenas.architecture import masked, trace
from prunenas.cache import Cache
from prunenas.data import load
from prunenas.methods import Dense, drop_pruning
from prunenas.methods._dropping import dropped
from prunenas.methods.drop_pruning import DropPruning, _Plan, _Target
from prunenas.training import Recipe

WEIGHTS = 200_000


def run(*, pruned: float, away: float, back: float, steps: int, seed: int = 0) -> list[float]:
    """The share that is gone after each step, without training between."""
    random = torch.Generator().manual_seed(seed)
    sizes = {"w": torch.rand(WEIGHTS, generator=random)}
    masks = {"w": torch.ones(WEIGHTS, dtype=torch.bool)}
    gone = []
    for _ in range(steps):
        masks = dropped(
            sizes, masks, pruned=pruned, away=away, back=back, together=True, random=random
        )
        gone.append(1 - float(masks["w"].double().mean()))
    return gone


def test_the_measured_flow() -> None:
    gone = run(pruned=0.9, away=0.5, back=0.1, steps=10)
    assert gone[0] == pytest.approx(0.450, abs=0.005)
    assert gone[1] == pytest.approx(0.630, abs=0.005)
    assert gone[4] == pytest.approx(0.744, abs=0.005)
    assert gone[9] == pytest.approx(0.750, abs=0.005)


@pytest.mark.parametrize(("away", "back", "fixed"), [(0.5, 0.1, 0.75), (0.5, 0.05, 0.8182)])
def test_the_fixed_point_and_the_way_to_it(away: float, back: float, fixed: float) -> None:
    gone = run(pruned=0.9, away=away, back=back, steps=25)
    expected = 0.0
    for found in gone:
        expected += away * (0.9 - expected) - back * expected
        # four standard deviations of a sum of coins, carried over steps
        assert found == pytest.approx(expected, abs=4 * (0.25 / WEIGHTS) ** 0.5 * 2)
    assert gone[-1] == pytest.approx(fixed, abs=0.005)


def layers(seed: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {"a": torch.rand(40, 5, generator=random), "b": 3 * torch.rand(30, generator=random)}


@pytest.mark.parametrize("together", [True, False])
def test_certain_steps_are_one_shot_magnitude_pruning(together: bool) -> None:
    sizes = layers(1)
    whole = {name: torch.ones_like(each, dtype=torch.bool) for name, each in sizes.items()}
    random = torch.Generator().manual_seed(0)
    masks = dropped(sizes, whole, pruned=0.6, away=1.0, back=0.0, together=together, random=random)
    every = torch.cat([each.flatten() for each in sizes.values()])
    for name, each in sizes.items():
        among = every if together else each.flatten()
        cut = among.sort().values[round(0.6 * len(among))]
        assert torch.equal(masks[name], each >= cut)


def test_without_dropping_back_what_is_gone_stays_gone() -> None:
    sizes, random = layers(2), torch.Generator().manual_seed(0)
    masks = {name: torch.ones_like(each, dtype=torch.bool) for name, each in sizes.items()}
    for _ in range(6):
        after = dropped(sizes, masks, pruned=0.8, away=0.4, back=0.0, together=True, random=random)
        assert all((after[name] <= masks[name]).all() for name in masks)
        masks = after


def test_a_weight_does_not_go_and_come_in_one_step() -> None:
    sizes, random = layers(3), torch.Generator().manual_seed(0)
    whole = {name: torch.ones_like(each, dtype=torch.bool) for name, each in sizes.items()}
    masks = dropped(sizes, whole, pruned=1.0, away=1.0, back=1.0, together=True, random=random)
    assert not any(mask.any() for mask in masks.values())
    again = dropped(sizes, masks, pruned=1.0, away=1.0, back=1.0, together=True, random=random)
    assert all(mask.all() for mask in again.values())


def test_those_that_are_gone_count_as_the_smallest() -> None:
    sizes = {"w": torch.arange(1.0, 11.0)}
    masks = {"w": torch.tensor([True] * 5 + [False] * 5)}  # the largest five are gone
    random = torch.Generator().manual_seed(0)
    after = dropped(sizes, masks, pruned=0.7, away=1.0, back=0.0, together=True, random=random)
    # seven candidates: the five that are gone, and the two smallest of those that are there
    assert after["w"].tolist() == [False, False, True, True, True] + [False] * 5


def test_as_many_drop_back_as_coins_say() -> None:
    """Of n coins with p: n p, within four times sqrt(n p (1 - p))."""
    random = torch.Generator().manual_seed(0)
    sizes = {"w": torch.rand(WEIGHTS, generator=random)}
    masks = {"w": torch.rand(WEIGHTS, generator=random) < 0.3}
    gone = int((~masks["w"]).sum())
    after = dropped(sizes, masks, pruned=0.9, away=0.5, back=0.1, together=True, random=random)
    back = int((~masks["w"] & after["w"]).sum())
    assert abs(back - 0.1 * gone) < 4 * (gone * 0.1 * 0.9) ** 0.5


def test_without_a_certain_last_step_a_training_stays_at_the_fixed_point(tmp_path: Path) -> None:
    """0.95 to be pruned, at 0.5 away and a constant 0.1 back: 0.7917, weights moving or not."""
    data = load("digits")
    space = trace("lenet_300_100", arguments={"input_size": 8}, input_shape=data.input_shape)
    recipe = Recipe(epochs=12, batch_size=64, lr=0.05, augment=False)
    names = tuple(f"classifier.{index}.weight" for index in (0, 2, 4))
    method = DropPruning(steps=1000, decay=False, layers="all", scope="global")
    plan = _Plan(method, names, _Target(0.05, None, {}), seed=0)
    shares = []

    def after_epoch(network: nn.Module, epoch: int) -> None:
        plan.after_epoch(network, epoch)
        masks = [mask for _, mask in masked(network)]
        kept = sum(int(mask.sum()) for mask in masks)
        shares.append(1 - kept / sum(mask.numel() for mask in masks))

    trained = Dense(space, data, recipe, Cache(tmp_path)).train(
        prepare=plan.begin, after_epoch=after_epoch, key={"without": "an end"}
    )
    assert shares[-1] == pytest.approx(0.95 * 0.5 / 0.6, abs=0.01)
    assert trained.validation.accuracy > 0.8


@pytest.mark.slow
def test_the_toy_goes_as_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits, 64-300-100-10, 95 % pruned by one threshold: dense 97.8 %, pruned 96.7 to 98.0 %.

    Two prototype runs, on another split, and about 35,000 weights that came back in 20 steps.
    """
    back = 0

    def counted(sizes: dict[str, Tensor], before: dict[str, Tensor], **more: Any) -> Any:
        nonlocal back
        after = dropped(sizes, before, **more)
        back += sum(int((~before[name].cpu() & after[name]).sum()) for name in after)
        return after

    monkeypatch.setattr(drop_pruning, "dropped", counted)
    data = load("digits")
    space = trace("lenet_300_100", arguments={"input_size": 8}, input_shape=data.input_shape)
    recipe = Recipe(epochs=40, batch_size=32, lr=0.05, augment=False)
    source = Dense(space, data, recipe, Cache(tmp_path))
    method = DropPruning(
        density=0.05, scope="global", layers="all", step_epochs=2, finish_epochs=10
    )
    notes = method.derive(source).notes
    assert notes["dense_accuracy"] > 0.95
    assert notes["pruned_accuracy"] > notes["dense_accuracy"] - 0.02
    assert notes["density"] == pytest.approx(0.05, abs=1e-4)
    assert back == pytest.approx(35_000, rel=0.1)
