"""Global ranking by the norm of all that belongs to a channel.

After Fang, Ma, Song, Mi, Wang, "DepGraph: Towards Any Structural Pruning", CVPR 2023, section 3.3
(its number from memory), without the sparse training. Automatic: the dense network is trained as
usual, and one threshold is set over the scores of all its channels.

A channel's score is the norm of the weights that go with it: its filters in all layers that make
it, and the weights by which all layers read it. ``sum |w|`` (L1) or ``sqrt(sum w^2)`` (L2). Groups
differ in how many weights a channel has, so scores are divided by their group's mean, or largest:
then a score says how a channel compares with its own group, and groups whose channels differ most
lose most.

``keep`` is the share of all ranked channels that stay. With a FLOPs budget the threshold is
bisected instead, and what it leaves of the budget is used up by the strongest channels that fit.

Differs from the paper: no sparsity is trained into the groups. One norm is taken over all weights
of a channel, where the paper's code (read in copies of it) averages over layers, and the paper sums
(from memory). Normalisation layers' scales and biases don't count. A group never loses its last
channel; channels that a grouped layer cuts into blocks go one from each.
"""

from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, final

from pydantic import Field

from prunenas.methods._base import Derivation, Inheritance, Method, refuse_ratios, share_kept
from prunenas.methods._ranking import ranked_channels, ranked_widths
from prunenas.methods._weights import Norm, Normaliser, group_norms
from prunenas.methods.dense import Dense


@final
class GroupNorm(Method):
    """Channels with the smallest norm over all their coupled weights go, wherever they are."""

    kind: ClassVar[Literal["predefined", "automatic"]] = "automatic"
    takes_ratios: ClassVar[bool] = False
    granularity: ClassVar[Literal["channel", "block"]] = "channel"
    source: ClassVar[str] = "Fang et al. 2023, DepGraph: Towards Any Structural Pruning, CVPR"

    keep: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of the network's channels to keep; a FLOPs budget takes its place.",
        json_schema_extra={"search": {"low": 0.1, "high": 0.9}, "replaced_by_budget": True},
    )
    norm: Norm = Field(
        "l2",
        description="Of a channel's weights: sum of sizes, or root of the sum of squares.",
        json_schema_extra={"search": {"choices": ["l1", "l2"]}},
    )
    normalise: Normaliser = Field(
        "mean",
        description="What a group's norms are divided by: their mean, or the largest.",
        json_schema_extra={"search": {"choices": ["mean", "max"]}},
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
        """Train, rank all channels, set the threshold; see `Method.derive`."""
        del fixed, seed  # no ratios are given; the dense network's own seed is all there is
        refuse_ratios("group_norm", ratios)
        space = dense.space
        held = self.held(space)
        trained = dense.train()
        network = dense.network()
        network.load_state_dict(trained.state)
        scores = {
            group.name: group_norms(space, group, network, self.norm, self.normalise)
            for group in space.groups
            if group.name not in held
        }
        threshold, widths = ranked_widths(space, scores, keep=self.keep, flops=flops)
        kept = ranked_channels(space, scores, widths)
        architecture = space.architecture(widths=widths, kept=kept)
        return Derivation(
            architecture,
            notes={
                "threshold": threshold,
                "channels_kept": share_kept(architecture, space.dense),
                "dense_accuracy": trained.validation.accuracy,
            },
            inherit=lambda: Inheritance(kept, space.inherit(trained.state, kept)),
        )
