"""L1-norm filter pruning.

Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", ICLR 2017, section 3.1
(one layer) and 3.3 (residual networks). Predefined: how many filters each layer keeps is given; the
criterion only says which, so nothing is trained before the weights are asked for.

A filter's score is the sum of its absolute weights; each group keeps the filters of highest score.
A group that several layers produce (a residual stream, a depthwise convolution after its pointwise
one) has one score for each channel: the sum over those layers.

Differs from the paper: residual streams and shortcuts may be cut, where the paper ranks them by
the shortcut's projection alone or leaves them whole; name such layers in `whole` to have it so.
Kept counts are rounded as the search space rounds them, not down. Channels that a grouped layer
cuts into blocks are ranked within each block. The per-layer ratios, which the paper sets by hand
after a sensitivity scan, are the search's.
"""

from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from prunenas.architecture import ChannelGroup, Space
from prunenas.methods._base import Derivation, Method, inherit_strongest, share_kept
from prunenas.methods._weights import rows
from prunenas.methods.dense import Dense


@final
class L1Norm(Method):
    """Each group keeps the filters with the largest sum of absolute weights."""

    kind: ClassVar[Literal["predefined", "automatic"]] = "predefined"
    takes_ratios: ClassVar[bool] = True
    granularity: ClassVar[Literal["channel", "block"]] = "channel"
    source: ClassVar[str] = "Li et al. 2017, Pruning Filters for Efficient ConvNets, ICLR"

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
        del seed  # nothing is drawn
        asked: float | Mapping[str, float] = 1.0 if ratios is None else ratios
        architecture = self.proportioned(dense.space, asked, flops=flops, fixed=fixed)
        return Derivation(
            architecture,
            notes={"channels_kept": share_kept(architecture, dense.space.dense)},
            inherit=lambda: inherit_strongest(dense, architecture, filter_norms),
        )


def filter_norms(space: Space, group: ChannelGroup, network: nn.Module) -> Tensor:
    """Return the sum of absolute weights behind each channel of a group.

    Returns:
        float64 of shape ``(group.width,)``: in single precision the sum of thousands of weights
        would depend on its order, and so on the device.
    """
    total = torch.zeros(group.width, dtype=torch.float64)
    for filters in rows(space, group, network):
        total += filters.double().abs().sum(dim=1)
    return total
