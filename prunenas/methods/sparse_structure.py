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
until the network is within it; of equals the first in the forward pass goes first.

Differs from the paper: the cut at 0 in the last line is the released code's. Momentum is the
recipe's. A residual branch's factor is applied, and multiplied in, at its last normalisation,
convolution or linear layer; branches that end in something else have none. A channel's factor is
shared by all layers that make it (a residual stream) and acts behind the normalisation that follows
them; channels that other layers normalise again (pre-activation streams, concatenated features)
have none, since a normalisation would undo it. Groups of a grouped convolution can't be taken out
one by one: its channels are, as many of each group. A channel group never loses its last channel.
"""

import math
from bisect import bisect_left
from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from prunenas.architecture import Space
from prunenas.errors import BudgetError, MethodError
from prunenas.methods._base import (
    Derivation,
    Inheritance,
    Method,
    refuse_ratios,
    share_kept,
    strongest,
)
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
from prunenas.methods.dense import Dense

Structures = Literal["auto", "blocks", "channels"]


@final
class SparseStructure(Method):
    """Residual branches or channels whose trained factor comes to zero are taken out."""

    kind: ClassVar[Literal["predefined", "automatic"]] = "automatic"
    takes_ratios: ClassVar[bool] = False
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
        ranking = _Ranking(space, blocks, factors)
        count = ranking.zeros if flops is None else ranking.within(flops)
        rest, widths = ranking.cut(count)
        kept = {
            group.name: strongest(factors[group.name], widths[group.name], group.divisor)
            for group in rest.groups
            if group.name in widths
        }
        architecture = rest.architecture(widths=widths, kept=kept)

        def inherit() -> Inheritance:
            network = dense.network()
            network.load_state_dict(without_factors(trained.state))
            fold(network, found, factors)
            return Inheritance(kept, rest.inherit(network.state_dict(), kept))

        return Derivation(
            architecture,
            notes={
                "structures": "blocks" if blocks else "channels",
                "factors": sum(structure.size for structure in found),
                "factors_at_zero": ranking.zeros,
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
            kind = {"auto": "residual branches or channels"}.get(self.structures, self.structures)
            raise MethodError(
                f"sparse_structure needs {kind} that a factor can scale, "
                f"but {space.source!r} has none"
            )
        return blocks, found


class _Ranking:
    """All structures in the order in which they go: by their factors, of equals the first."""

    def __init__(self, space: Space, blocks: bool, factors: Mapping[str, Tensor]) -> None:
        self._space, self._blocks, self._factors = space, blocks, factors
        self._owners = [name for name, values in factors.items() for _ in values]
        every = torch.cat(list(factors.values()))
        self._order = every.argsort(stable=True).tolist()
        self.zeros = int((every == 0).sum())

    def cut(self, count: int) -> tuple[Space, dict[str, int]]:
        """The space and the widths in it when the first ``count`` structures are gone.

        Widths are those of groups with factors alone, rounded up to the divisor and never 0.
        """
        gone = [self._owners[index] for index in self._order[:count]]
        if self._blocks:
            return self._space.without(gone), {}
        left = {name: len(values) - gone.count(name) for name, values in self._factors.items()}
        return self._space, {
            group.name: max(1, math.ceil(left[group.name] / group.divisor)) * group.divisor
            for group in self._space.groups
            if group.name in left
        }

    def within(self, flops: int) -> int:
        """How few structures must go for a network of at most ``flops``.

        Raises:
            BudgetError: Without all of them it still costs more.
        """

        def cost(count: int) -> int:
            rest, widths = self.cut(count)
            return rest.flops(widths)

        # One more never adds cost: bisection is exact.
        count = bisect_left(range(len(self._order) + 1), True, key=lambda n: cost(n) <= flops)
        if count > len(self._order):
            what = "all blocks it can take out" if self._blocks else "a channel in every group"
            verb = "without" if self._blocks else "with"
            raise BudgetError(
                f"sparse_structure leaves at least the network {verb} {what}, so flops >= "
                f"{cost(len(self._order)):,} must hold, but the budget is {flops:,}"
            )
        return count
