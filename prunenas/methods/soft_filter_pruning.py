"""Soft filter pruning.

He, Kang, Dong, Fu, Yang, "Soft Filter Pruning for Accelerating Deep Convolutional Neural Networks",
IJCAI 2018, section 3 (algorithm 1). Predefined: how many filters each layer keeps is given, so
nothing is trained before the weights are asked for. Then the dense network is trained with these
widths in mind: after each epoch the filters of smallest L2 norm are set to zero, and all of them,
the zeroed too, go on training: a filter that should not have gone grows back. What is inherited are
the filters that are not zero after the epoch of highest validation accuracy, which is measured on
the zeroed network.

A group that several layers produce (a residual stream, a depthwise convolution after its pointwise
one) has one norm for each channel: that of all weights behind it. They are zeroed together.

Differs from the paper: a layer's bias goes with its filter. Each group has its own ratio where the
paper's is the same for all, and linear layers and residual streams can be cut too; name a layer in
`whole` to leave it so. Counts are rounded as the search space rounds them, not down. Channels that
a grouped layer cuts into blocks are ranked within each. Channel selections are evenly spaced: no
filter says which they should be, and nothing is zeroed for them. Nothing is zeroed before the first
epoch, as the released code does (from memory): shifts are still 0 then, a ReLU passes no gradient
at 0, and none of these filters would ever grow back. The recipe is the study's; the form that
starts from a trained network is not offered.

As in the paper nothing but filters is zeroed: behind a normalisation a zeroed filter still comes
out as a constant, without which a ReLU would have no gradient and the filter could not grow back.
When the network is cut these constants go into the layers that read them (see ``_folding``), but
for what zero padding makes of them at borders; its accuracy before fine-tuning may lie below the
one that chose the epoch by that much.
"""

from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from prunenas.architecture import ChannelGroup, Space
from prunenas.methods._base import Derivation, Inheritance, Method, share_kept, strongest
from prunenas.methods._folding import fold
from prunenas.methods._weights import rows
from prunenas.methods.dense import Dense, Trained

_IMAGES = 64  # on which constants are measured


@final
class SoftFilterPruning(Method):
    """Filters of smallest L2 norm are zeroed after each epoch, and may grow back until the last."""

    kind: ClassVar[Literal["predefined", "automatic"]] = "predefined"
    takes_ratios: ClassVar[bool] = True
    granularity: ClassVar[Literal["channel", "block"]] = "channel"
    source: ClassVar[str] = (
        "He et al. 2018, Soft Filter Pruning for Accelerating Deep Convolutional Neural Networks, "
        "IJCAI"
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
        """Keep the given share of each group, scaled onto the budget; see `Method.derive`.

        Without ratios all groups keep the same share: all, or what the budget allows.
        """
        del seed  # nothing is drawn; the training's seed is the dense network's
        space = dense.space
        asked: float | Mapping[str, float] = 1.0 if ratios is None else ratios
        architecture = self.proportioned(space, asked, flops=flops, fixed=fixed)

        def inherit() -> Inheritance:
            state = train_softly(dense, architecture.widths).state
            network = dense.network()
            network.load_state_dict(state)
            kept = {
                group.name: longest(space, group, network, architecture.widths[group.name])
                for group in space.groups
            }
            kept |= space.selected(architecture)
            images, _ = next(iter(dense.data.train.batches(_IMAGES)))
            fold(space, network, kept, images.cpu())
            rebuilt = {name: value.detach().clone() for name, value in network.state_dict().items()}
            return Inheritance(kept, space.inherit(rebuilt, kept), rebuilt)

        return Derivation(
            architecture,
            notes={"channels_kept": share_kept(architecture, space.dense)},
            inherit=inherit,
        )


def train_softly(dense: Dense, widths: Mapping[str, int]) -> Trained:
    """Train the dense network, zeroing all but ``widths`` filters of each group after each epoch.

    Returns:
        The zeroed network after its best epoch, and that epoch's metrics.

    Raises:
        TrainingError: The training can't go on, with its reason.
    """
    space = dense.space
    share = sum(widths.values()) / sum(group.width for group in space.groups)
    return dense.train(
        after_epoch=lambda network, epoch: zero_shortest(space, network, widths),
        keep_best=True,
        key={"method": "soft_filter_pruning", "widths": dict(widths)},
        what=f"soft_filter_pruning ({share:.1%} of channels)",
    )


@torch.no_grad()
def zero_shortest(space: Space, network: nn.Module, widths: Mapping[str, int]) -> None:
    """Zero each group's filters of smallest L2 norm, in place; ``widths`` of them stay."""
    for group in space.groups:
        if widths[group.name] == group.width or not space.producers(group.name):
            continue
        gone = torch.ones(group.width, dtype=torch.bool)
        gone[longest(space, group, network, widths[group.name])] = False
        for part in space.producers(group.name):
            entries = part.start + gone.repeat_interleave(part.repeat).nonzero().flatten()
            _zero_rows(network.get_submodule(part.layer), entries)


def longest(space: Space, group: ChannelGroup, network: nn.Module, width: int) -> Tensor:
    """Return the ``width`` channels of a group with the largest L2 norms; see `strongest`."""
    return strongest(filter_lengths(space, group, network), width, group.divisor)


def filter_lengths(space: Space, group: ChannelGroup, network: nn.Module) -> Tensor:
    """Return the L2 norm of all weights that make each channel of a group, biases left out.

    Returns:
        float64 of shape ``(group.width,)`` on the CPU.
    """
    total = torch.zeros(group.width, dtype=torch.float64)
    for weights in rows(space, group, network):
        total += weights.double().square().sum(dim=1).cpu()
    return total.sqrt()


def _zero_rows(layer: nn.Module, entries: Tensor) -> None:
    """Zero a layer's weights and biases behind these outputs."""
    weight = layer.get_parameter("weight")
    entries = entries.to(weight.device)
    if getattr(layer, "transposed", False):
        # (in, out / groups, ...): a block of inputs holds the rows of its own outputs.
        blocks, size = int(getattr(layer, "groups", 1)), weight.shape[1]
        split = weight.view(blocks, weight.shape[0] // blocks, *weight.shape[1:])
        split[entries // size, :, entries % size] = 0.0
    else:
        weight[entries] = 0.0
    bias = getattr(layer, "bias", None)
    if bias is not None:
        bias[entries] = 0.0
