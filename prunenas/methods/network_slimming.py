"""Network Slimming.

Liu, Li, Shen, Huang, Yan, Zhang, "Learning Efficient Convolutional Networks through Network
Slimming", ICCV 2017, section 3. Automatic: the dense network is trained with an L1 penalty on the
scales (gamma) of its normalisation layers, by sub-gradient: ``sparsity * sign(gamma)`` is added to
their gradient at every step, on top of ordinary weight decay, and is not part of the reported loss.
Then one threshold is set over all scales of the network: of ``total`` of them in ascending order
it is the one at index ``int(total * (1 - keep))``, and a channel is kept iff its scale is above it
in size. The per-group widths follow.

With a FLOPs budget the threshold is bisected instead: the smallest one whose network is within it.
Equal scales (those of channels that died alike, say) go together, so a budget is met to the channel
only where no scales are equal.

A group whose channels pass through several normalisation layers (a residual stream, concatenated
features) counts each channel once, by the largest of its scales: a channel goes when each of those
layers alone would let it go.

A network with channel selection layers (``preresnet164``, ``densenet40``) keeps its streams whole
and selects after each normalisation, as the paper's do.

Differs from the paper: the residual streams of other networks can be cut. A group never loses its
last channel (for a group with a divisor: the last of each block), where the paper's network can no
longer be built. Kept counts are rounded up to the divisor. Layers whose scales no decision reads
(those of frozen groups) are neither penalised nor initialised; scales of layer and group
normalisation count as batch normalisation's. Groups without a normalisation layer stay full. Those
of `whole` do, too: they are trained like any other, and no threshold counts their scales. ``keep =
1`` keeps all, where the paper's rule loses the smallest.
"""

from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from prunenas.architecture import Space
from prunenas.errors import MethodError
from prunenas.methods._base import Derivation, Inheritance, Method, refuse_ratios, share_kept
from prunenas.methods._ranking import (
    budget_threshold,
    global_threshold,
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
        if flops is None:
            threshold = global_threshold(scores, self.keep)
        else:
            threshold = budget_threshold(space, scores, flops)
        widths = widths_above(space, scores, threshold)
        kept = ranked_channels(space, scores, widths)
        architecture = space.architecture(widths=widths, kept=kept)

        def inherit() -> Inheritance:
            return Inheritance(kept, space.inherit(trained.state, kept))

        return Derivation(
            architecture,
            notes={
                "threshold": threshold,
                "channels_kept": share_kept(architecture, space.dense),
                "dense_accuracy": trained.validation.accuracy,
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
