"""Guided sparsifying: masks drawn from the patterns that pruned networks have.

Liu, Sun, Zhou, Huang, Darrell, "Rethinking the Value of Network Pruning", ICLR 2019, section 5. In
networks whose smallest weights were dropped, the middle of a 3 x 3 kernel survives more often than
its corners, and each stage has a density of its own. ``maps`` has for each stage the share of the
kernels in which each place is left (``prunenas patterns`` writes it); here each kernel's places are
drawn with these probabilities. Predefined: nothing is trained, and the network may be another one
than the maps come from (the paper's "transferred guided").

A density or a FLOPs budget multiplies all probabilities by one factor: a place of probability p is
kept where a uniform number u is below factor x p, so that the weights of largest p / u are kept, as
many as are asked for. That meets both to the weight.

Differs from the paper: which of its stages a map is for, and how other kernels than 3 x 3 are
filled, the paper doesn't say. Stages are matched in order from the first to the last that has
convolutions; with fewer or more of them, the nearest. Kernels of other sizes keep each weight with
their stage's mean; linear layers lose weights with ``layers: all`` only, with the mean of the last
stage before them. A layer never loses its last weight.
"""

from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar, Literal, Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor

from prunenas.architecture import Space
from prunenas.errors import MethodError
from prunenas.methods._base import Derivation, Granular, Method, refuse_ratios
from prunenas.methods._positions import draw, matched, stages
from prunenas.methods._weight_level import (
    Layers,
    costs_of,
    masked_budget,
    masks_for,
    prunable,
    sparse_architecture,
)
from prunenas.methods.dense import Dense

Share = Annotated[float, Field(ge=0, le=1)]
Row = tuple[Share, Share, Share]
Places = tuple[Row, Row, Row]

KERNEL = (3, 3)
_DENSITY = 0.1  # without maps, that of the other methods


@final
class GuidedSparse(Method):
    """Each kernel's places are drawn as often as they survive in pruned networks."""

    kind: ClassVar[Literal["predefined", "automatic"]] = "predefined"
    takes_ratios: ClassVar[bool] = False
    granularity: ClassVar[Granular] = "weight"
    source: ClassVar[str] = "Liu et al. 2019, Rethinking the Value of Network Pruning, ICLR"

    maps: tuple[Places, ...] = Field(
        (),
        description=(
            "For each stage a 3 x 3 list of the shares of kernels that keep each place, in [0, 1]; "
            "in a study a file of them, which `prunenas patterns` writes. All places alike "
            "without it."
        ),
        json_schema_extra={"file": True},
    )
    density: float | None = Field(
        None,
        gt=0,
        le=1,
        description=(
            "Share of the weights to keep; a FLOPs budget takes its place. Without it as the maps "
            "say, or 0.1 without maps."
        ),
        json_schema_extra={
            "search": {"low": 0.02, "high": 0.5, "log": True},
            "replaced_by_budget": True,
        },
    )
    layers: Layers = Field(
        "convolutions",
        description="Which layers lose weights: convolutions, or linear layers as well.",
        json_schema_extra={"search": {"choices": ["all", "convolutions"]}},
    )

    @model_validator(mode="after")
    def _something_survives(self) -> Self:
        for stage, places in enumerate(self.maps):
            if not any(map(any, places)):
                raise ValueError(
                    f"every map must keep a place, but maps[{stage}] has nothing above 0"
                )
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
        """Draw each kernel's places, at the density or onto the budget; see `Method.derive`.

        Raises:
            MethodError: The density is larger than the share of places that the maps ever keep.
        """
        del fixed  # no ratios are given
        refuse_ratios("guided_sparse", ratios)
        space = dense.space
        weights = prunable(space, dense.network(), self.layers, self.whole)
        chances = self._chances(space, weights)
        generator = torch.Generator().manual_seed(seed)
        drawn = {
            name: torch.rand(weight.shape, generator=generator, dtype=torch.float64)
            for name, weight in weights.items()
        }
        shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
        density = self.density if self.density or self.maps else _DENSITY
        if flops is None and density is None:
            keep = draw(shapes, chances, 1.0, drawn)
        else:
            # A larger factor keeps all that a smaller one does, first what is largest here.
            order = {name: chances[name] / drawn[name].clamp(min=1e-300) for name in weights}
            costs = costs_of(space, weights, "weight")
            possible = {name: (chances[name] > 0).expand(shapes[name]) for name in weights}
            if flops is None:
                _check(density or 0.0, possible)
            keep = masks_for(
                order,
                costs,
                "global",
                density=density or 1.0,
                budget=None if flops is None else masked_budget(space, costs, order, flops),
                shapes=shapes,
            )
            # A budget may have room for more than the maps ever keep.
            keep = {name: kept & possible[name] for name, kept in keep.items()}
        architecture = sparse_architecture(space, keep)
        return Derivation(architecture, notes={"density": architecture.density})

    def _chances(self, space: Space, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """For each weight the probabilities of its places, float64 that expands to its shape."""
        of = stages(space)
        layers = {name: name.removesuffix(".weight") for name in weights}
        known = sorted({of[layers[name]] for name, weight in weights.items() if weight.dim() > 2})
        if not self.maps or not known:  # of linear layers alone: one stage, the last
            known = known or [0]
        given = self.maps or (((1.0, 1.0, 1.0),) * 3,)
        maps = dict(enumerate(torch.tensor(each, dtype=torch.float64) for each in given))
        by_stage = dict(zip(known, matched(maps, len(known)), strict=True))
        found = {}
        for name, weight in weights.items():
            before = [stage for stage in known if stage <= of[layers[name]]]
            places = by_stage[before[-1] if before else known[0]]
            found[name] = places if tuple(weight.shape[2:]) == KERNEL else places.mean()
        return found


def _check(density: float, possible: Mapping[str, Tensor]) -> None:
    most = sum(int(each.sum()) for each in possible.values())
    total = sum(each.numel() for each in possible.values())
    if round(density * total) > most:
        raise MethodError(
            f"`density <= {most / total:.4g}` must hold, the share of places that the maps ever "
            f"keep, but it is {density:g}"
        )
