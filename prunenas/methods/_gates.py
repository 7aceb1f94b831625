"""Gates on channel groups: 0 or 1 going forward, trainable going back, under a target cost."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from prunenas.architecture import ChannelGroup, Space
from prunenas.architecture.space import Cost
from prunenas.methods._sites import Site, attach

_NEAR = 0.005  # as a share of the budget

HOLDER = "channel_gates"
"""Name of the module that is added to a network."""

Shape = Literal["constant", "bump"]

LEAK = 5e-6
"""What a closed gate lets through in training: the middle of the paper's sawtooth, whose top is
1 / M = 1e-5. Behind a gate of exactly 0 a ReLU would have no gradient, and so the gate none."""


def shaped(weights: Tensor, shape: Shape) -> Tensor:
    """Return the derivative that a gate shows at its weight: 1, or ``4 s (1 - s)``.

    ``s`` is the weight's sigmoid, so that the bump is 1 where gates open and close.
    """
    if shape == "constant":
        return torch.ones_like(weights)
    squashed = torch.sigmoid(weights)
    return 4 * squashed * (1 - squashed)


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, opened: Tensor, shape: Shape, leak: float) -> Tensor:
        ctx.save_for_backward(weights)
        ctx.shape = shape
        return torch.where(opened, 1.0, leak).to(weights.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (weights,) = ctx.saved_tensors
        return gradient * shaped(weights, ctx.shape), None, None, None


def gated(weights: Tensor, shape: Shape = "constant", leak: float = 0.0) -> Tensor:
    """Return 1 for each weight above 0, else ``leak``, with the derivative ``shaped``."""
    values: Tensor = _Gate.apply(weights, weights > 0, shape, leak)
    return values


def opened(weights: Tensor) -> Tensor:
    """Return which gates of a group are open, bool: those above 0, and the highest always."""
    return (weights > 0) | (weights == weights.max())


class Gates(nn.Module):
    """The gates of several channel groups, one after the other.

    Channels of a group with a divisor above 1 share a gate with those at the same place of the
    other blocks, so that every block keeps as many.

    Attributes:
        weight: Of each gate, shape ``(gates,)``; open above 0.
        velocity: Momentum of their steps; a buffer, so that a checkpoint has it.
        frozen: Whether they have been decided, a bool.
        found: Share of the dense network's cost that they had come to by then.
    """

    velocity: Tensor
    frozen: Tensor
    found: Tensor

    def __init__(self, space: Space, groups: Iterable[ChannelGroup], shape: Shape) -> None:
        super().__init__()
        self.space, self.groups, self.shape = space, tuple(groups), shape
        self.divisors = {group.name: group.divisor for group in self.groups}
        self.places: dict[str, slice] = {}
        total = 0
        for group in self.groups:
            gates = group.width // group.divisor
            self.places[group.name] = slice(total, total + gates)
            total += gates
        self.weight = nn.Parameter(torch.ones(total))
        self.register_buffer("velocity", torch.zeros(total))
        self.register_buffer("frozen", torch.tensor(False))
        self.register_buffer("found", torch.tensor(1.0, dtype=torch.float64))

    def forward(self, signal: Tensor) -> Tensor:
        """Pass on what comes, where a network runs all its children in turn."""
        return signal

    @torch.no_grad()
    def start(self, mean: float, deviation: float, seed: int) -> None:
        """Draw the weights from a normal distribution."""
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(len(self.weight), generator=generator)
        self.weight.copy_(mean + deviation * drawn)

    def of(self, group: str) -> Tensor:
        """Return a group's gates, one for each channel: shape ``(group width,)``."""
        weights = self.weight[self.places[group]]
        leak = LEAK if self.training else 0.0
        values: Tensor = _Gate.apply(weights, opened(weights), self.shape, leak)
        return values.repeat(self.divisors[group])

    def kept(self) -> dict[str, Tensor]:
        """Return the open channels' indices by group, sorted int64 on the CPU."""
        return {
            name: opened(self.weight[place]).repeat(self.divisors[name]).nonzero().flatten().cpu()
            for name, place in self.places.items()
        }

    def widths(self) -> dict[str, int]:
        """Return how many channels of each group are open."""
        weights = self.weight.detach()
        counts = torch.stack([opened(weights[place]).sum() for place in self.places.values()])
        return {
            group.name: count * group.divisor
            for group, count in zip(self.groups, counts.tolist(), strict=True)
        }

    @torch.no_grad()
    def step(self, lr: float, momentum: float, strength: float, cost: Cost, share: float) -> None:
        """Step the gates by their gradient and that of ``strength * (share - cost)**2``.

        ``cost`` counts as a share of the dense network's. The optimiser is left nothing to do, so
        that weight decay doesn't close gates. Frozen gates don't move; nor do any where the
        gradient is not finite, as it is while float16 looks for its scale.

        Args:
            lr: Learning rate of the gates.
            momentum: Of their steps.
            strength: Weight of the cost in the loss.
            cost: What is counted, in the closed form at the channels that are open.
            share: Target in (0, 1].
        """
        gradient, self.weight.grad = self.weight.grad, None
        if gradient is None or bool(self.frozen):
            return
        gradient = gradient + strength * self.cost_gradient(cost, share)
        velocity = momentum * self.velocity + gradient
        usable = torch.isfinite(gradient).all()
        self.velocity.copy_(torch.where(usable, velocity, self.velocity))
        self.weight.copy_(torch.where(usable, self.weight - lr * velocity, self.weight))

    @torch.no_grad()
    def cost_gradient(self, cost: Cost, share: float) -> Tensor:
        """Return the derivative of ``(share - cost)**2`` in the gates' weights, by shaped gates."""
        widths = self.widths()
        whole = count(self.space, {}, cost)
        over = count(self.space, widths, cost) / whole - share
        slopes = self.space.slopes(widths, of=cost)
        each = [
            2 * over * slopes[group.name] * group.divisor / whole for group in self.groups
        ]  # one gate is `divisor` channels
        sizes = torch.tensor([group.width // group.divisor for group in self.groups])
        own = torch.tensor(each, dtype=self.weight.dtype).repeat_interleave(sizes)
        return own.to(self.weight.device) * shaped(self.weight, self.shape)

    @torch.no_grad()
    def freeze(self, cost: Cost, budget: int) -> None:
        """Decide: the highest gates open as long as they fit in the budget; none moves any more."""
        whole = count(self.space, {}, cost)
        self.found.fill_(count(self.space, self.widths(), cost) / whole)
        weights = {name: self.weight[place].cpu() for name, place in self.places.items()}
        for name, decided in fitting(self.space, self.groups, weights, cost, budget).items():
            # As far from 0 as from each other: which are open can be read off, no more.
            self.weight[self.places[name]] = torch.where(decided, 1.0, -1.0).to(self.weight)
        self.frozen.fill_(True)


def count(space: Space, widths: Mapping[str, int], cost: Cost) -> int:
    """Return multiply-adds or parameters at these widths."""
    return space.flops(widths) if cost == "flops" else space.params(widths)


def fitting(
    space: Space,
    groups: Iterable[ChannelGroup],
    weights: Mapping[str, Tensor],
    cost: Cost,
    budget: int,
) -> dict[str, Tensor]:
    """Return which gates are open, bool by group, when the highest are as long as they fit.

    The highest gate of each group is open whatever the budget; of equals the first. Where this
    leaves more than half a per cent of the budget, since the dearest channels don't fit, one of
    them is opened before the others if that comes closer.

    Args:
        space: Of the dense network.
        groups: Those with gates.
        weights: Of the gates by group.
        cost: What is budgeted.
        budget: What must not be exceeded.
    """
    divisors = {group.name: group.divisor for group in groups}
    order = {name: own.argsort(descending=True, stable=True) for name, own in weights.items()}

    def widened(first: Mapping[str, int]) -> dict[str, int]:
        """Gates open in each group, the highest first, from these many on."""
        opened = {**dict.fromkeys(weights, 1), **first}
        widths = {name: number * divisors[name] for name, number in opened.items()}
        rest = [
            (-float(weights[name][index]), name)
            for name, indices in order.items()
            for index in indices[opened[name] :]
        ]
        for _, name in sorted(rest, key=lambda gate: gate[0]):
            wider = {**widths, name: widths[name] + divisors[name]}
            if count(space, wider, cost) <= budget:
                widths = wider
        return widths

    best = start = widened({})
    for name, own in weights.items():
        more = start[name] // divisors[name] + 1
        if count(space, best, cost) >= (1 - _NEAR) * budget or more > len(own):
            continue
        trial = widened({name: more})
        if count(space, best, cost) < count(space, trial, cost) <= budget:
            best = trial
    found = {name: torch.zeros(len(own), dtype=torch.bool) for name, own in weights.items()}
    for name, mask in found.items():
        mask[order[name][: best[name] // divisors[name]]] = True
    return found


def put_on(network: nn.Module, gates: Gates, sites: Mapping[str, Iterable[Site]]) -> None:
    """Add gates to a network; they multiply its channels from now on."""
    network.add_module(HOLDER, gates)
    attach(network, sites, gates.of)


def of(network: nn.Module) -> Gates:
    """Return the gates that were put on a network."""
    gates = network.get_submodule(HOLDER)
    assert isinstance(gates, Gates)
    return gates


def without_gates(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the network's own part of a state dict."""
    return {name: t for name, t in state.items() if not name.startswith(f"{HOLDER}.")}
