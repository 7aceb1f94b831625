"""PruneFL: masks, and how much they keep, are found while clients train together.

Jiang, Wang, Valls, Ko, Lee, Leung, Tassiulas, "Model Pruning Enables Efficient Federated Learning
on Edge Devices" (PruneFL), IEEE TNNLS 34(12), 2023, arXiv 1909.12326. Automatic: the dense network
is trained once by the federation of the study (or, without one, by ten clients for as long as the
recipe, see `Dense.federated`), from the dense network's own weights; the strategy ``prunefl`` of
`prunenas.federated` changes the masks, and those after the last round are the result. What a round
takes is said by the federation's time model, for the layers that take part; others are dense.

Differs from the paper: it deploys the weights that the rounds arrive at; here they are what is
inherited, and the architecture is trained from scratch. Where there are too few rounds for four
reconfigurations, they come every fourth part of the rounds. Channels that no layer makes any more
go (``narrow``), with the weights that read them; what they passed on, a bias, is not folded. Not
where that left a layer without weights, and not where retraining begins with the dense network's
weights. Under a FLOPs budget the masks are cut, or filled up: weights that PruneFL kept come
first, the largest first, then others by the size that they began with, relative to their layer's
mean; what narrowing frees is filled up likewise in the channels that stay. [our choice]
"""

from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from prunenas.architecture import Architecture, Space, build, masked_weights, with_masks
from prunenas.errors import MethodError
from prunenas.federated import (
    STRATEGIES,
    FederatedRun,
    Point,
    Setting,
    TimeModel,
    round_seconds,
    time_model,
)
from prunenas.federated.initial import InitialPruning
from prunenas.federated.kept import kept_run
from prunenas.methods._base import Derivation, Granular, Inheritance, Method, refuse_ratios
from prunenas.methods._narrowing import narrowed
from prunenas.methods._units import within
from prunenas.methods._weight_level import (
    Layers,
    costs_of,
    dropped_state,
    masked_budget,
    prunable,
    sparse_architecture,
)
from prunenas.methods.dense import Dense

_RECONFIGURATIONS = 4  # at least, so that weights can go, come back, and go

Masks = dict[str, Tensor]


@final
class PruneFL(Method):
    """Clients train together and keep the weights that are worth their time in a round."""

    kind: ClassVar[Literal["predefined", "automatic"]] = "automatic"
    takes_ratios: ClassVar[bool] = False
    granularity: ClassVar[Granular] = "weight"
    source: ClassVar[str] = (
        "Jiang et al. 2023, Model Pruning Enables Efficient Federated Learning on Edge Devices, "
        "TNNLS"
    )

    interval: int = Field(
        50,
        ge=1,
        description="Rounds between reconfigurations; a fourth of all rounds where it is less.",
        json_schema_extra={"search": {"low": 5, "high": 100, "log": True}},
    )
    removable: float = Field(
        0.3,
        gt=0,
        lt=1,
        description="Share of a layer's weights that a reconfiguration may drop, at first.",
        json_schema_extra={"search": {"low": 0.1, "high": 0.5}},
    )
    half_life: float = Field(
        10000.0,
        gt=0,
        description="Rounds after which that share is half as large.",
        json_schema_extra={"search": {"low": 100.0, "high": 10000.0, "log": True}},
    )
    max_density: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of all weights that take part that may come to be kept.",
        json_schema_extra={"search": {"low": 0.02, "high": 1.0, "log": True}},
    )
    regrow: Literal["stale", "zero"] = Field(
        "stale",
        description="What weights come back with: what they had when they went, or 0.",
        json_schema_extra={"search": {"choices": ["stale", "zero"]}},
    )
    initial: InitialPruning | None = Field(
        InitialPruning(),
        description="How one client finds masks before the first round; null for none.",
    )
    layers: Layers = Field(
        "all",
        description="Which layers lose weights: all, or convolutions alone.",
        json_schema_extra={"search": {"choices": ["all", "convolutions"]}},
    )
    narrow: bool = Field(
        True,
        strict=True,
        description=(
            "Whether channels go that no layer makes any more; masks alone without it, and where "
            "retraining begins with the dense network's weights."
        ),
        json_schema_extra={"search": {"choices": [False, True]}},
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
        """Train the dense network in its federation, take the last masks; see `Method.derive`.

        Raises:
            FederatedError: There is no such time model, or the federation can't go on.
            DataError: The images can't be spread over the clients so.
        """
        del fixed, seed  # no ratios are given; the federation's numbers are the dense network's
        refuse_ratios("prunefl", ratios)
        space, fresh = dense.space, dense.network()
        weights = prunable(space, fresh, self.layers, self.whole)
        whole = time_model(dense.federated(), space)
        weights = {name: weight for name, weight in weights.items() if name in whole.layers}
        if not weights:
            raise MethodError(
                f"prunefl needs a layer that the federation's time model has seconds for, but "
                f"{space.source} has none"
            )
        run = self._run(dense, whole, weights)
        keep = {name: run.masks[name] for name in weights}
        state = {**fresh.state_dict(), **run.weights}
        scores: Masks = {}
        if flops is not None:
            scores = _scores(keep, state, weights)
            costs = costs_of(space, weights, "weight")
            keep = within(scores, costs, masked_budget(space, costs, scores, flops))
        architecture = sparse_architecture(space, keep)
        kept: Mapping[str, Tensor] = {}
        if self.narrow and dense.recipe.initial == "fresh":
            kept, left = _channels(space, state, keep)
            if kept:
                # What was kept comes before all that fills up.
                first = {name: scores[name] + scores[name].max() * left[name] for name in scores}
                architecture = _narrow(space, state, kept, left, first, flops)
        notes = {
            "search_rounds": run.history.points[-1].round,
            "search_seconds": run.history.seconds,
            "federated_accuracy": run.history.points[-1].accuracy,
            "density": sum(int(mask.sum()) for mask in run.masks.values())
            / sum(mask.numel() for mask in run.masks.values()),
            "round_seconds": round_seconds(architecture, whole),
            "dense_round_seconds": round_seconds(space.dense, whole),
            "channels_removed": sum(space.dense.widths.values())
            - sum(architecture.widths.values()),
        }
        inherited = dropped_state(space.inherit(state, kept), architecture.masks)
        return Derivation(architecture, notes, inherit=lambda: Inheritance(kept, inherited))

    def _run(self, dense: Dense, whole: TimeModel, weights: Mapping[str, Tensor]) -> FederatedRun:
        """The training of the dense network, done now or kept from before."""
        federation = dense.federated()
        every = min(self.interval, max(1, federation.rounds // _RECONFIGURATIONS))
        own = self.model_dump(exclude={"layers", "narrow", "whole"})
        sizes = {name: w.numel() for name, w in masked_weights(dense.network()).items()}
        setting = Setting(
            architecture=dense.space.dense,
            data=dense.data,
            federation=federation,
            strategy=STRATEGIES["prunefl"](**{**own, "interval": every}),
            time=whole.only(weights, sizes),
            seed=dense.seed,
            device=torch.device(dense.device),
        )

        def tell(done: int, accuracy: float | None) -> None:
            if dense.progress is not None:
                dense.progress("prunefl", done, federation.rounds, accuracy)

        def rounds(done: int) -> None:
            if not federation.evaluates_after(done):  # else told with what was reached
                tell(done, None)

        def watch(point: Point) -> None:
            tell(point.round, point.accuracy)

        return kept_run(setting, dense.cache, watch=watch, rounds=rounds)


def _scores(keep: Masks, state: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> Masks:
    """Scores by which a budget is met, float64: what is kept first; see the module's header."""
    begun = {name: weight.detach().abs().double() for name, weight in fresh.items()}
    begun = {name: sizes / sizes.mean() for name, sizes in begun.items()}
    top = 1 + max(float(sizes.max()) for sizes in begun.values())
    return {
        name: torch.where(mask, state[name].abs().double() + top, begun[name])
        for name, mask in keep.items()
    }


def _channels(
    space: Space, state: Mapping[str, Tensor], keep: Masks
) -> tuple[Mapping[str, Tensor], Masks]:
    """Which channels are still made, and the masks without weights that read others.

    A channel goes with all that reads it, whereupon others may go that were made of it alone.

    Returns:
        Indices for each group that loses channels; none where a layer would have no weight left.
    """
    places = {name: torch.arange(mask.numel()).reshape(mask.shape) for name, mask in keep.items()}
    left = keep
    while True:
        filters = {name: mask.flatten(1).any(dim=1) for name, mask in left.items()}
        kept = narrowed(space, filters).kept
        inside = space.inherit({**state, **places}, kept)
        before, left = left, {}
        for name, mask in keep.items():
            stays = torch.zeros(mask.numel(), dtype=torch.bool)
            stays[inside[name].flatten()] = True
            left[name] = mask & stays.reshape(mask.shape)
        if not all(bool(mask.any()) for mask in left.values()):
            return {}, keep
        if all(torch.equal(before[name], left[name]) for name in keep):
            return kept, left


def _narrow(
    space: Space,
    state: Mapping[str, Tensor],
    kept: Mapping[str, Tensor],
    keep: Masks,
    scores: Masks,
    flops: int | None,
) -> Architecture:
    """The architecture with these channels alone, its masks filled up to a budget."""
    whole = space.architecture(widths={g: len(each) for g, each in kept.items()}, kept=kept)
    network = build(whole, trust=True)
    cut = space.inherit({**state, **keep}, kept)
    masks = {name: cut[name] for name in keep}
    if flops is not None:
        made = space.layer_flops(whole.widths)
        sizes = {name: made.get(name.removesuffix(".weight"), 0) for name in masks}
        costs = {name: size // masks[name].numel() for name, size in sizes.items()}
        ordered = space.inherit({**state, **scores}, kept)
        others = whole.flops - sum(sizes.values())
        masks = within({name: ordered[name] for name in masks}, costs, flops - others)
    return with_masks(space, whole, network, masks)
