"""Filter pruning via the geometric median.

He, Liu, Wang, Hu, Yang, "Filter Pruning via Geometric Median for Deep Convolutional Neural Networks
Acceleration", CVPR 2019, section 3.3. Predefined: how many filters each layer keeps is given; the
criterion only says which, so nothing is trained before the weights are asked for.

The filters next to the geometric median of all filters are those that the others can replace. So a
filter's score is the sum of its distances to all filters of its layer, ``sum_j ||F_i - F_j||_2``,
and each group keeps the filters of highest score. A group that several layers produce (a residual
stream, a depthwise convolution after its pointwise one) has one score for each channel: its filters
in those layers are taken as one long vector, ``||F_i - F_j||^2 = sum_layers ||F_i - F_j||^2``.

Differs from the paper: filters are chosen once, in the trained dense network, where the paper
zeroes some after every epoch of its training and lets them grow back (as soft filter pruning does).
Residual streams may be cut. Channels that a grouped layer cuts into blocks are ranked within each
block, by their distances to all others. The layers' ratios are the search's; the paper gives all
layers the same. The section's number is from memory.
"""

from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from prunenas.architecture import ChannelGroup, Space
from prunenas.methods._base import Derivation, Method, inherit_strongest, share_kept
from prunenas.methods._weights import rows
from prunenas.methods.dense import Dense

_COLUMNS = 8192  # of weights that are turned into double precision at once: bounds the memory


@final
class FPGM(Method):
    """Each group loses the filters nearest to all others, which these can replace."""

    kind: ClassVar[Literal["predefined", "automatic"]] = "predefined"
    takes_ratios: ClassVar[bool] = True
    granularity: ClassVar[Literal["channel", "block"]] = "channel"
    source: ClassVar[str] = "He et al. 2019, Filter Pruning via Geometric Median, CVPR"

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
            inherit=lambda: inherit_strongest(dense, architecture, distance_sums),
        )


def distance_sums(space: Space, group: ChannelGroup, network: nn.Module) -> Tensor:
    """Return the sum of each channel's distances to all channels of a group.

    Returns:
        float64 of shape ``(group.width,)``.
    """
    products = torch.zeros(group.width, group.width, dtype=torch.float64)
    for filters in rows(space, group, network):
        for piece in filters.split(_COLUMNS, dim=1):
            products.addmm_(piece.double(), piece.double().T)
    squares = products.diag()
    # ||a - b||^2 = a.a + b.b - 2 a.b, which rounding may leave just below 0 for equal filters.
    distances = (squares[:, None] + squares[None, :] - 2 * products).clamp(min=0).sqrt()
    return distances.sum(dim=1)
