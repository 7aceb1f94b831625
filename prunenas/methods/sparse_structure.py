"""Sparse structure selection.

Huang, Wang, "Data-Driven Sparse Structure Selection for Deep Neural Networks", ECCV 2018, section
3. Automatic: each structure's output is multiplied by a factor that starts at 1 and is trained with
the network under an L1 penalty; structures whose factor has come to 0 are taken out. A structure is
a residual branch (``blocks``: its stream, or the stream's projection, goes on without it), a group
of a grouped convolution (``groups``, as in ResNeXt) or a channel (``channels``, the paper's
neurons). The factors that stay are multiplied into the weights, so that the smaller network
computes what the trained one does.

The factors alone are stepped by accelerated proximal gradient (the paper's APG-NAG, its section
3.3): with learning rate ``lr``, momentum ``m``, gradient ``g`` and penalty ``s``::

    z = f - lr * g
    z = sign(z) * max(|z| - lr * s, 0)
    v' = z - f + m * v
    f' = max(z + m * v', 0)

With a FLOPs budget the structures are taken out in the order of their factors, the smallest first,
until the network is within it: blocks and groups one by one, of equals the first in the forward
pass; channels as ``_ranking`` says.

Differs from the paper: the cut at 0 in the last line is the released code's. Momentum is the
recipe's. A residual branch's factor is applied, and multiplied in, at its last normalisation,
convolution or linear layer; branches that end in something else have none. A channel's factor is
shared by all layers that make it (a residual stream) and acts behind the normalisation that follows
them, and behind every other that it passes (pre-activation streams, concatenated features), since
each would undo what was scaled before it. A convolution never loses its last group, where
the paper takes out the block, nor a channel group its last channel; those of grouped convolutions
lose as many of each group. What ``whole`` names is trained with factors, too, and stays.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar, Literal, TypeVar, final

import torch
from pydantic import Field
from torch import Tensor, nn

from prunenas.architecture import Architecture, Block, Space
from prunenas.architecture.paths import (
    grouped_paths,
    inherit_paths,
    kept_channels,
    without_paths,
)
from prunenas.errors import BudgetError, MethodError
from prunenas.methods._base import Derivation, Inheritance, Method, refuse_ratios, share_kept
from prunenas.methods._factors import (
    Structure,
    block_structures,
    channel_structures,
    fold,
    path_structures,
    put_on,
    read,
    step,
    without_factors,
)
from prunenas.methods._ranking import ranked_channels, ranked_widths, widths_above
from prunenas.methods.dense import Dense

T = TypeVar("T")
Kind = Literal["blocks", "groups", "channels"]


@final
class SparseStructure(Method):
    """Residual branches or channels whose trained factor comes to zero are taken out."""

    kind: ClassVar[Literal["predefined", "automatic"]] = "automatic"
    takes_ratios: ClassVar[bool] = False
    granularity: ClassVar[Literal["channel", "block"]] = "block"
    source: ClassVar[str] = (
        "Huang and Wang 2018, Data-Driven Sparse Structure Selection for Deep Neural Networks, ECCV"
    )

    sparsity: float = Field(
        0.01,
        ge=0,
        description=(
            "Weight of the L1 penalty on the factors (the paper's gamma). "
            "Each value costs a training of the dense network; budgets cost none."
        ),
        json_schema_extra={"search": {"low": 1e-3, "high": 1e-1, "log": True}},
    )
    structures: Literal["auto", Kind] = Field(
        "auto",
        description=(
            "What is taken out: residual blocks, groups of grouped convolutions, or channels; "
            "auto: blocks where the network has any, else channels."
        ),
        json_schema_extra={"search": {"choices": ["auto", "blocks", "channels", "groups"]}},
    )

    def derive(
        self,
        dense: Dense,
        *,
        ratios: Mapping[str, float] | None = None,
        flops: int | None = None,
        fixed: Collection[str] = (),
        seed: int = 0,
    ) -> Derivation:
        """Train with factors, take out what has none left; see `Method.derive`."""
        del fixed, seed  # no ratios are given; the dense network's own seed is all there is
        refuse_ratios("sparse_structure", ratios)
        space = dense.space
        held = self.held(space)
        kind, found = self._found(space, dense.network())
        momentum = dense.recipe.momentum
        trained = dense.train(
            prepare=lambda network: put_on(network, found),
            penalty=lambda network, lr: step(network, lr, self.sparsity, momentum),
            key={
                "method": "sparse_structure",
                "sparsity": self.sparsity,
                "kind": kind,
                "structures": [structure.name for structure in found],
            },
            what=f"sparse_structure (sparsity {self.sparsity:g})",
        )
        factors = read(trained.state, found)
        if kind == "blocks":
            free = {b.name: float(factors[b.name]) for b in self._free(space) if b.name in factors}
            cut = _without_blocks(space, free, flops)
        elif kind == "groups":
            own = {p.layer: {p.inputs, p.outputs} for p in grouped_paths(space)}
            cut = _without_groups(
                space, {name: factors[name] for name in factors if not own[name] & held}, flops
            )
        else:
            scores = {name: factors[name] for name in factors if name not in held}
            cut = _without_channels(space, scores, flops)

        def inherit() -> Inheritance:
            network = dense.network()
            network.load_state_dict(without_factors(trained.state))
            fold(network, found, factors)
            return Inheritance(cut.kept, cut.inherit(network.state_dict()))

        every = torch.cat(list(factors.values()))
        return Derivation(
            cut.architecture,
            notes={
                "structures": kind,
                "factors": len(every),
                "factors_at_zero": int((every == 0).sum()),
                "blocks_removed": list(cut.architecture.removed),
                "channels_kept": share_kept(cut.architecture, space.dense),
                "dense_accuracy": trained.validation.accuracy,
            },
            inherit=inherit,
        )

    def _found(self, space: Space, network: nn.Module) -> tuple[Kind, tuple[Structure, ...]]:
        """The kind of structures, and which there are."""
        asked: tuple[Kind, ...] = ("blocks", "channels")
        if self.structures != "auto":
            asked = (self.structures,)
        for kind in asked:
            found = _FIND[kind](space, network)
            if found:
                return kind, found
        raise MethodError(
            f"sparse_structure needs {' or '.join(asked)} that a factor can scale, "
            f"but {space.source!r} has none"
        )

    def _free(self, space: Space) -> list[Block]:
        """The blocks without a layer that `whole` names."""
        layers = [layer for group in space.groups for layer in group.layers]
        layers += [layer for group in space.frozen for layer in group.layers]
        named = [
            layer
            for layer in layers
            for pattern in self.whole
            if fnmatchcase(layer, pattern) or fnmatchcase(layer, f"{pattern}.*")
        ]
        return [
            block
            for block in space.blocks
            if not any(
                layer == module or layer.startswith(f"{module}.")
                for module in block.modules
                for layer in named
            )
        ]


_FIND: Mapping[Kind, Callable[[Space, nn.Module], tuple[Structure, ...]]] = {
    "blocks": block_structures,
    "groups": path_structures,
    "channels": channel_structures,
}


@dataclass(frozen=True)
class _Cut:
    """What is left: the architecture, the channels kept, and how weights come to it."""

    architecture: Architecture
    kept: Mapping[str, Tensor]
    inherit: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def _without_blocks(space: Space, factors: Mapping[str, float], flops: int | None) -> _Cut:
    order = sorted(factors, key=lambda name: factors[name])  # stable: of equals the first
    count = sum(factor == 0 for factor in factors.values())
    if flops is not None:
        count = _fewest(order, lambda gone: space.without(gone).dense.flops, flops)
    rest = space.without(order[:count])
    return _Cut(rest.dense, {}, lambda state: rest.inherit(state, {}))


def _without_groups(space: Space, factors: Mapping[str, Tensor], flops: int | None) -> _Cut:
    # The largest of each convolution stays.
    order = [
        (float(value), layer, index)
        for layer, values in factors.items()
        for index, value in enumerate(values)
        if index != int(values.argmax())
    ]
    order.sort(key=lambda path: path[0])
    count = sum(value == 0 for value, *_ in order)

    def gone(paths: Sequence[tuple[float, str, int]]) -> dict[str, list[int]]:
        lost: dict[str, list[int]] = {}
        for _, layer, index in paths:
            lost.setdefault(layer, []).append(index)
        return lost

    if flops is not None:
        count = _fewest(order, lambda paths: without_paths(space, gone(paths)).flops, flops)
    lost = gone(order[:count])
    return _Cut(
        without_paths(space, lost),
        kept_channels(space, lost),
        lambda state: inherit_paths(space, state, lost),
    )


def _without_channels(space: Space, scores: Mapping[str, Tensor], flops: int | None) -> _Cut:
    if flops is None:
        widths = widths_above(space, scores, 0.0)
    else:
        _, widths = ranked_widths(space, scores, keep=1.0, flops=flops)
    kept = ranked_channels(space, scores, widths)
    architecture = space.architecture(widths=widths, kept=kept)
    return _Cut(architecture, kept, lambda state: space.inherit(state, kept))


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
