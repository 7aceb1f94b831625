"""Uniform width scaling: every channel group keeps the same share of its channels.

The control that a found architecture has to beat: Liu et al., "Rethinking the Value of Network
Pruning", ICLR 2019, section 5 ("uniformly pruned"); the width multiplier of Howard et al.,
"MobileNets", 2017, section 3.3.

Differs from the paper: widths are rounded to the group's divisor, and with a FLOPs budget the
groups differ by the single channels that meet it best.
"""

from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, final

from pydantic import Field

from prunenas.methods._base import Derivation, Method, refuse_ratios, share_kept
from prunenas.methods.dense import Dense


@final
class Uniform(Method):
    """Every group keeps the same share of its channels: the control for found architectures."""

    kind: ClassVar[Literal["predefined", "automatic"]] = "predefined"
    takes_ratios: ClassVar[bool] = False
    granularity: ClassVar[Literal["channel", "block"]] = "channel"
    source: ClassVar[str] = "Liu et al. 2019, Rethinking the Value of Network Pruning, ICLR, sec. 5"

    ratio: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of channels every group keeps; a FLOPs budget takes its place.",
        json_schema_extra={"search": {"low": 0.1, "high": 1.0}, "replaced_by_budget": True},
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
        """Scale all groups by ``ratio``, or onto the budget; see `Method.derive`."""
        del fixed, seed  # no ratios are given, nothing is drawn
        refuse_ratios("uniform", ratios)
        ratio = self.ratio if flops is None else 1.0
        architecture = self.proportioned(dense.space, ratio, flops=flops)
        return Derivation(
            architecture, notes={"channels_kept": share_kept(architecture, dense.space.dense)}
        )
