"""Random masks from a Gibbs distribution over the weights of one layer.

Labach, Valaee, "A Framework for Neural Network Pruning Using Gibbs Distributions", GLOBECOM 2020
(arXiv 2006.04981, first version), and the authors' code for it, which the constants follow. States
are -1 (off) and +1 (on); a mask ``x`` has the probability ``exp(-beta H(x)) / Z`` at the inverse
temperature ``beta``. With ``b = Q - w^2``, positive where a weight prefers to be off:

- weights: each by itself, off with probability ``sigmoid(beta b)``;
- kernels: ``H = b'x - c (S^2 - n)`` over the ``n`` weights of a kernel, ``S`` their sum, so that
  they tend to be on or off together;
- filters: the same coupling between any two weights of a filter that lie in different halves of
  its input channels, drawn by sweeps over the halves.

As in the authors' code, weights and filters use the conditional ``sigmoid(beta b)``, which is that
of states 0 and 1, where the kernels' exact distribution over -1 and +1 comes to ``sigmoid(2 beta
b)``: the same beta is twice as cold for kernels.

Layers are worked out piece by piece, which bounds the memory and changes no draw: the numbers that
decide a weight, a kernel or a filter follow one another.
"""

from math import ceil, inf, log

import numpy as np
import torch
from torch import Tensor

CHUNK = 1 << 20
"""Entries of a table that are worked out at once: 4 or 8 MiB."""

_CERTAIN = 18.0  # exp(-18) < 2^-25: no draw of 24 bits, as float32 has, tells it from 0


def unit_means(squares: Tensor, dims: int) -> Tensor:
    """Return the mean square of each unit: ``squares`` with all but the first ``dims`` averaged."""
    return squares.flatten(dims).mean(dim=dims) if squares.dim() > dims else squares


def kept_units(units: int, pruned: float) -> int:
    """Return how many of ``units`` are at or above the threshold, at least one; see `threshold`."""
    return units - ceil(_place(units, pruned))


def threshold(squares: Tensor, dims: int, pruned: float) -> Tensor:
    """Return Q: the percentile (linear between entries) of the units' mean squares.

    Args:
        squares: ``w^2`` of shape ``(out, in, ...)``.
        dims: How many of its dimensions number the units: all for weights, 2 for kernels, 1 for
            filters.
        pruned: Share of the units below it, in [0, 1]: at 1 it is the largest.
    """
    means = unit_means(squares, dims).flatten()
    place = _place(len(means), pruned)
    low, high = _sorted(means, int(place), ceil(place))
    return torch.lerp(low.double(), high.double(), place - int(place)).to(squares.dtype)


def _sorted(values: Tensor, *places: int) -> list[Tensor]:
    """Return the values at these places, from 0, among the sorted, each of shape ``()``."""
    if values.device.type == "cpu":  # several times as fast as torch, which sorts indices too
        values = torch.from_numpy(np.partition(values.numpy(), places))
        return [values[place] for place in places]
    return [values.kthvalue(place + 1).values for place in places]


def _place(units: int, pruned: float) -> float:
    """Where among the sorted units the percentile lies, from 0; a whole number where it is near."""
    place = pruned * (units - 1)
    whole = round(place)
    return whole if abs(place - whole) < 1e-9 * units else place


def off_probability(field: Tensor, beta: float) -> Tensor:
    """Return how likely each weight is off by itself: ``sigmoid(beta b)``."""
    return torch.sigmoid(beta * field)


def draw_weights(field: Tensor, beta: float, random: torch.Generator | None) -> Tensor:
    """Draw each weight by itself: bool of the field's shape, True where it is on.

    Args:
        field: ``b``, of any shape.
        beta: Inverse temperature.
        random: On the CPU; None for the global one.
    """
    drawn = [
        _uniform(part.shape, part, random) > off_probability(part, beta)
        for part in torch.split(field.flatten(), CHUNK)
    ]
    return torch.cat(drawn).reshape(field.shape)


def draw_kernels(
    field: Tensor, beta: float, coupling: float, random: torch.Generator | None
) -> Tensor:
    """Draw whole kernels from their exact distribution.

    First how many weights of a kernel are on, then which: with a coupling that is the same between
    all, the weights matter by their number alone. That takes ``n^2`` operations for a kernel of
    ``n`` weights, where listing its states takes ``2^n``.

    Args:
        field: ``b`` of shape ``(out, in, kh, kw)``.
        beta: Inverse temperature.
        coupling: c, at least 0.
        random: On the CPU; None for the global one.
    """
    kernels = field.flatten(2).flatten(0, 1)  # (K, n)
    tables = (kernels.shape[1] + 1) * (kernels.shape[1] + 2) // 2  # entries for one kernel
    drawn = [
        _draw(part, beta, coupling, random)
        for part in torch.split(kernels, max(1, CHUNK // tables))
    ]
    return torch.cat(drawn).reshape(field.shape)


def _draw(field: Tensor, beta: float, coupling: float, random: torch.Generator | None) -> Tensor:
    number, size = field.shape
    chance = _uniform((number, size + 1), field.double(), random).T
    # Logarithms of the odds of on against off; kernels lie along the rows of all tables.
    odds = (-2 * beta * field.double()).T.contiguous()
    # sums[i][k]: logarithm of the sum over all states of the first i weights with k of them on
    sums = [odds.new_zeros(1, number)]
    for i in range(size):
        table = odds.new_empty(i + 2, number)
        table[0] = 0.0
        torch.logaddexp(sums[i][1:], sums[i][:-1] + odds[i], out=table[1:-1])
        table[-1] = sums[i][-1] + odds[i]
        sums.append(table)
    counts = torch.arange(size + 1, dtype=torch.float64, device=field.device)[:, None]
    likely = sums[size] + beta * coupling * ((2 * counts - size).square() - size)
    below = torch.softmax(likely, dim=0).cumsum(dim=0)
    left = (below <= chance[0] * below[-1]).sum(dim=0).clamp(max=size)  # how many are on
    state = torch.zeros(size, number, dtype=torch.bool, device=field.device)
    for i in reversed(range(size)):
        with_it = sums[i].gather(0, (left - 1).clamp(min=0)[None])[0] + odds[i]
        without = sums[i].gather(0, left.clamp(max=i)[None])[0]
        on = chance[i + 1] < torch.sigmoid(with_it - without)
        state[i] = (left > i) | ((left > 0) & on)  # as many are left as weights: all are on
        left = left - state[i].long()
    return state.T


def draw_filters(
    field: Tensor,
    beta: float,
    coupling: float,
    start: Tensor,
    sweeps: int,
    random: torch.Generator | None,
) -> Tensor:
    """Draw a layer's filters by sweeps over the two halves of their input channels.

    A filter with one input channel has halves of its kernel's places instead; one of a single
    weight has no halves, and stays what its norm says.

    Args:
        field: ``b`` of shape ``(out, in, ...)``.
        beta: Inverse temperature.
        coupling: c, at least 0.
        start: Bool of shape ``(out,)``: filters whose second half starts on.
        sweeps: How often both halves are drawn, at least 1; less often where `enough` says so.
        random: On the CPU; None for the global one.
    """
    flat, half = field.flatten(1), first_half(field.shape)
    state = start[:, None].expand_as(flat).clone()
    if not half:
        return state.reshape(field.shape)
    # A filter that the coupling holds more firmly than any of its weights could pull is certain.
    pull = torch.where(start, flat.max(dim=1).values, -flat.min(dim=1).values)
    firm = coupling * min(half, flat.shape[1] - half) - pull
    left = (beta * firm <= _CERTAIN).nonzero().flatten()
    sweeps = int(min(sweeps, enough(beta * coupling, half, flat.shape[1] - half)))
    for part in torch.split(left, max(1, CHUNK // (sweeps * flat.shape[1]))):
        if len(part):
            own = flat[part]
            drawn = _uniform((len(part), sweeps, own.shape[1]), own, random)
            state[part] = _sweep(own, half, beta, coupling, start[part], drawn)
    return state.reshape(field.shape)


def first_half(shape: tuple[int, ...]) -> int:
    """Return how many weights of a filter are its first half, 0 where it can't be halved.

    Args:
        shape: Of the layer's weight, ``(out, in, ...)``.
    """
    places = torch.Size(shape[2:]).numel()
    return shape[1] // 2 * places if shape[1] > 1 else places // 2


def enough(strength: float, one: int, other: int) -> int | float:
    """Return after how many sweeps a filter has forgotten its start; infinity where it may never.

    Two chains drawn from the same numbers differ after a sweep at ``one other (beta c / 2)^2`` of
    the weights of before at most, in expectation: a weight moves the sum S by 2, and that each of
    the other half's chances by ``beta c / 2`` at most, the steepest slope of the sigmoid being 1/4
    (Dobrushin's condition). Enough is where less than one weight in a million such filters differs.

    Args:
        strength: ``beta c``.
        one: Weights in one half.
        other: Weights in the other.
    """
    shrinks = one * other * (strength / 2) ** 2
    if shrinks >= 1:
        return inf
    return max(1, ceil(log(1e-6 / (one + other)) / log(shrinks))) if shrinks > 0 else 1


def _sweep(
    field: Tensor, half: int, beta: float, coupling: float, start: Tensor, drawn: Tensor
) -> Tensor:
    """Draw filters by uniform numbers of shape ``(filters, sweeps, weights)``, which are lost."""
    # u > sigmoid(beta (b - c S)) is logit(u) - beta b > -beta c S.
    levels = drawn.logit_().sub_((beta * field)[:, None])
    halves = slice(half), slice(half, None)
    # The chain starts as if the other half were what the filter's norm says, as long as the first.
    total = torch.where(start, 1.0, -1.0).to(field)[:, None] * half
    for sweep in levels.unbind(dim=1):
        for part in halves:
            on = sweep[:, part].gt_(-beta * coupling * total)  # 0 or 1, in place of the levels
            total = 2 * on.sum(dim=1, keepdim=True) - on.shape[1]
    return levels[:, -1].bool()


def _uniform(shape: tuple[int, ...], like: Tensor, random: torch.Generator | None) -> Tensor:
    # On the CPU, whatever the device: equal seeds give equal masks everywhere.
    return torch.rand(shape, generator=random, dtype=like.dtype).to(like.device)
