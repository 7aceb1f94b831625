"""Every method reaches its target on real images, from a dense network that really classifies.

One folder of trained networks serves all tests: the dense network is trained once, and methods that
train it in a way of their own do so once for each of their settings.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunenas.architecture import Architecture, build, count_flops, trace
from prunenas.cache import Cache
from prunenas.data import load
from prunenas.methods import METHODS, Dense, Derivation
from prunenas.training import Recipe, evaluate

pytestmark = pytest.mark.slow

TOLERANCE = 0.015
"""Of the budget."""

REBUILT = ("channel_regression", "trainable_gates")
"""Methods whose network is rebuilt, or trained on, for the very channels they keep.

Soft filter pruning trains for them as well, but in two epochs zeroes once before its last.
"""

every_method = pytest.mark.parametrize("method", METHODS)
budgets = pytest.mark.parametrize("budget", [0.5, 0.3])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def vgg(folder: Path) -> Dense:
    data = load("mnist5k", validation=0.2)
    recipe = Recipe(epochs=2, batch_size=32, lr=0.1, schedule="one_cycle", augment=False)
    return Dense(trace("vgg_mini", input_shape=data.input_shape), data, recipe, Cache(folder))


@pytest.fixture(scope="module")
def resnet(folder: Path) -> Dense:
    """Residual streams, and nine groups of which a channel costs less than the tolerance."""
    data = load("mnist5k", validation=0.2, train_limit=1500)
    recipe = Recipe(epochs=1, batch_size=25, lr=0.05, schedule="one_cycle", augment=False)
    space = trace("resnet20", arguments={"in_channels": 1}, input_shape=data.input_shape)
    return Dense(space, data, recipe, Cache(folder))


def derived(dense: Dense, method: str, budget: float | None = None, **settings: Any) -> Derivation:
    flops = None if budget is None else int(budget * dense.space.dense_flops)
    return METHODS[method](**settings).derive(dense, flops=flops)


def counted(architecture: Architecture) -> int:
    """What fvcore says, which knows nothing of the methods' own sums; without dropped weights."""
    network = build(architecture, trust=True)
    return count_flops(network, architecture.input_shape) - dropped(network, architecture)


def dropped(network: nn.Module, architecture: Architecture) -> int:
    """Multiply-adds of dropped weights: each is used once for each place of its layer's output."""
    gone = []

    def count(layer: nn.Module, given: object, output: Tensor) -> None:
        zeros = int((layer.get_parameter("weight") == 0).sum())
        gone.append(zeros * output.numel() // output.shape[1])

    for name in architecture.masks:
        network.get_submodule(name.removesuffix(".weight")).register_forward_hook(count)
    with torch.no_grad():
        network.eval()(torch.zeros(1, *architecture.input_shape))
    return sum(gone)


def inherited(dense: Dense, derivation: Derivation) -> float:
    """Accuracy of what the method leaves of the trained weights, without any retraining."""
    weights = derivation.weights()
    assert weights is not None
    network = build(derivation.architecture, trust=True)
    network.load_state_dict(weights)
    return evaluate(network, dense.data.validation).accuracy


def test_the_dense_networks_classify(vgg: Dense, resnet: Dense) -> None:
    assert vgg.train().validation.accuracy > 0.9
    assert resnet.train().validation.accuracy > 0.5  # it saw fewer images, and once


SPARING: dict[str, dict[str, Any]] = {
    "drop_pruning": {"steps": 4, "finish_epochs": 1},
    # Its initial pruning may take many times as long as all of its rounds here.
    "prunefl": {"initial": {"batches": 1, "passes": 101}},
}
"""To spare time."""


@budgets
@every_method
def test_the_budget_is_met_within_the_tolerance(vgg: Dense, method: str, budget: float) -> None:
    """Though a channel may cost 3 % of it here."""
    architecture = derived(vgg, method, budget, **SPARING.get(method, {})).architecture
    wanted, flops = budget * vgg.space.dense_flops, counted(architecture)
    assert (1 - TOLERANCE) * wanted <= flops <= wanted


FINE: dict[str, dict[str, Any]] = {
    # Whole blocks, which it takes out by default, are too coarse.
    "sparse_structure": {"structures": "channels"},
    "netadapt": {"step": 0.2, "images": 64},  # to spare time
    **SPARING,
}


@budgets
@every_method
def test_a_residual_networks_budget_is_met_within_the_tolerance(
    resnet: Dense, method: str, budget: float
) -> None:
    architecture = derived(resnet, method, budget, **FINE.get(method, {})).architecture
    wanted = budget * resnet.space.dense_flops
    assert (1 - TOLERANCE) * wanted <= counted(architecture) <= wanted


def the_share_asked_for(dense: Dense, method: str) -> None:
    """The threshold leaves that share of all channels, but for those a group can't do without."""
    widths = derived(dense, method, keep=0.4).architecture.widths
    total = sum(group.width for group in dense.space.groups)
    assert abs(sum(widths.values()) - 0.4 * total) <= 1 + len(widths)


def the_ratios_given(dense: Dense, method: str) -> None:
    ratios = dict(zip(dense.space.dense.widths, (0.5, 0.25, 0.75, 1.0), strict=True))
    derivation = METHODS[method]().derive(dense, ratios=ratios)
    assert list(derivation.architecture.widths.values()) == [8, 8, 48, 64]


def the_same_share_everywhere(dense: Dense, method: str) -> None:
    widths = derived(dense, method, ratio=0.25).architecture.widths
    assert list(widths.values()) == [4, 8, 16, 16]


def the_shares_drawn(dense: Dense, method: str) -> None:
    derivation = derived(dense, method, low=0.2, high=0.6)
    for name, width in derivation.architecture.widths.items():
        full, share = dense.space.dense.widths[name], derivation.notes["drawn"][name]
        assert 0.2 <= share <= 0.6
        assert abs(width - share * full) <= 0.5


def nothing_with_factor_zero(dense: Dense, method: str) -> None:
    """What goes had no part in any output, so that the network that is left is as accurate."""
    derivation = derived(dense, method, sparsity=0.03)
    widths, full = derivation.architecture.widths, dense.space.dense.widths
    gone = sum(full.values()) - sum(widths.values())
    assert gone == derivation.notes["factors_at_zero"] > 0
    assert inherited(dense, derivation) == pytest.approx(derivation.notes["dense_accuracy"])


def the_gates_target(dense: Dense, method: str) -> None:
    derivation = derived(dense, method, target=0.4)
    share = counted(derivation.architecture) / dense.space.dense_flops
    assert (1 - 2 * TOLERANCE) * 0.4 <= share <= 0.4
    assert inherited(dense, derivation) == pytest.approx(derivation.notes["gated_accuracy"])


def the_ratio_of_flops(dense: Dense, method: str) -> None:
    architecture = derived(dense, method, flops_ratio=0.4).architecture
    share = counted(architecture) / dense.space.dense_flops
    assert (1 - 2 * TOLERANCE) * 0.4 <= share <= 0.4


def the_share_of_weights(dense: Dense, method: str) -> None:
    """Of all convolutions together, to a weight for each layer; gibbs leaves the first whole."""
    masks = derived(dense, method, density=0.4).architecture.masks
    weights = {n: w for n, w in dense.network().state_dict().items() if w.dim() == 4}
    if method == "gibbs":
        del weights["features.0.weight"]
    assert masks.keys() <= weights.keys()
    kept = sum(
        int(masks[name].tensor().sum()) if name in masks else weight.numel()
        for name, weight in weights.items()
    )
    assert abs(kept - 0.4 * sum(map(Tensor.numel, weights.values()))) <= len(weights)


def a_density_of_its_own(dense: Dense, method: str) -> None:
    """Four times in eight rounds, at most 30 % of a layer's weights go; a cap is kept to."""
    sizes = {n: w.numel() for n, w in dense.network().state_dict().items() if w.dim() > 1}

    def kept(**settings: Any) -> dict[str, int]:
        masks = derived(dense, method, initial=None, narrow=False, **settings).architecture.masks
        return {n: int(masks[n].tensor().sum()) if n in masks else m for n, m in sizes.items()}

    free = kept()
    assert all(int(0.7**4 * sizes[name]) <= count for name, count in free.items())
    assert sum(free.values()) < sum(sizes.values())
    assert sum(kept(max_density=0.4).values()) <= 0.4 * sum(sizes.values())


RULES: dict[str, Callable[[Dense, str], None]] = {
    "uniform": the_same_share_everywhere,
    "random": the_shares_drawn,
    "l1_norm": the_ratios_given,
    "fpgm": the_ratios_given,
    "thinet": the_ratios_given,
    "channel_regression": the_ratios_given,
    "soft_filter_pruning": the_ratios_given,
    "network_slimming": the_share_asked_for,
    "taylor": the_share_asked_for,
    "group_norm": the_share_asked_for,
    "sparse_structure": nothing_with_factor_zero,
    "trainable_gates": the_gates_target,
    "netadapt": the_ratio_of_flops,
    "magnitude": the_share_of_weights,
    "random_sparse": the_share_of_weights,
    "guided_sparse": the_share_of_weights,
    "gibbs": the_share_of_weights,
    "drop_pruning": the_share_of_weights,
    "prunefl": a_density_of_its_own,
}
"""Where each method stops without a budget."""


@every_method
def test_without_a_budget_its_own_rule_ends_it(vgg: Dense, method: str) -> None:
    RULES[method](vgg, method)


@pytest.mark.parametrize("method", REBUILT)
def test_weights_made_for_the_channels_kept_classify_at_once(vgg: Dense, method: str) -> None:
    assert inherited(vgg, derived(vgg, method, 0.5)) > 0.5  # of ten classes
