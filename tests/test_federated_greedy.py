"""The greedy of PruneFL: optimal by brute force, equal to a heap, and within its bounds."""

import heapq
import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from prunenas.errors import FederatedError
from prunenas.federated.greedy import reconfigure, removable_at, search
from prunenas.federated.time import TimeModel

Instance = tuple[dict[str, int], dict[str, Tensor], float, TimeModel]


def instance(rng: np.random.Generator, *, candidates: int, layers: int) -> Instance:
    """Candidates dealt over layers; some are 0, some equal, and some layers have none."""
    names = [f"layer{number}" for number in range(layers)]
    of = rng.integers(layers, size=candidates)
    squares = rng.exponential(size=candidates) ** 2
    if rng.random() < 0.5:
        squares = np.round(squares, 1)
    time = TimeModel(
        float(rng.exponential() + 1e-3),
        dict(zip(names, np.round(10 ** rng.uniform(-2, 1, layers), 2) + 0.01, strict=True)),
        1e-9,
    )
    protected = {name: int(rng.integers(4)) for name in names}
    gain = float(rng.choice([0.0, rng.exponential(), 10 * rng.exponential()]))
    return protected, {n: torch.tensor(squares[of == i]) for i, n in enumerate(names)}, gain, time


def gamma(given: Instance, chosen: Mapping[str, Tensor]) -> float:
    protected, candidates, gain, time = given
    kept = {name: count + len(chosen[name]) for name, count in protected.items()}
    return (gain + sum(float(candidates[n][p].sum()) for n, p in chosen.items())) / (
        time.round_seconds(kept)
    )


def ratios(given: Instance, chosen: Mapping[str, Tensor]) -> tuple[list[float], list[float]]:
    """Gain for each second: of what is chosen, and of what isn't."""
    _, candidates, _, time = given
    taken, left = [], []
    for name, values in candidates.items():
        of_layer = set(chosen[name].tolist())
        assert len(of_layer) == len(chosen[name])
        for place, value in enumerate(values.tolist()):
            (taken if place in of_layer else left).append(value / time.layers[name])
    return taken, left


def best(given: Instance) -> float:
    """The largest Gamma among all subsets."""
    protected, candidates, gain, time = given
    squares = np.concatenate([values.numpy() for values in candidates.values()])
    costs = np.concatenate([np.full(len(v), time.layers[n]) for n, v in candidates.items()])
    subsets = np.array(list(product((0.0, 1.0), repeat=len(squares))))
    every = (gain + subsets @ squares) / (time.round_seconds(protected) + subsets @ costs)
    return float(every.max())


def heap(given: Instance, limit: int | None = None) -> tuple[dict[str, int], float]:
    """The paper's algorithm word for word: how many of each layer's sorted list are taken."""
    protected, candidates, gain, time = given
    names = list(candidates)
    lists = [sorted(candidates[name].tolist(), reverse=True) for name in names]
    costs = [time.layers[name] for name in names]
    heads = [(-values[0] / costs[i], i) for i, values in enumerate(lists) if values]
    heapq.heapify(heads)
    taken, seconds, left = [0] * len(names), time.round_seconds(protected), math.inf
    if limit is not None:
        left = limit - sum(protected.values())
    while heads and left > 0:
        ratio, layer = heads[0]
        if -ratio <= gain / seconds:
            break
        gain, seconds = gain + lists[layer][taken[layer]], seconds + costs[layer]
        taken[layer] += 1
        left -= 1
        if taken[layer] == len(lists[layer]):
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, (-lists[layer][taken[layer]] / costs[layer], layer))
    return dict(zip(names, taken, strict=True)), gain / seconds


def small() -> Iterator[Instance]:
    rng = np.random.default_rng(0)
    for _ in range(1_000):
        yield instance(rng, candidates=int(rng.integers(10)), layers=int(rng.integers(1, 4)))


def test_no_other_set_is_better_on_a_thousand_small_instances() -> None:
    for given in small():
        chosen = search(*given)
        assert best(given) == pytest.approx(gamma(given, chosen), rel=1e-12)


def test_the_last_ratio_accepted_is_above_gamma_and_the_first_rejected_is_not() -> None:
    sizes = []
    for given in small():
        chosen = search(*given)
        taken, left = ratios(given, chosen)
        final = gamma(given, chosen)
        assert all(ratio > final for ratio in taken)
        assert all(ratio <= final * (1 + 1e-12) for ratio in left)
        sizes.append((len(taken), len(left)))
    # The instances have both.
    assert min(sum(taken > 0 for taken, _ in sizes), sum(left > 0 for _, left in sizes)) > 300


@pytest.mark.parametrize("limited", [False, True])
def test_a_heap_finds_the_same_on_two_hundred_medium_instances(limited: bool) -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        given = instance(rng, candidates=int(rng.integers(50, 800)), layers=int(rng.integers(1, 9)))
        limit = int(rng.integers(1, 300)) if limited else None
        chosen = search(*given, limit=limit)
        counts, reached = heap(given, limit)
        assert {name: len(places) for name, places in chosen.items()} == counts
        assert gamma(given, chosen) == pytest.approx(reached, rel=1e-12)
        for name, places in chosen.items():  # and of each layer the largest
            values = given[1][name]
            largest = sorted(values.tolist(), reverse=True)[: len(places)]
            assert values[places].tolist() == largest


def test_scaling_gains_or_all_times_changes_nothing() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        given = protected, candidates, gain, time = instance(rng, candidates=200, layers=4)
        chosen = search(*given)
        # Powers of two scale without rounding, so that not even ties move.
        louder = {name: 1024 * values for name, values in candidates.items()}
        slower = TimeModel(
            64 * time.constant, {n: 64 * each for n, each in time.layers.items()}, 1e-9
        )
        for other in (
            search(protected, louder, 1024 * gain, time),
            search(protected, candidates, gain, slower),
        ):
            assert all(torch.equal(chosen[name], other[name]) for name in chosen)


def test_with_equal_times_a_larger_constant_or_faster_weights_keep_at_least_as_much() -> None:
    rng = np.random.default_rng(3)
    grown = 0
    for _ in range(50):
        protected, candidates, gain, _ = instance(rng, candidates=200, layers=3)

        def kept(
            constant: float,
            each: float,
            rest: Any = (protected, candidates, gain),
        ) -> int:
            time = TimeModel(constant, dict.fromkeys(rest[1], each), 1e-9)
            return sum(map(len, search(*rest, time).values()))

        assert kept(1.0, 0.1) <= kept(3.0, 0.1)
        assert kept(1.0, 0.1) <= kept(1.0, 0.02)
        grown += kept(1.0, 0.1) < kept(3.0, 0.1)
    assert grown


def test_by_hand() -> None:
    """Γ is 2/2 = 1 at first, then (2+6)/3, (2+6+8)/5; the fifth's 3 is below 3.2."""
    time = TimeModel(1.0, {"fast": 1.0, "slow": 2.0}, 1e-9)
    candidates = {"fast": torch.tensor([3.0, 6.0, 0.0]), "slow": torch.tensor([8.0, 6.0])}
    chosen = search({"fast": 1, "slow": 0}, candidates, 2.0, time)
    assert {name: places.tolist() for name, places in chosen.items()} == {"fast": [1], "slow": [0]}


def test_a_ratio_equal_to_gamma_and_no_gradient_never_enter() -> None:
    time = TimeModel(1.0, {"a": 1.0}, 1e-9)
    equal = search({"a": 1}, {"a": torch.tensor([2.0, 2.0])}, 4.0, time)
    assert equal["a"].tolist() == []
    for gain in (0.0, 1.0):
        assert search({"a": 0}, {"a": torch.zeros(5)}, gain, time)["a"].tolist() == []
    # Equal ratios above it all enter, in the order they come in.
    above = search({"a": 1}, {"a": torch.tensor([3.0, 0.0, 3.0, 3.0])}, 4.0, time)
    assert above["a"].tolist() == [0, 2, 3]
    assert search({"a": 0}, {"a": torch.tensor([])}, 1.0, time)["a"].tolist() == []


def test_a_limit_takes_the_best_ratios_of_all_layers() -> None:
    time = TimeModel(100.0, {"a": 1.0, "b": 2.0}, 1e-9)
    candidates = {"a": torch.tensor([5.0, 9.0, 7.0]), "b": torch.tensor([20.0, 12.0])}
    given = {"a": 1, "b": 1}, candidates, 1.0, time
    limited = {
        limit: {name: places.tolist() for name, places in search(*given, limit=limit).items()}
        for limit in (0, 2, 4, 5, 99)
    }
    assert limited[0] == limited[2] == {"a": [], "b": []}
    assert limited[4] == {"a": [1], "b": [0]}  # 9 and 20/2, before 7 and 12/2
    assert limited[5] == {"a": [1, 2], "b": [0]}
    assert limited[99] == {"a": [1, 2, 0], "b": [0, 1]}


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_gains_that_are_no_squares_are_refused(bad: float) -> None:
    time = TimeModel(1.0, {"a": 1.0}, 1e-9)
    with pytest.raises(FederatedError, match="those of a aren't"):
        search({"a": 0}, {"a": torch.tensor([1.0, bad])}, 0.0, time)
    with pytest.raises(FederatedError, match="those of what is protected aren't"):
        search({"a": 0}, {"a": torch.tensor([1.0])}, bad, time)
    with pytest.raises(FederatedError, match="unknown layer"):
        search({"a": 0}, {"b": torch.tensor([1.0])}, 0.0, time)


Layers = dict[str, Tensor]


def network(seed: int, density: float = 0.5) -> tuple[Layers, Layers, Layers, TimeModel]:
    """Weights, masks, squared gradients and times of three layers."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"conv": (8, 4, 3, 3), "hidden": (30, 40), "logits": (10, 30)}
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    masks = {n: torch.rand(w.shape, generator=generator) < density for n, w in weights.items()}
    squares = {name: torch.randn(w.shape, generator=generator) ** 4 for name, w in weights.items()}
    time = TimeModel(200.0, {"conv": 2.0, "hidden": 0.5, "logits": 1.0}, 1e-9)
    return weights, masks, squares, time


def worth(masks: Layers, squares: Layers, other: float, time: TimeModel) -> float:
    gained = sum(float(squares[name][mask].double().sum()) for name, mask in masks.items())
    return (other + gained) / time.round_seconds({n: int(m.sum()) for n, m in masks.items()})


@pytest.mark.parametrize("seed", range(20))
def test_a_reconfiguration_never_lowers_gamma_and_removes_no_more_than_its_share(seed: int) -> None:
    weights, masks, squares, time = network(seed, density=0.2 + 0.04 * seed)
    new = reconfigure(weights, masks, squares, 50.0, time, removable=0.3)
    final = worth(new, squares, 50.0, time)
    assert final >= worth(masks, squares, 50.0, time)
    removed = grown = 0
    for name, mask in masks.items():
        active = int(mask.sum())
        gone = mask & ~new[name]
        assert gone.sum() <= int(0.3 * active)
        # The largest weights stay, whatever their gradients.
        order = weights[name].abs().masked_fill(~mask, -1).flatten().argsort(descending=True)
        protected = torch.zeros(mask.numel(), dtype=torch.bool)
        protected[order[: active - int(0.3 * active)]] = True
        protected = protected.reshape(mask.shape)
        assert new[name][protected].all()
        ratio = squares[name].double() / time.layers[name]
        assert (ratio[new[name] & ~protected] > final).all()
        assert (ratio[~new[name]] <= final).all()
        removed, grown = removed + int(gone.sum()), grown + int((new[name] & ~mask).sum())
        assert new[name].dtype == torch.bool
    assert removed > 0
    assert grown > 0


def test_a_limit_on_density_holds() -> None:
    weights, masks, squares, time = network(0)
    total = sum(mask.numel() for mask in masks.values())
    free = reconfigure(weights, masks, squares, 0.0, time, removable=0.3)
    limited = reconfigure(weights, masks, squares, 0.0, time, removable=0.3, max_density=0.4)
    assert sum(int(mask.sum()) for mask in free.values()) > int(0.4 * total)
    assert sum(int(mask.sum()) for mask in limited.values()) == int(0.4 * total)
    assert all((free[name] | ~limited[name]).all() for name in free)  # a subset of it


def test_of_equal_weights_exactly_as_many_are_protected_as_have_to_be() -> None:
    time = TimeModel(1.0, {"a": 1.0}, 1e-9)
    weights = {"a": torch.tensor([0.5, -0.5, 0.5, 2.0, -0.5, 0.5, 0.0, 9.0])}
    masks = {"a": torch.tensor([True, True, True, True, True, True, False, False])}
    none = {"a": torch.zeros(8)}
    # int(0.5 * 6) = 3 may go: the 2.0 stays, and the first two of the five that are equal.
    new = reconfigure(weights, masks, none, 1.0, time, removable=0.5)
    assert new["a"].tolist() == [True, True, False, True, False, False, False, False]


def test_without_gradients_only_what_is_protected_stays_and_no_layer_empties() -> None:
    weights, masks, squares, time = network(3)
    for name in masks:
        masks[name].fill_(False).view(-1)[:2] = True
    none = {name: torch.zeros_like(values) for name, values in squares.items()}
    for _ in range(5):
        masks = reconfigure(weights, masks, none, 1.0, time, removable=0.9)
        assert all(mask.sum() == 1 for mask in masks.values())


def test_an_empty_layer_gets_its_most_important_weight_back() -> None:
    weights, masks, squares, time = network(4)
    masks["hidden"].fill_(False)
    squares["hidden"] *= 1e-9  # too little to enter by itself
    new = reconfigure(weights, masks, squares, 1e6, time, removable=0.3)
    assert new["hidden"].flatten().nonzero().tolist() == [[int(squares["hidden"].argmax())]]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"removable": 1.0}, "0 <= removable < 1"),
        ({"removable": -0.1}, "0 <= removable < 1"),
        ({"max_density": 0.0}, "0 < max_density <= 1"),
        ({"other_gain": math.nan}, "never pruned aren't"),
        ({"masks": {"a": torch.ones(3, dtype=torch.bool)}}, r"but have \(2,\), \(3,\), \(2,\)"),
        ({"masks": {}}, "but a is not"),
        ({"weights": {"a": torch.tensor([1.0, math.nan])}}, "weights of a must be finite"),
        ({"importance": {"a": torch.tensor([1.0, -1.0])}}, "those of a aren't"),
    ],
)
def test_what_can_not_be_reconfigured_is_refused(wrong: dict[str, Any], told: str) -> None:
    given: dict[str, Any] = {
        "weights": {"a": torch.ones(2)},
        "masks": {"a": torch.ones(2, dtype=torch.bool)},
        "importance": {"a": torch.ones(2)},
        "other_gain": 0.0,
        "time": TimeModel(1.0, {"a": 1.0}, 1e-9),
        "removable": 0.3,
    }
    with pytest.raises(FederatedError, match=told):
        reconfigure(**{**given, **wrong})


def test_what_may_be_removed_decays_as_in_the_paper() -> None:
    shares = [round(removable_at(done), 4) for done in (0, 1_000, 5_000, 10_000)]
    assert shares == [0.3, 0.2799, 0.2121, 0.15]
    assert removable_at(10**9, initial=0.2, half_life=math.inf) == 0.2
    with pytest.raises(FederatedError, match="half-life"):
        removable_at(1, half_life=0)


def test_ten_million_weights_are_reconfigured_exactly() -> None:
    """15 % dense; with random numbers of single precision many are equal."""
    generator = torch.Generator().manual_seed(0)
    sizes = {"first": 1_000_000, "second": 4_000_000, "third": 5_000_000}
    weights = {n: torch.randn(size, generator=generator) for n, size in sizes.items()}
    masks = {n: torch.rand(size, generator=generator) < 0.15 for n, size in sizes.items()}
    squares = {n: torch.randn(size, generator=generator).square_() for n, size in sizes.items()}
    time = TimeModel(5.0, {"first": 4e-5, "second": 6.5e-6, "third": 6e-6}, 7e-7)
    new = reconfigure(weights, masks, squares, 1e3, time, removable=0.3)
    final = worth(new, squares, 1e3, time)
    assert final > worth(masks, squares, 1e3, time)
    for name, mask in masks.items():
        active = int(mask.sum())
        leaving = int(0.3 * active)
        above = squares[name].double() / time.layers[name] > final
        assert new[name][above].all()
        assert (mask & ~new[name]).sum() <= leaving
        # What stays without being worth it is protected: as many as the bound says, no more.
        edge = weights[name][mask].abs().kthvalue(leaving + 1).values
        unworthy = new[name] & ~above
        assert mask[unworthy].all()
        assert (weights[name][unworthy].abs() >= edge).all()
        assert new[name][mask & (weights[name].abs() > edge)].all()
    density = sum(int(mask.sum()) for mask in new.values()) / sum(sizes.values())
    assert 0.1 < density < 0.9
