"""Network Slimming.

Liu, Li, Shen, Huang, Yan, Zhang, "Learning Efficient Convolutional Networks through Network
Slimming", ICCV 2017, section 3. Automatic: the dense network is trained with an L1 penalty on the
scales (gamma) of its normalisation layers, by sub-gradient: ``sparsity * sign(gamma)`` is added to
their gradient at every step, on top of ordinary weight decay, and is not part of the reported loss.
Then one threshold is set over all scales of the network: of ``total`` of them in ascending order
it is the one at index ``int(total * (1 - keep))``, and a channel is kept iff its scale is above it
in size. The per-group widths follow.

With a FLOPs budget the threshold is bisected instead: the smallest one whose network is within it.
What it leaves of the budget, where equal scales go together, is used up as ``_ranking`` says.

A group whose channels pass through several normalisation layers (a residual stream, concatenated
features) counts each channel once, by the largest of its scales: a channel goes when each of those
layers alone would let it go.

A network with channel selection layers (``preresnet164``, ``densenet40``) keeps its streams whole
and selects after each normalisation, as the paper's do.

A layer all of whose channels are below the threshold keeps its strongest one (with a divisor: one
of each block), where the paper's network can no longer be built and the authors advise a mask. With
``empty: drop`` a residual branch with such a layer is taken out instead, which is what the mask
comes to: nothing of the stream passes through it any more. The constant that its later shifts may
still add goes with it, so weights that are inherited then compute the same only up to such
constants. Outside of residual branches there is no network without the layer.

Differs from the paper: the residual streams of other networks can be cut. Kept counts are rounded
up to the divisor. Layers whose scales no decision reads (those of frozen groups) are neither
penalised nor initialised; scales of layer and group normalisation count as batch normalisation's.
Groups without a normalisation layer stay full. Those of `whole` do, too: they are trained like any
other, and no threshold counts their scales. ``keep = 1`` keeps all, where the paper's rule loses
the smallest.
"""

from bisect import bisect_left
from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from prunenas.architecture import Space
from prunenas.errors import BudgetError, MethodError
from prunenas.methods._base import Derivation, Inheritance, Method, refuse_ratios, share_kept
from prunenas.methods._ranking import (
    BELOW_ALL,
    Scores,
    budget_threshold,
    global_threshold,
    nearest,
    ranked_channels,
    widths_above,
)
from prunenas.methods.dense import Dense


@final
class NetworkSlimming(Method):
    """Channels with the smallest normalisation scales of a sparsely trained network go."""

    kind: ClassVar[Literal["predefined", "automatic"]] = "automatic"
    takes_ratios: ClassVar[bool] = False
    granularity: ClassVar[Literal["channel", "block"]] = "channel"
    source: ClassVar[str] = (
        "Liu et al. 2017, Learning Efficient Convolutional Networks through Network Slimming, ICCV"
    )

    keep: float = Field(
        0.5,
        gt=0,
        le=1,
        description=(
            "Share of the network's channels to keep, 1 - the paper's percent; "
            "a FLOPs budget takes its place."
        ),
        json_schema_extra={"search": {"low": 0.1, "high": 0.9}, "replaced_by_budget": True},
    )
    sparsity: float = Field(
        1e-4,
        ge=0,
        description=(
            "Weight of the L1 penalty on the scales (the paper's lambda). "
            "Each value costs a training of the dense network; `keep` and budgets cost none."
        ),
        json_schema_extra={"search": {"low": 1e-5, "high": 1e-2, "log": True}},
    )
    scale_init: float = Field(
        0.5,
        gt=0,
        description="What the scales start at, in the dense network. The paper's is 0.5.",
        json_schema_extra={"search": {"low": 0.25, "high": 1.0}},
    )
    empty: Literal["keep", "drop"] = Field(
        "keep",
        description=(
            "What becomes of a residual branch with a layer that would lose all its channels: "
            "the layer keeps its strongest channel, or the branch is dropped."
        ),
        json_schema_extra={"search": {"choices": ["drop", "keep"]}},
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
        """Train with the penalty, set the threshold, count what is left; see `Method.derive`."""
        del fixed, seed  # no ratios are given; the dense network's own seed is all there is
        refuse_ratios("network_slimming", ratios)
        space = dense.space
        held = self.held(space)
        layers = scale_layers(space, dense.network())
        if not layers:
            raise MethodError(
                "network_slimming needs normalisation scales over a free channel group, "
                f"but {space.source!r} has none"
            )
        trained = dense.train(
            prepare=lambda network: set_scales(network, layers, self.scale_init),
            penalty=lambda network, lr: add_subgradient(network, layers, self.sparsity),
            key={
                "method": "network_slimming",
                "sparsity": self.sparsity,
                "scale_init": self.scale_init,
            },
            what=f"network_slimming (sparsity {self.sparsity:g})",
        )
        scales = channel_scales(space, trained.state)
        scores = {name: scales[name] for name in scales if name not in held}
        droppable = droppable_branches(space, held) if self.empty == "drop" else {}
        if flops is None:
            threshold = global_threshold(scores, self.keep)
        elif droppable:
            threshold = dropping_threshold(space, scores, droppable, flops)
        else:
            threshold = budget_threshold(space, scores, flops)
        rest = space.without(empty_branches(scores, droppable, threshold))
        widths = widths_above(rest, scores, threshold)
        if flops is not None:
            left = {group.name: scores[group.name] for group in rest.groups if group.name in scores}
            widths = nearest(rest, left, widths, flops)
        kept = ranked_channels(rest, scores, widths)
        architecture = rest.architecture(widths=widths, kept=kept)

        def inherit() -> Inheritance:
            return Inheritance(kept, rest.inherit(trained.state, kept))

        return Derivation(
            architecture,
            notes={
                "threshold": threshold,
                "channels_kept": share_kept(architecture, space.dense),
                "dense_accuracy": trained.validation.accuracy,
                "branches_dropped": list(architecture.removed),
                "groups_without_scale": [g.name for g in space.groups if g.name not in scales],
            },
            inherit=inherit,
        )


def scale_layers(space: Space, network: nn.Module) -> tuple[str, ...]:
    """Return the names of the normalisation layers whose scales decide over a free group."""
    names = dict.fromkeys(part.layer for group in space.groups for part in space.norms(group.name))
    scaled = {name.removesuffix(".weight") for name, _ in network.named_parameters()}
    return tuple(name for name in names if name in scaled)  # a layer may be without scales


def set_scales(network: nn.Module, layers: tuple[str, ...], value: float) -> None:
    """Start the scales of these layers at ``value``."""
    for layer in layers:
        nn.init.constant_(network.get_parameter(f"{layer}.weight"), value)


def add_subgradient(network: nn.Module, layers: tuple[str, ...], sparsity: float) -> None:
    """Add the sub-gradient of ``sparsity * sum |gamma|`` to the scales' gradients; 0 at 0."""
    for layer in layers:
        scale = network.get_parameter(f"{layer}.weight")
        if scale.grad is not None:
            scale.grad.add_(scale.detach().sign(), alpha=sparsity)


def channel_scales(space: Space, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``|gamma|`` of each channel, the largest where several layers normalise it.

    Returns:
        float64 of shape ``(group width,)`` for each free group that is normalised, in the order
        of the forward pass.
    """
    scores: dict[str, Tensor] = {}
    for group in space.groups:
        parts = [
            state[f"{part.layer}.weight"][part.start : part.start + group.width * part.repeat]
            .double()
            .abs()
            .reshape(group.width, part.repeat)
            .amax(dim=1)
            for part in space.norms(group.name)
            if f"{part.layer}.weight" in state
        ]
        if parts:
            scores[group.name] = torch.stack(parts).amax(dim=0)
    return scores


def droppable_branches(space: Space, held: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """Return by residual branch the groups that live in it alone; not where one is held.

    Args:
        space: Of the dense network.
        held: Groups that must stay whole.
    """
    found = {}
    for block in space.blocks:
        own = tuple(
            group.name
            for group in space.groups
            if all(
                any(layer == module or layer.startswith(f"{module}.") for module in block.modules)
                for layer in group.layers
            )
        )
        if own and not held & set(own):
            found[block.name] = own
    return found


def empty_branches(
    scores: Scores, branches: Mapping[str, tuple[str, ...]], threshold: float
) -> list[str]:
    """Return the branches with a group none of whose channels is above the threshold."""
    return [
        branch
        for branch, groups in branches.items()
        if any(name in scores and not bool((scores[name] > threshold).any()) for name in groups)
    ]


def dropping_threshold(
    space: Space, scores: Scores, branches: Mapping[str, tuple[str, ...]], flops: int
) -> float:
    """Return the smallest threshold whose network costs at most ``flops``, empty branches dropped.

    Raises:
        BudgetError: Even the narrowest network costs more.
    """
    values = {value for score in scores.values() for value in score.tolist()}
    candidates: list[float] = [BELOW_ALL, *sorted(values)]

    def cost(threshold: float) -> int:
        rest = space.without(empty_branches(scores, branches, threshold))
        return rest.flops(widths_above(rest, scores, threshold))

    # A higher threshold never adds a channel or a branch: bisection is exact.
    index = bisect_left(candidates, True, key=lambda threshold: cost(threshold) <= flops)
    if index == len(candidates):
        raise BudgetError(
            f"network_slimming leaves a channel in every group outside of residual branches, "
            f"so flops >= {cost(candidates[-1]):,} must hold, but the budget is {flops:,}"
        )
    return candidates[index]
