"""Where pruned networks are wide, and networks built from that: guided and transferred guided ones.

Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019, section 5. In networks that were
pruned automatically, layers of one stage (one resolution) keep similar shares, and stages differ.
The mean share of each stage over several networks is a *pattern*; a network whose layers all keep
their stage's share is *guided* by it, and *transferred guided* where the pattern comes from another
network or other data. Both are trained from scratch and need no pruning.

Pure: values in, values out. Shares are of channels, in (0, 1].
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from prunenas.architecture import Architecture, Space


@dataclass(frozen=True)
class Pattern:
    """What several architectures of one network keep.

    Attributes:
        groups: Mean share of channels by group.
        stages: Mean share by stage: of its groups' means.
        spreads: Standard deviation of the shares of a stage's groups, over groups and networks.
        n: How many architectures.
    """

    groups: Mapping[str, float]
    stages: Mapping[int, float]
    spreads: Mapping[int, float]
    n: int

    @property
    def spread(self) -> float:
        """How unevenly stages are pruned: their standard deviation over their mean.

        0 where all stages keep the same share: then a uniform network is the pattern, and search
        over widths has nothing to find that uniform pruning does not have (the paper's finding on
        networks without redundancy between layers).
        """
        shares = list(self.stages.values())
        return pstdev(shares) / fmean(shares) if shares else 0.0


def pattern(space: Space, architectures: Sequence[Architecture]) -> Pattern:
    """Return what architectures keep of their dense network's channels.

    Args:
        space: Of the dense network.
        architectures: One or more; a group of a branch that is taken out keeps nothing.

    Raises:
        ValueError: There is no architecture.
    """
    if not architectures:
        raise ValueError("a pattern needs an architecture at least, but there is none")
    shares = {
        group.name: [each.widths.get(group.name, 0) / group.width for each in architectures]
        for group in space.groups
    }
    by_stage: dict[int, list[str]] = {}
    for group in space.groups:
        by_stage.setdefault(group.stage, []).append(group.name)
    return Pattern(
        groups={name: fmean(values) for name, values in shares.items()},
        stages={
            stage: fmean(fmean(shares[name]) for name in names)
            for stage, names in sorted(by_stage.items())
        },
        spreads={
            stage: pstdev([share for name in names for share in shares[name]])
            for stage, names in sorted(by_stage.items())
        },
        n=len(architectures),
    )


def guided(space: Space, stages: Mapping[int, float], *, flops: int) -> Architecture:
    """Return the network whose layers keep their stage's share, scaled onto a budget.

    Args:
        space: Of the dense network, the pattern's own or another; its stages are matched with the
            pattern's from the first to the last, the nearest where their numbers differ.
        stages: Shares by stage; the proportions count.
        flops: The budget in fused multiply-adds of one input.

    Raises:
        BudgetError: No widths meet the budget.
    """
    own = sorted({group.stage for group in space.groups})
    shares = matched_shares(stages, own)
    least = 1e-3  # a stage that kept nothing keeps as little as there is
    return space.fit(
        {group.name: min(1.0, max(least, shares[group.stage])) for group in space.groups},
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
