"""How long a client's local update takes, as a line in the weights that each layer keeps.

A federation's time model is a constant and, for each layer, seconds for each kept weight (Jiang et
al., PruneFL, arXiv 1909.12326, whose authors measured layers in sparse form). Here each layer's
forward pass, backward pass and step of SGD are timed alone, in sparse form at five densities; the
line through the five medians gives the layer's seconds for each weight. The constant is what a
whole update of the sparse network takes beyond these lines at the least density, and at the
greatest a whole update is held against their sum: it was fitted to nothing.

Everything has its turn in every round, so that the machine's drift meets all alike, and so that a
layer finds the caches as the others have left them, as it does in a whole update.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, median
from typing import Any

import torch
from torch import Tensor, nn

from prunenas.architecture import masked_weights
from prunenas.errors import FederatedError
from prunenas.federated.presets import from_updates
from prunenas.federated.time import TimeModel
from prunenas.latency.quiet import clock, on_threads, one_at_a_time, undisturbed
from prunenas.latency.sparse_form import SparseLayer, sparse_form
from prunenas.training.outputs import cross_entropy, logits_of

DENSITIES = (0.05, 0.1, 0.2, 0.35, 0.5)
"""Shares of its weights that a layer keeps where it is timed; beyond, its dense form is faster."""

POOR_FIT = 0.1
"""Of a layer's mean time: further off, as a root mean square, medians don't lie on a line."""

Work = Callable[[], None]


@dataclass(frozen=True)
class LayerTimes:
    """What was measured of one layer, and the line through it.

    Attributes:
        weights: How many it has, kept or not.
        kept: How many it kept, measurement by measurement.
        seconds: Medians of an update of this layer alone.
        per_weight: The line's seconds for each kept weight, >= 0.
        base: The line's seconds without any, >= 0.
    """

    weights: int
    kept: tuple[int, ...]
    seconds: tuple[float, ...]
    per_weight: float
    base: float

    @classmethod
    def of(cls, weights: int, kept: Sequence[int], seconds: Sequence[float]) -> "LayerTimes":
        """Fit the line by least squares, neither part of it below 0."""
        mean_kept, mean = fmean(kept), fmean(seconds)
        spread = sum((each - mean_kept) ** 2 for each in kept)
        pairs = list(zip(kept, seconds, strict=True))
        slope = sum((x - mean_kept) * (y - mean) for x, y in pairs) / spread if spread else 0.0
        base = mean - slope * mean_kept
        if slope < 0:
            slope, base = 0.0, mean
        elif base < 0:
            slope, base = sum(x * y for x, y in pairs) / sum(x * x for x in kept), 0.0
        return cls(weights, tuple(kept), tuple(seconds), slope, base)

    @property
    def error(self) -> float:
        """Root mean square of what lies between medians and line, as a share of their mean."""
        return math.sqrt(self._squares()) / fmean(self.seconds)

    @property
    def r2(self) -> float:
        """Share of the medians' variance that the line explains; 1 where there is none."""
        mean = fmean(self.seconds)
        variance = fmean([(each - mean) ** 2 for each in self.seconds])
        return 1 - self._squares() / variance if variance else 1.0

    def _squares(self) -> float:
        lines = [self.base + self.per_weight * each for each in self.kept]
        return fmean([(y - line) ** 2 for y, line in zip(self.seconds, lines, strict=True)])


@dataclass(frozen=True)
class UpdateTimes:
    """What a local update takes on this machine.

    Attributes:
        layers: By the weight's name, in module order.
        constant: Seconds of an update that no mask changes.
        dense: Seconds of an update with PyTorch's own layers, all weights there.
        check_kept: Weights that each layer kept in an update that nothing was fitted to.
        check_seconds: What that update took.
    """

    layers: Mapping[str, LayerTimes]
    constant: float
    dense: float
    check_kept: Mapping[str, int]
    check_seconds: float

    def seconds(self, kept: Mapping[str, int]) -> float:
        """Return what an update takes by the lines, of as many weights as each layer keeps."""
        return self.constant + sum(
            self.layers[name].per_weight * number for name, number in kept.items()
        )

    @property
    def breaks_even(self) -> float:
        """Density at which sparse form takes as long as the dense layers; 0 where it never does."""
        whole = self.seconds({name: each.weights for name, each in self.layers.items()})
        if whole <= self.dense:
            return 1.0
        return max(0.0, (self.dense - self.constant) / (whole - self.constant))

    def model(self, *, updates: int, bandwidth: float | None = None) -> TimeModel:
        """Return the time model of a round.

        Args:
            updates: Local updates of a round, >= 1.
            bandwidth: Bytes a second, one way; that of PruneFL's authors without it.

        Raises:
            FederatedError: One of them is not positive.
        """
        computation = {name: each.per_weight for name, each in self.layers.items()}
        return from_updates(computation, self.constant, updates=updates, bandwidth=bandwidth)


def measure_updates(
    network: nn.Module,
    input_shape: tuple[int, ...],
    *,
    batch: int = 20,
    threads: int = 1,
    rounds: int = 7,
    tell: Callable[[int, int], None] | None = None,
) -> UpdateTimes:
    """Measure a network's local updates on the CPU.

    Waits while another process of this user measures.

    Args:
        network: On the CPU; stays as it is. Weights don't change what is computed.
        input_shape: ``(C, H, W)`` of one input.
        batch: Inputs of an update, >= 2.
        threads: Of the CPU, >= 1.
        rounds: How often each time is taken, >= 3; one more round before them is not counted.
        tell: Told of each round: how many are done, and of how many.

    Raises:
        FederatedError: Nothing can be pruned, a layer has no sparse form, or the machine was so
            busy that the constant comes out below 0.
        TrainingError: The network does not answer images with logits.
    """
    for what, value, least in (("batch", batch, 2), ("threads", threads, 1), ("rounds", rounds, 3)):
        if value < least:
            raise FederatedError(f"a measurement of updates needs {what} >= {least}, not {value}")
    images = torch.randn(batch, *input_shape, generator=torch.Generator().manual_seed(0))
    inputs = _inputs(network, images)
    weights = {name: each for name, each in masked_weights(network).items() if name in inputs}
    if not weights:
        raise FederatedError("an update is measured by the layers that are pruned; there are none")
    masks = [{name: _mask(each, share) for name, each in weights.items()} for share in DENSITIES]
    kept = [{name: int(mask.sum()) for name, mask in each.items()} for each in masks]
    layers = {
        name: [_layer_update(network, name, each[name], inputs[name]) for each in masks]
        for name in weights
    }
    whole = [_update(sparse_form(network, masks[index]), images) for index in (0, -1)]
    dense = _update(sparse_form(network, {}), images)
    works = [work for each in layers.values() for work in each]
    with one_at_a_time(), on_threads(threads), undisturbed():
        times = _medians([*works, *whole, dense], clock("cpu", threads), rounds, tell)
    step = len(DENSITIES)
    found = {
        name: LayerTimes.of(
            weights[name].numel(),
            [each[name] for each in kept],
            times[step * index : step * (index + 1)],
        )
        for index, name in enumerate(layers)
    }
    sparsest, densest, of_dense = times[-3:]
    constant = sparsest - sum(found[name].per_weight * number for name, number in kept[0].items())
    if constant <= 0:
        raise FederatedError(
            f"an update's constant must be > 0, but comes out as {constant:.3g} s: the machine is "
            "busy; take more rounds"
        )
    return UpdateTimes(found, constant, of_dense, kept[-1], densest)


def _medians(
    works: Sequence[Work],
    now: Callable[[], float],
    rounds: int,
    tell: Callable[[int, int], None] | None,
) -> list[float]:
    """Seconds of each work."""
    times: list[list[float]] = [[] for _ in works]
    for number in range(rounds + 1):
        for turn in range(len(works)):
            # Another one comes first in each round, and none has always the same one before it.
            index = (turn if number % 2 else -turn - 1) + number
            index %= len(works)
            start = now()
            works[index]()
            times[index].append(now() - start)
        if tell is not None:
            tell(number + 1, rounds + 1)
    return [median(each[1:]) for each in times]


def _inputs(network: nn.Module, images: Tensor) -> dict[str, list[Tensor]]:
    """By the weight's name, inputs like those each layer gets, with a gradient where it wants one.

    What is never called has none: a network that reads its weight elsewhere can't do without it.
    """
    caught: dict[str, list[Tensor]] = {}

    def catch(name: str, layer: nn.Module, given: tuple[Any, ...]) -> None:
        like = torch.randn(given[0].shape, generator=torch.Generator().manual_seed(1))
        caught.setdefault(name, []).append(like.requires_grad_(given[0].requires_grad))

    # Of a copy, as BatchNorm's running statistics change.
    trained = sparse_form(network, {}).train()
    for name in masked_weights(trained):
        layer = trained.get_submodule(name.removesuffix(".weight"))
        layer.register_forward_pre_hook(partial(catch, name))
    logits_of(trained(images), images=len(images))
    return caught


def _mask(weight: Tensor, share: float) -> Tensor:
    """Keep a share of a layer's weights at random places, one at least."""
    count = max(1, round(share * weight.numel()))
    places = torch.randperm(weight.numel(), generator=torch.Generator().manual_seed(2))[:count]
    keep = torch.zeros(weight.numel(), dtype=torch.bool)
    keep[places] = True
    return keep.reshape(weight.shape)


def _layer_update(network: nn.Module, name: str, keep: Tensor, inputs: Sequence[Tensor]) -> Work:
    """One layer's part of an update."""
    layer = SparseLayer(name, network.get_submodule(name.removesuffix(".weight")), keep)
    with torch.no_grad():
        above = [torch.ones_like(layer(each)) for each in inputs]
    optimizer = _optimizer(layer)

    def work() -> None:
        optimizer.zero_grad()
        for each, gradient in zip(inputs, above, strict=True):
            each.grad = None
            torch.autograd.backward(layer(each), gradient)
        optimizer.step()

    return work


def _update(network: nn.Module, images: Tensor) -> Work:
    """A whole update; of its network nobody else knows."""
    network.train()
    optimizer = _optimizer(network)
    labels = torch.zeros(len(images), dtype=torch.long)

    def work() -> None:
        optimizer.zero_grad()
        logits, auxiliary = logits_of(network(images), images=len(images))
        cross_entropy(logits, auxiliary, labels, 0.0).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return work


def _optimizer(network: nn.Module) -> torch.optim.Optimizer:
    # A step of 0 costs what any other does, and no weight ever overflows.
    return torch.optim.SGD(network.parameters(), lr=0.0)
