"""Random sparse networks: the control for masks that were chosen.

Each layer's density is given, by one of two rules, and which of its weights are left is drawn.
After Evci, Gale, Menick, Castro, Elsen, "Rigging the Lottery: Making All Tickets Winners", ICML
2020, section 3 (from memory), whose static sparse training it is: ``uniform`` is the same density
for every layer, ``erk`` (Erdős–Rényi-kernel) more for small layers. Predefined: nothing is trained
for it, and the masks follow from density and seed alone. A study may search the density of each
layer instead; a FLOPs budget then scales all of them by one factor.

Differs from the paper: the first layer is not left whole under ``uniform``; name it in ``whole`` to
have it so. A layer never loses its last weight.
"""

from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, final

import torch
from pydantic import Field

from prunenas.architecture import Space
from prunenas.methods._base import Derivation, Granular, Method
from prunenas.methods._densities import given, layers_of, scaled
from prunenas.methods._weight_level import (
    Layers,
    costs_of,
    masked_budget,
    masks_for,
    per_layer,
    prunable,
    sparse_architecture,
)
from prunenas.methods.dense import Dense


@final
class RandomSparse(Method):
    """Random weights of each layer are left: the control for chosen masks."""

    kind: ClassVar[Literal["predefined", "automatic"]] = "predefined"
    takes_ratios: ClassVar[bool] = False
    takes_densities: ClassVar[bool] = True
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
            "replaced_by_densities": True,
        },
    )
    distribution: Literal["uniform", "erk"] = Field(
        "erk",
        description="How that is spread: the same share of each layer, or more of small ones.",
        json_schema_extra={
            "search": {"choices": ["erk", "uniform"]},
            "replaced_by_densities": True,
        },
    )
    layers: Layers = Field(
        "convolutions",
        description="Which layers lose weights: convolutions, or linear layers as well.",
        json_schema_extra={
            "search": {"choices": ["all", "convolutions"]},
            "decides_densities": True,
        },
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
        space = dense.space
        weights = prunable(space, dense.network(), self.layers, self.whole)
        costs = costs_of(space, weights, "weight")
        generator = torch.Generator().manual_seed(seed)
        drawn = {
            name: torch.rand(weight.shape, generator=generator) for name, weight in weights.items()
        }
        budget = None if flops is None else masked_budget(space, costs, drawn, flops)
        if ratios is not None:
            densities = given(self, space, ratios, weights)
            if budget is not None:
                counts = {name: weight.numel() for name, weight in weights.items()}
                densities = scaled(densities, counts, costs, budget, fixed)
            keep = per_layer(drawn, densities)
        else:
            keep = masks_for(
                drawn,
                costs,
                self.distribution,
                density=self.density,
                budget=budget,
                shapes={name: tuple(weight.shape) for name, weight in weights.items()},
            )
        architecture = sparse_architecture(space, keep)
        return Derivation(architecture, notes={"density": architecture.density})

    def density_layers(self, space: Space) -> dict[str, int]:
        """Return the layers that lose weights, each with its stage; see `Method`."""
        return layers_of(space, self.layers, self.whole)
