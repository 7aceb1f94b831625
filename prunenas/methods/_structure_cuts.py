"""What sparse structure selection takes out, by its trained factors or to meet a budget."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from prunenas.architecture import Architecture, Block, Space
from prunenas.architecture.paths import (
    grouped_paths,
    inherit_paths,
    kept_channels,
    without_paths,
)
from prunenas.errors import BudgetError
from prunenas.methods._ranking import ranked_channels, ranked_widths, widths_above

T = TypeVar("T")


@dataclass(frozen=True)
class Cut:
    """What is left: the architecture, the channels kept, and how weights come to it."""

    architecture: Architecture
    kept: Mapping[str, Tensor]
    inherit: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def without_blocks(space: Space, factors: Mapping[str, float], flops: int | None) -> Cut:
    """Take out the residual branches whose factor is 0.

    With ``flops`` as few of the smallest as the budget asks for, whatever their factors.

    Raises:
        BudgetError: Without any of them the network still costs more.
    """
    order = sorted(factors, key=lambda name: factors[name])  # stable: of equals the first
    count = sum(factor == 0 for factor in factors.values())
    if flops is not None:
        count = _fewest(order, lambda gone: space.without(gone).dense.flops, flops)
    rest = space.without(order[:count])
    return Cut(rest.dense, {}, lambda state: rest.inherit(state, {}))


def without_groups(
    space: Space, factors: Mapping[str, Tensor], free: Sequence[Block], flops: int | None
) -> Cut:
    """Take out groups of grouped convolutions, and the branches that have none left.

    Args:
        space: Of the dense network.
        factors: By grouped convolution.
        free: The residual branches that may go. A convolution in none of them keeps its largest.
        flops: See ``without_blocks``.
    """
    home = {layer: _innermost(free, layer) for layer in factors}
    order = [
        (float(value), layer, index)
        for layer, values in factors.items()
        for index, value in enumerate(values)
        if home[layer] is not None or index != int(values.argmax())
    ]
    order.sort(key=lambda path: path[0])
    count = sum(value == 0 for value, *_ in order)

    def left(paths: Sequence[tuple[float, str, int]]) -> tuple[Space, dict[str, list[int]]]:
        """The space without the branches that go, and the groups that go of the others."""
        lost: dict[str, list[int]] = {}
        for _, layer, index in paths:
            lost.setdefault(layer, []).append(index)
        empty = {home[layer] for layer, gone in lost.items() if len(gone) == len(factors[layer])}
        rest = space.without([block for block in empty if block is not None])
        there = {paths.layer for paths in grouped_paths(rest)}
        return rest, {layer: gone for layer, gone in lost.items() if layer in there}

    if flops is not None:
        count = _fewest(order, lambda paths: without_paths(*left(paths)).flops, flops)
    rest, lost = left(order[:count])
    return Cut(
        without_paths(rest, lost),
        kept_channels(rest, lost),
        lambda state: inherit_paths(rest, state, lost),
    )


def _innermost(blocks: Sequence[Block], layer: str) -> str | None:
    """The smallest of the residual branches that a layer lies in."""
    around = [block for block in blocks if holds(block, layer)]
    return min(around, key=lambda block: block.flops).name if around else None


def holds(block: Block, layer: str) -> bool:
    """Whether a layer lies in a residual branch."""
    return any(layer == module or layer.startswith(f"{module}.") for module in block.modules)


def without_channels(space: Space, scores: Mapping[str, Tensor], flops: int | None) -> Cut:
    """Take out channels; see ``without_blocks``."""
    if flops is None:
        widths = widths_above(space, scores, 0.0)
    else:
        _, widths = ranked_widths(space, scores, keep=1.0, flops=flops)
    kept = ranked_channels(space, scores, widths)
    architecture = space.architecture(widths=widths, kept=kept)
    return Cut(architecture, kept, lambda state: space.inherit(state, kept))


def _fewest(order: Sequence[T], cost: Callable[[Sequence[T]], int], flops: int) -> int:
    """How few of the first must go for at most ``flops``.

    Raises:
        BudgetError: Without any of them the network still costs more.
    """
    # One more never adds cost: bisection is exact.
    count = bisect_left(range(len(order) + 1), True, key=lambda n: cost(order[:n]) <= flops)
    if count > len(order):
        raise BudgetError(
            f"without all that sparse_structure may take out flops >= {cost(order):,} must hold, "
            f"but the budget is {flops:,}"
        )
    return count
