"""Stoppers: rules by hand, against brute force, and on curves that don't cross."""

import itertools
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunenas.search.stoppers import SHARES, Curve, Noise, Stopper, epoch_at, rung

QUIET = Noise(images=10**9, spread={})


def stops(name: str, own: Curve, others: list[Curve], noise: Noise = QUIET) -> bool:
    return Stopper(name, tuple(others), noise).stops(own)


def free(curve: Curve) -> Curve:
    """The same training in a study that minimizes nothing."""
    return replace(curve, costs=())


@pytest.mark.parametrize(
    ("epochs", "rungs"),
    [(1, []), (2, [1]), (4, [1, 2]), (8, [1, 2, 4]), (10, [2, 3, 5]), (160, [20, 40, 80])],
)
def test_rungs_lie_at_an_eighth_a_quarter_and_a_half(epochs: int, rungs: list[int]) -> None:
    assert [epoch for epoch in range(1, epochs + 1) if rung(epoch, epochs) is not None] == rungs


def test_pareto_stops_what_a_trial_of_no_more_flops_beats_twice() -> None:
    rival = Curve((100,), 8, (0.3, 0.5, 0.6, 0.7, 0.7, 0.7, 0.8, 0.8))
    assert stops("pareto", Curve((100,), 8, (0.2, 0.4)), [rival])
    assert stops("pareto", Curve((200,), 8, (0.2, 0.4)), [rival])
    assert not stops("pareto", Curve((99,), 8, (0.2, 0.4)), [rival])  # it is cheaper
    assert not stops("pareto", Curve((200,), 8, (0.35, 0.4)), [rival])  # only one bad epoch
    assert not stops("pareto", Curve((200,), 8, (0.2, 0.4, 0.5)), [rival])  # epoch 3 is no rung
    assert not stops("pareto", Curve((200,), 8, (0.2, 0.5)), [rival])  # equal is not beaten
    assert not stops("none", Curve((200,), 8, (0.2, 0.4)), [rival])
    assert stops("pareto", free(Curve((99,), 8, (0.2, 0.4))), [free(rival)])


def test_a_rival_that_was_stopped_counts_as_far_as_it_came() -> None:
    rival = Curve((100,), 8, (0.3, 0.5))
    assert stops("pareto", Curve((100,), 8, (0.2, 0.4)), [rival])
    assert not stops("pareto", Curve((100,), 8, (0.2, 0.4, 0.4, 0.4)), [rival])


def test_trials_of_different_length_are_compared_at_the_same_share() -> None:
    rival = Curve((100,), 16, tuple(0.05 * epoch for epoch in range(1, 17)))
    # A quarter of 8 epochs is epoch 2, of 16 it is epoch 4: accuracy 0.2.
    assert stops("pareto", Curve((100,), 8, (0.09, 0.19)), [rival])
    assert not stops("pareto", Curve((100,), 8, (0.09, 0.21)), [rival])


def test_the_margin_is_two_deviations_of_seeds_or_of_the_split() -> None:
    rival = Curve((100,), 8, (0.5, 0.59))
    own = Curve((100,), 8, (0.4, 0.5))
    assert stops("pareto", own, [rival], Noise(images=10**6, spread={}))
    assert not stops("pareto", own, [rival], Noise(images=100, spread={}))  # 2 sqrt(.25/100) = .1
    assert stops("pareto", own, [rival], Noise(images=10**6, spread={1 / 4: 0.04}))
    assert not stops("pareto", own, [rival], Noise(images=10**6, spread={1 / 4: 0.05}))
    assert Noise(images=400, spread={1 / 2: 0.01}).margin(0.5, 1 / 2) == pytest.approx(0.05)
    assert Noise(images=400, spread={1 / 2: 0.1}).margin(0.5, 1 / 2) == pytest.approx(0.2)


def test_median_needs_four_others_and_a_best_epoch_below_theirs() -> None:
    others = [Curve((50,), 8, (0.1, accuracy)) for accuracy in (0.3, 0.4, 0.5, 0.6)]  # median 0.45
    assert stops("median", Curve((50,), 8, (0.2, 0.44)), others)
    assert not stops("median", Curve((50,), 8, (0.2, 0.46)), others)
    assert not stops("median", Curve((50,), 8, (0.46, 0.1)), others)  # its best counts
    assert not stops("median", Curve((50,), 8, (0.2, 0.3)), others[1:])
    assert not stops("median", Curve((49,), 8, (0.2, 0.3)), others)  # others cost more
    assert stops("median", free(Curve((49,), 8, (0.2, 0.3))), [free(o) for o in others])


def test_asha_keeps_the_best_half_of_each_rung() -> None:
    others = [Curve((50,), 8, (0.1, accuracy)) for accuracy in (0.3, 0.4, 0.5)]
    assert not stops("asha", Curve((50,), 8, (0.1, 0.2)), [])  # the first one always goes on
    assert not stops("asha", Curve((50,), 8, (0.1, 0.45)), others)  # second of four
    assert stops("asha", Curve((50,), 8, (0.1, 0.35)), others)  # third of four
    assert stops("asha", Curve((50,), 8, (0.1, 0.2)), others)


def test_pareto_equals_brute_force_on_random_curves() -> None:
    draw = random.Random(0)
    seen = {True: 0, False: 0}
    for _ in range(2000):
        epochs = draw.randint(1, 12)
        others = [
            Curve(
                (draw.randint(1, 4), draw.randint(1, 3)),
                length := draw.choice([epochs, epochs, 2 * epochs]),
                tuple(draw.randint(0, 10) / 10 for _ in range(draw.randint(0, length))),
            )
            for _ in range(draw.randint(0, 4))
        ]
        own = Curve(
            (draw.randint(1, 4), draw.randint(1, 3)),
            epochs,
            tuple(draw.randint(0, 10) / 10 for _ in range(draw.randint(1, epochs))),
        )
        noise = Noise(draw.choice([30, 10**9]), {share: draw.random() / 5 for share in SHARES})
        expected = _by_hand(own, others, noise)
        seen[expected] += 1
        assert stops("pareto", own, others, noise) == expected
    assert min(seen.values()) > 50


def _by_hand(own: Curve, others: list[Curve], noise: Noise) -> bool:
    now = len(own.accuracies)
    here = [share for share in SHARES if math.ceil(share * own.epochs) == now]
    if not here or now == own.epochs:
        return False
    dominated = []
    for epoch in {max(1, now - 1), now}:
        mine, beaten = own.accuracies[epoch - 1], False
        deviation = max(math.sqrt(mine * (1 - mine) / noise.images), noise.spread[here[-1]])
        for other in others:
            moment = here[-1] if epoch == now else epoch / own.epochs
            there = max(1, math.ceil(moment * other.epochs - 1e-9))
            cheaper = other.costs[0] <= own.costs[0] and other.costs[1] <= own.costs[1]
            if cheaper and there <= len(other.accuracies):
                beaten |= other.accuracies[there - 1] > mine + 2 * deviation
        dominated.append(beaten)
    return all(dominated)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 20), st.floats(0, 1)),
        min_size=2,
        max_size=15,
        unique_by=(lambda pair: pair[1]),
    ),
    st.integers(2, 40),
)
def test_where_curves_do_not_cross_the_front_is_never_stopped(
    trials: list[tuple[int, float]], epochs: int
) -> None:
    # Learning curves that keep their order: a common rise, times how good the network is.
    def whole(quality: float) -> list[float]:
        return [quality * (1 - 0.9 ** (epoch + 1)) for epoch in range(epochs)]

    noise = Noise(10**9, dict.fromkeys(SHARES, 0.0))
    done: list[Curve] = []
    for flops, quality in trials:
        own: list[float] = []
        for accuracy in whole(quality):
            own.append(accuracy)
            if stops("pareto", Curve((flops,), epochs, tuple(own)), done, noise):
                break
        done.append(Curve((flops,), epochs, tuple(own)))
    for (flops, quality), curve in zip(trials, done, strict=True):
        on_front = not any(f <= flops and q > quality for f, q in trials)
        if on_front:
            assert len(curve.accuracies) == epochs


def test_epochs_at_shares_never_leave_the_training() -> None:
    for epochs, share in itertools.product(range(1, 200), SHARES):
        assert 1 <= epoch_at(share, epochs) <= epochs
