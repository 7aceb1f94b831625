"""Where pruned networks keep much, and networks built from that: guided and transferred ones.

Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019, section 5. In networks that were
pruned automatically, layers of one stage (one resolution) keep similar shares, and stages differ.
The mean share of each stage over several networks is a *pattern*; a network whose layers all keep
their stage's share is *guided* by it, and *transferred guided* where the pattern comes from another
network or other data. Both are trained from scratch and need no pruning.

Of networks with weight masks the shares are of weights, and each stage has a map besides: the share
of its 3 x 3 kernels that keep each place. A guided network's kernels are drawn by the maps
(``methods.guided_sparse``).

The spread of a pattern says how unevenly stages are pruned. It is what the paper goes by where it
says when search is worth its price: PreResNet-164, whose stages keep 80 to 97 %, has one of 0.09,
and uniform widths did as well; VGG-19, which keeps 85 % and more of its first three stages and 15
to 30 % of its last two, one of 0.5, and they did not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, pstdev, stdev
from typing import Any, Literal

from prunenas.architecture import Architecture, Space
from prunenas.methods import METHODS, Dense, mean_maps, survival_maps

Places = tuple[tuple[float, ...], ...]
"""The share of kernels that keep each place, rows of columns."""

EVEN, UNEVEN = 0.1, 0.3
"""Spreads below the first are even, above the second uneven: a rule of thumb between the paper's
two cases, not a test."""

_LEAST = 1e-3  # a stage that kept nothing keeps as little as there is


@dataclass(frozen=True)
class Pattern:
    """What several architectures of one network keep.

    Attributes:
        of: What shares are of, ``"channels"`` or ``"weights"``.
        parts: Mean share by channel group, or by layer that may lose weights.
        part_deviations: Standard deviation of these over architectures, n - 1 in the variance; 0
            of a single one.
        stages: Mean share by stage: of its parts' means.
        stage_deviations: Standard deviation of a stage's share over architectures, likewise.
        spreads: Standard deviation of the shares of a stage's parts, over parts and architectures.
        n: How many architectures.
        maps: Of weights, by stage the share of 3 x 3 kernels that keep each place; empty where no
            layer has such kernels.
        linear: Whether linear layers lost weights too.
    """

    of: Literal["channels", "weights"]
    parts: Mapping[str, float]
    part_deviations: Mapping[str, float]
    stages: Mapping[int, float]
    stage_deviations: Mapping[int, float]
    spreads: Mapping[int, float]
    n: int
    maps: Mapping[int, Places] = field(default_factory=dict)
    linear: bool = False

    @property
    def spread(self) -> float:
        """How unevenly stages are pruned: their standard deviation over their mean.

        0 where all stages keep the same share: then a uniform network is the pattern, and search
        has nothing to find between layers that uniform pruning does not have.
        """
        shares = list(self.stages.values())
        return pstdev(shares) / fmean(shares) if any(shares) else 0.0

    @property
    def prediction(self) -> str:
        """What the spread says about search against uniform, in a plain sentence."""
        if self.spread < EVEN:
            return "stages keep nearly the same share: search is not expected to beat uniform here"
        if self.spread > UNEVEN:
            return "stages are pruned unevenly: search may beat uniform here"
        return "stages differ somewhat: the spread does not say whether search beats uniform here"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "of": self.of,
            "n": self.n,
            "spread": self.spread,
            "prediction": self.prediction,
            "stages": [
                {
                    "stage": stage,
                    "mean": share,
                    "standard_deviation": self.stage_deviations[stage],
                    "within": self.spreads[stage],
                }
                for stage, share in self.stages.items()
            ],
            "parts": [
                {"name": name, "mean": share, "standard_deviation": self.part_deviations[name]}
                for name, share in self.parts.items()
            ],
            "maps": {str(stage): [list(row) for row in rows] for stage, rows in self.maps.items()},
        }


def pattern(space: Space, architectures: Sequence[Architecture]) -> Pattern:
    """Return what architectures keep of their dense network.

    Args:
        space: Of the dense network.
        architectures: One or more; a group of a branch that is taken out keeps nothing. With masks
            in any, shares are of weights.

    Raises:
        ValueError: There is no architecture, or one is narrow and has masks as well: then neither
            share says what it keeps.
    """
    if not architectures:
        raise ValueError("a pattern needs an architecture at least, but there is none")
    if any(each.masks for each in architectures):
        return _of_weights(space, architectures)
    shares = {
        group.name: [each.widths.get(group.name, 0) / group.width for each in architectures]
        for group in space.groups
    }
    return _pattern("channels", shares, {group.name: group.stage for group in space.groups})


def guided(dense: Dense, found: Pattern, *, flops: int, seed: int = 0) -> Architecture:
    """Return the network whose layers keep their stage's share, scaled onto a budget.

    Args:
        dense: The network to build from, the pattern's own or another; its stages are matched with
            the pattern's from the first to the last, the nearest where their numbers differ.
            Nothing of it is trained.
        found: The pattern; the proportions of its shares count.
        flops: The budget in fused multiply-adds of one input.
        seed: Of the masks that are drawn; widths follow without any.

    Raises:
        BudgetError: Nothing meets the budget.
        ValueError: The pattern is of masks without 3 x 3 kernels.
    """
    if found.of == "weights":
        if not found.maps:
            raise ValueError("masks are guided by 3 x 3 kernels, but these networks have none")
        layers = "all" if found.linear else "convolutions"
        maps = tuple(found.maps[stage] for stage in sorted(found.maps))
        method = METHODS["guided_sparse"].model_validate({"maps": maps, "layers": layers})
        return method.derive(dense, flops=flops, seed=seed).architecture
    space = dense.space
    shares = matched_shares(found.stages, sorted({group.stage for group in space.groups}))
    return space.fit(
        {group.name: min(1.0, max(_LEAST, shares[group.stage])) for group in space.groups},
        flops=flops,
        tolerance=None,
    )


def matched_shares(stages: Mapping[int, float], own: Sequence[int]) -> dict[int, float]:
    """Return a share for each stage of another network, by its place between first and last."""
    ordered = [stages[stage] for stage in sorted(stages)]
    last = max(1, len(own) - 1)
    return {
        stage: ordered[round(index * (len(ordered) - 1) / last)] for index, stage in enumerate(own)
    }


def _of_weights(space: Space, architectures: Sequence[Architecture]) -> Pattern:
    if any(dict(each.widths) != dict(space.dense.widths) for each in architectures):
        raise ValueError("networks that are narrow and have masks too have no one pattern")
    masked = {name for each in architectures for name in each.masks}
    shapes = {name: mask.shape for each in architectures for name, mask in each.masks.items()}
    linear = any(len(shapes[name]) == 2 for name in masked)
    # Which layers there are, and the stage of each: as methods that are told densities have it.
    layers = "all" if linear else "convolutions"
    stages = METHODS["random_sparse"].model_validate({"layers": layers}).density_layers(space)
    shares = {
        layer: [_density(each, f"{layer}.weight") for each in architectures] for layer in stages
    }
    maps = mean_maps([survival_maps(space, each) for each in architectures])
    places = {stage: tuple(map(tuple, each.tolist())) for stage, each in maps.items()}
    return _pattern("weights", shares, stages, maps=places, linear=linear)


def _density(architecture: Architecture, weight: str) -> float:
    mask = architecture.masks.get(weight)
    return 1.0 if mask is None else mask.density


def _pattern(
    of: Literal["channels", "weights"],
    shares: Mapping[str, Sequence[float]],
    stage_of: Mapping[str, int],
    *,
    maps: Mapping[int, Places] | None = None,
    linear: bool = False,
) -> Pattern:
    """Sum up shares by part, one for each architecture."""
    members: dict[int, list[str]] = {}
    for name in shares:
        members.setdefault(stage_of[name], []).append(name)
    stages = {
        stage: [fmean(each) for each in zip(*(shares[name] for name in names), strict=True)]
        for stage, names in sorted(members.items())
    }
    return Pattern(
        of=of,
        parts={name: fmean(values) for name, values in shares.items()},
        part_deviations={name: _deviation(values) for name, values in shares.items()},
        stages={stage: fmean(values) for stage, values in stages.items()},
        stage_deviations={stage: _deviation(values) for stage, values in stages.items()},
        spreads={
            stage: pstdev([share for name in names for share in shares[name]])
            for stage, names in sorted(members.items())
        },
        n=len(next(iter(shares.values()))),
        maps=maps or {},
        linear=linear,
    )


def _deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0
