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
"""

import torch
from torch import Tensor

_CHUNK = 1 << 18  # entries of a table that are worked out at once: bounds the memory


def unit_means(squares: Tensor, dims: int) -> Tensor:
    """Return the mean square of each unit: ``squares`` with all but the first ``dims`` averaged."""
    return squares.flatten(dims).mean(dim=dims) if squares.dim() > dims else squares


def threshold(squares: Tensor, dims: int, pruned: float) -> Tensor:
    """Return Q: the percentile (linear between entries) of the units' mean squares.

    Args:
        squares: ``w^2`` of shape ``(out, in, ...)``.
        dims: How many of its dimensions number the units: all for weights, 2 for kernels, 1 for
            filters.
        pruned: Share of the units below it, in [0, 1].
    """
    means = unit_means(squares, dims).flatten().double().sort().values
    place = pruned * (len(means) - 1)
    low = int(place)
    high = min(low + 1, len(means) - 1)
    # torch.quantile refuses more than 2^24 entries
    return torch.lerp(means[low], means[high], place - low).to(squares.dtype)


def off_probability(field: Tensor, beta: float) -> Tensor:
    """Return how likely each weight is off by itself: ``sigmoid(beta b)``."""
    return torch.sigmoid(beta * field)


def draw_weights(field: Tensor, beta: float, random: torch.Generator | None) -> Tensor:
    """Draw each weight by itself: bool of the field's shape, True where it is on."""
    return _uniform(field, random) > off_probability(field, beta)


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
    size = kernels.shape[1]
    step = max(1, _CHUNK // (size + 1))
    drawn = [_draw(part, beta, coupling, random) for part in torch.split(kernels, step)]
    return torch.cat(drawn).reshape(field.shape)


def _draw(field: Tensor, beta: float, coupling: float, random: torch.Generator | None) -> Tensor:
    on, off = -beta * field.double(), beta * field.double()
    number, size = field.shape
    # sums[i][:, k]: logarithm of the sum over all states of the first i weights with k of them on
    sums = [torch.full((number, size + 1), -torch.inf, dtype=torch.float64, device=field.device)]
    sums[0][:, 0] = 0.0
    for i in range(size):
        one_more = torch.full_like(sums[i], -torch.inf)
        one_more[:, 1:] = sums[i][:, :-1] + on[:, i : i + 1]
        sums.append(torch.logaddexp(sums[i] + off[:, i : i + 1], one_more))
    counts = torch.arange(size + 1, dtype=torch.float64, device=field.device)
    likely = sums[size] + beta * coupling * ((2 * counts - size).square() - size)
    chances = torch.softmax(likely, dim=1).cumsum(dim=1)
    drawn = _uniform(field[:, :1].double(), random) * chances[:, -1:]
    left = (chances <= drawn).sum(dim=1).clamp(max=size)  # how many are on
    state = torch.zeros(number, size, dtype=torch.bool, device=field.device)
    for i in reversed(range(size)):
        fewer = (left - 1).clamp(min=0)[:, None]
        with_it = sums[i].gather(1, fewer)[:, 0] + on[:, i]
        without = sums[i].gather(1, left[:, None])[:, 0] + off[:, i]
        chance = torch.where(left > 0, torch.sigmoid(with_it - without), 0.0)
        state[:, i] = _uniform(chance, random) < chance
        left = left - state[:, i].long()
    return state


def draw_filters(
    field: Tensor,
    beta: float,
    coupling: float,
    start: Tensor,
    sweeps: int,
    random: torch.Generator | None,
) -> Tensor:
    """Draw a layer's filters by sweeps over the two halves of their input channels.

    Args:
        field: ``b`` of shape ``(out, in, ...)``.
        beta: Inverse temperature.
        coupling: c, at least 0.
        start: Bool of shape ``(out,)``: filters whose second half starts on.
        sweeps: How often both halves are drawn, at least 1.
        random: On the CPU; None for the global one.
    """
    channels = field.shape[1]
    first, second = field[:, : channels // 2].flatten(1), field[:, channels // 2 :].flatten(1)
    # The chain starts as if the other half were what the filter's norm says, as long as the first.
    total = torch.where(start, 1.0, -1.0).to(field)[:, None] * first.shape[1]
    halves = [torch.zeros_like(first, dtype=torch.bool), torch.zeros_like(second, dtype=torch.bool)]
    for _ in range(sweeps):
        for index, own in enumerate((first, second)):
            halves[index] = draw_weights(own - coupling * total, beta, random)
            total = (2.0 * halves[index] - 1.0).to(field).sum(dim=1, keepdim=True)
    return torch.cat(halves, dim=1).reshape(field.shape)


def _uniform(like: Tensor, random: torch.Generator | None) -> Tensor:
    return torch.rand(like.shape, generator=random, dtype=like.dtype).to(like.device)
