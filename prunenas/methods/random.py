"""Random widths: the other control, an architecture that nobody chose.

A ratio is drawn uniformly for each channel group, then all are scaled onto the FLOPs budget where
there is one. After Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019, section 5,
which asks whether found per-layer widths beat others of the same cost; as a sampler of networks
under a budget, after Radosavovic et al., "On Network Design Spaces", ICCV 2019, section 3.

Differs from the paper: neither prunes at random; the draw is ours. Scaling onto a budget keeps the
drawn proportions as far as no group passes its full width.
"""

from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, Self, final

import torch
from pydantic import Field, model_validator

from prunenas.methods._base import Derivation, Method, refuse_ratios, share_kept
from prunenas.methods.dense import Dense


@final
class Random(Method):
    """Every group keeps a random share of its channels: the control for chosen widths."""

    kind: ClassVar[Literal["predefined", "automatic"]] = "predefined"
    takes_ratios: ClassVar[bool] = False
    granularity: ClassVar[Literal["channel", "block"]] = "channel"
    source: ClassVar[str] = "Radosavovic et al. 2019, On Network Design Spaces, ICCV, sec. 3"

    low: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Smallest ratio that is drawn; at most `high`.",
        json_schema_extra={"search": {"low": 0.05, "high": 0.5}},
    )
    high: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Largest ratio that is drawn.",
        json_schema_extra={"search": {"low": 0.5, "high": 1.0}},
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low <= high must hold, but low={self.low} and high={self.high}")
        return self

    def derive(
        self,
        dense: Dense,
        *,
        ratios: Mapping[str, float] | None = None,
        flops: int | None = None,
        fixed: Collection[str] = (),
        seed: int = 0,
    ) -> Derivation:
        """Draw a ratio for each group, and scale them onto the budget; see `Method.derive`."""
        del fixed  # no ratios are given
        refuse_ratios("random", ratios)
        generator = torch.Generator().manual_seed(seed)
        groups = dense.space.groups
        shares = torch.rand(len(groups), generator=generator, dtype=torch.float64)
        drawn = {
            group.name: self.low + (self.high - self.low) * share
            for group, share in zip(groups, shares.tolist(), strict=True)
        }
        architecture = self.proportioned(dense.space, drawn, flops=flops)
        return Derivation(
            architecture,
            notes={
                "drawn": drawn,
                "channels_kept": share_kept(architecture, dense.space.dense),
            },
        )
