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
each would undo what was scaled before it. A group's factor acts there as well, within its branch. A
convolution that loses its last group takes its residual branch with it, as in the paper; what the
layers behind it made of nothing (the shift of the branch's last normalisation) goes too, so that
there the smaller network computes something else until it is trained. Outside of residual branches
a convolution keeps its largest group, and any channel group its largest channel; those of grouped
convolutions lose as many of each group. What ``whole`` names is trained with factors, too, and
stays.
"""

from collections.abc import Callable, Collection, Mapping
from fnmatch import fnmatchcase
from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import nn

from prunenas.architecture import Block, Space
from prunenas.architecture.paths import grouped_paths
from prunenas.errors import MethodError
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
from prunenas.methods._structure_cuts import (
    holds,
    without_blocks,
    without_channels,
    without_groups,
)
from prunenas.methods.dense import Dense

Kind = Literal["blocks", "groups", "channels"]


@final
class SparseStructure(Method):
    """Residual branches, groups or channels whose trained factor comes to zero are taken out."""

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
        json_schema_extra={"search": {"low": 1e-3, "high": 3e-2, "log": True}},
    )
    structures: Literal["auto", Kind] = Field(
        "auto",
        description=(
            "What is taken out: residual blocks, groups of grouped convolutions, or channels; "
            "auto: groups where residual branches have such convolutions (ResNeXt), blocks in "
            "other residual networks, else channels."
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
            cut = without_blocks(space, free, flops)
        elif kind == "groups":
            own = {p.layer: {p.inputs, p.outputs} for p in grouped_paths(space)}
            paths = {name: factors[name] for name in factors if not own[name] & held}
            cut = without_groups(space, paths, self._free(space), flops)
        else:
            scores = {name: factors[name] for name in factors if name not in held}
            cut = without_channels(space, scores, flops)

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
        elif any(holds(b, p.layer) for b in space.blocks for p in grouped_paths(space)):
            asked = ("groups", *asked)
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
        return [block for block in space.blocks if not any(holds(block, layer) for layer in named)]


_FIND: Mapping[Kind, Callable[[Space, nn.Module], tuple[Structure, ...]]] = {
    "blocks": block_structures,
    "groups": path_structures,
    "channels": channel_structures,
}
