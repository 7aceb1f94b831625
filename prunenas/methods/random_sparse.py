"""Random sparse networks: the control for masks that were chosen.

Each layer's density is given, by one of two rules, and which of its weights are left is drawn.
After Evci, Gale, Menick, Castro, Elsen, "Rigging the Lottery: Making All Tickets Winners", ICML
2020, section 3 (from memory), whose static sparse training it is: ``uniform`` is the same density
for every layer, ``erk`` (Erdős–Rényi-kernel) more for small layers. Predefined: nothing is trained
for it, and the masks follow from density and seed alone.

Differs from the paper: the first layer is not left whole under ``uniform``; name it in ``whole`` to
have it so. A layer never loses its last weight.
"""

from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, final

import torch
from pydantic import Field

from prunenas.methods._base import Derivation, Granular, Method, refuse_ratios
from prunenas.methods._weight_level import (
    Layers,
    costs_of,
    masked_budget,
    masks_for,
    prunable,
    sparse_architecture,
)
from prunenas.methods.dense import Dense


@final
class RandomSparse(Method):
    """Random weights of each layer are left: the control for chosen masks."""

    kind: ClassVar[Literal["predefined", "automatic"]] = "predefined"
    takes_ratios: ClassVar[bool] = False
    granularity: ClassVar[Granular] = "weight"
    source: ClassVar[str] = (
        "Evci et al. 2020, Rigging the Lottery: Making All Tickets Winners, ICML"
    )

    density: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Share of the weights to keep; a FLOPs budget takes its place.",
        json_schema_extra={
            "search": {"low": 0.02, "high": 0.5, "log": True},
            "replaced_by_budget": True,
        },
    )
    distribution: Literal["uniform", "erk"] = Field(
        "erk",
        description="How that is spread: the same share of each layer, or more of small ones.",
        json_schema_extra={"search": {"choices": ["erk", "uniform"]}},
    )
    layers: Layers = Field(
        "convolutions",
        description="Which layers lose weights: convolutions, or linear layers as well.",
        json_schema_extra={"search": {"choices": ["all", "convolutions"]}},
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
        """Draw each layer's weights, at the density or onto the budget; see `Method.derive`."""
        del fixed  # no ratios are given
        refuse_ratios("random_sparse", ratios)
        space = dense.space
        weights = prunable(space, dense.network(), self.layers, self.whole)
        costs = costs_of(space, weights, "weight")
        generator = torch.Generator().manual_seed(seed)
        drawn = {
            name: torch.rand(weight.shape, generator=generator) for name, weight in weights.items()
        }
        keep = masks_for(
            drawn,
            costs,
            self.distribution,
            density=self.density,
            budget=None if flops is None else masked_budget(space, costs, drawn, flops),
            shapes={name: tuple(weight.shape) for name, weight in weights.items()},
        )
        architecture = sparse_architecture(space, keep)
        return Derivation(architecture, notes={"density": architecture.density})
