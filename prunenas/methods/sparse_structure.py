"""Sparse structure selection.

Huang, Wang, "Data-Driven Sparse Structure Selection for Deep Neural Networks", ECCV 2018, section 3.
Automatic: each structure's output is multiplied by a factor that starts at 1 and is trained with the
network under an L1 penalty; structures whose factor has come to 0 are taken out. A structure is a
residual branch (``blocks``: its stream, or the stream's projection, goes on without it) or a channel
(``channels``, the paper's neurons). The factors that stay are multiplied into the weights, so that
the smaller network computes what the trained one does.

The factors alone are stepped by accelerated proximal gradient (the paper's APG-NAG, its section
3.3): with learning rate ``lr``, momentum ``m``, gradient ``g`` and penalty ``s``::

    z = f - lr * g
    z = sign(z) * max(|z| - lr * s, 0)
    v' = z - f + m * v
    f' = max(z + m * v', 0)

With a FLOPs budget the structures are taken out in the order of their factors, the smallest first,
until the network is within it: blocks one by one, of equals the first in the forward pass; channels
as ``_ranking`` says.

Differs from the paper: the cut at 0 in the last line is the released code's. Momentum is the
recipe's. A residual branch's factor is applied, and multiplied in, at its last normalisation,
convolution or linear layer; branches that end in something else have none. A channel's factor is
shared by all layers that make it (a residual stream) and acts behind the normalisation that follows
them, and behind every other that it passes (pre-activation streams, concatenated features), since
each would undo what was scaled before it. Groups of a grouped convolution can't be taken out one by
one: its channels are, as many of each group. A channel group never loses its last channel. Blocks
and channels of ``whole`` are trained with factors, too, and stay.
"""

from bisect import bisect_left
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from prunenas.architecture import Block, Space
from prunenas.errors import BudgetError, MethodError
from prunenas.methods._base import Derivation, Inheritance, Method, refuse_ratios, share_kept
from prunenas.methods._factors import (
    Structure,
    block_structures,
    channel_structures,
    fold,
    put_on,
    read,
    step,
    without_factors,
)
from prunenas.methods._ranking import ranked_channels, ranked_widths, widths_above
from prunenas.methods.dense import Dense

Structures = Literal["auto", "blocks", "channels"]


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
    structures: Structures = Field(
        "auto",
        description=(
            "What is taken out: residual blocks, or channels; "
            "auto: blocks where the network has any, else channels."
        ),
        json_schema_extra={"search": {"choices": ["auto", "blocks", "channels"]}},
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
        blocks, found = self._found(space, dense.network())
        momentum = dense.recipe.momentum
        trained = dense.train(
            prepare=lambda network: put_on(network, found),
            penalty=lambda network, lr: step(network, lr, self.sparsity, momentum),
            key={
                "method": "sparse_structure",
                "sparsity": self.sparsity,
                "structures": [structure.name for structure in found],
            },
            what=f"sparse_structure (sparsity {self.sparsity:g})",
        )
        factors = read(trained.state, found)
        if blocks:
            free = {b.name: float(factors[b.name]) for b in self._free(space) if b.name in factors}
            gone = zero_blocks(free) if flops is None else cheapest_blocks(space, free, flops)
            rest, kept = space.without(gone), dict[str, Tensor]()
            architecture = rest.dense
        else:
            rest = space
            scores = {name: factors[name] for name in factors if name not in held}
            if flops is None:
                widths = widths_above(space, scores, 0.0)
            else:
                _, widths = ranked_widths(space, scores, keep=1.0, flops=flops)
            kept = ranked_channels(space, scores, widths)
            architecture = space.architecture(widths=widths, kept=kept)

        def inherit() -> Inheritance:
            network = dense.network()
            network.load_state_dict(without_factors(trained.state))
            fold(network, found, factors)
            return Inheritance(kept, rest.inherit(network.state_dict(), kept))

        every = torch.cat(list(factors.values()))
        return Derivation(
            architecture,
            notes={
                "structures": "blocks" if blocks else "channels",
                "factors": len(every),
                "factors_at_zero": int((every == 0).sum()),
                "blocks_removed": list(architecture.removed),
                "channels_kept": share_kept(architecture, space.dense),
                "dense_accuracy": trained.validation.accuracy,
            },
            inherit=inherit,
        )

    def _found(self, space: Space, network: nn.Module) -> tuple[bool, tuple[Structure, ...]]:
        """Whether the structures are blocks, and which there are."""
        found: tuple[Structure, ...] = ()
        if self.structures != "channels":
            found = block_structures(space, network)
        blocks = self.structures == "blocks" or bool(found)
        if not blocks:
            found = channel_structures(space, network)
        if not found:
            kind = {"auto": "residual blocks or channels"}.get(self.structures, self.structures)
            raise MethodError(
                f"sparse_structure needs {kind} that a factor can scale, "
                f"but {space.source!r} has none"
            )
        return blocks, found

    def _free(self, space: Space) -> list[Block]:
        """The blocks without a layer that `whole` names."""
        layers = [layer for group in (*space.groups, *space.frozen) for layer in group.layers]
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


def zero_blocks(factors: Mapping[str, float]) -> list[str]:
    """Return the blocks whose factor is 0."""
    return [name for name, factor in factors.items() if factor == 0]


def cheapest_blocks(space: Space, factors: Mapping[str, float], flops: int) -> list[str]:
    """Return the blocks of smallest factor, as few as must go for at most ``flops``.

    Raises:
        BudgetError: Without any of them the network still costs more.
    """
    order = sorted(factors, key=lambda name: factors[name])  # stable: of equals the first

    def cost(count: int) -> int:
        return space.without(order[:count]).dense.flops

    # One more never adds cost: bisection is exact.
    count = bisect_left(range(len(order) + 1), True, key=lambda n: cost(n) <= flops)
    if count > len(order):
        raise BudgetError(
            f"without every block that sparse_structure may take out flops >= "
            f"{cost(len(order)):,} must hold, but the budget is {flops:,}"
        )
    return order[:count]
