"""Greedy sensitivity search, as NetAdapt does it.

Yang, Howard, Chen, Zhang, Go, Sandler, Sze, Adam, "NetAdapt: Platform-Aware Neural Network
Adaptation for Mobile Applications", ECCV 2018, section 3, algorithm 1. Automatic: the dense network
is trained as usual and then narrowed step by step. In each step every group proposes the smallest
cut of its own that saves a given share of FLOPs; each proposal is tried out, with the weights it
inherits, on a fixed sample of training images, and the one of highest accuracy is kept (of equals
the one of lowest loss). Steps go on until the budget is met; the last saves what is still missing.
What it saved too much is given back in the proportions found, as budgets are met everywhere
(`Space.fit`).

Steps of ``step`` times the dense FLOPs are at most ``(1 - budget / dense) / step``, rounded up.
Where no group can save as much alone, each proposes all it has, and the one kept is used up: at
most as many steps more as there are groups. So the search costs at most
``groups * (steps + groups)`` evaluations of ``images`` images; how many is in its notes.

Differs from the paper: cost is FLOPs, not a measured latency. Proposals aren't fine-tuned before
they are compared, nor is the network at the end: only its architecture is wanted. Channels are
ranked by the L2 norm of all weights that go with them, the paper's filters by their own. The share
that a step saves is the same in all steps (from memory, the paper's shrinks). Images to choose by
come from the training split: the validation split is the study's.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import ClassVar, Literal, final

from pydantic import Field
from torch import Tensor

from prunenas.architecture import ChannelGroup, Space, build
from prunenas.methods._base import Derivation, Inheritance, Method, refuse_ratios, share_kept
from prunenas.methods._ranking import budget_threshold, ranked_channels
from prunenas.methods._steps import Step, last_step
from prunenas.methods._weights import group_norms
from prunenas.methods.dense import Dense
from prunenas.training import evaluate

_BATCH = 256  # images of the sample that are computed at once

Judge = Callable[[dict[str, int]], tuple[float, float]]
"""How good the network of these widths is: its accuracy, and what decides between equals."""


@final
class NetAdapt(Method):
    """Step by step, the group whose cut costs the least accuracy is narrowed."""

    kind: ClassVar[Literal["predefined", "automatic"]] = "automatic"
    takes_ratios: ClassVar[bool] = False
    granularity: ClassVar[Literal["channel", "block"]] = "channel"
    source: ClassVar[str] = (
        "Yang et al. 2018, NetAdapt: Platform-Aware Neural Network Adaptation, ECCV"
    )

    flops_ratio: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of the dense network's FLOPs to keep; a FLOPs budget takes its place.",
        json_schema_extra={"search": {"low": 0.1, "high": 0.9}, "replaced_by_budget": True},
    )
    step: float = Field(
        0.05,
        gt=0,
        le=1,
        description="Share of the dense network's FLOPs that a step saves; half: twice the time.",
        json_schema_extra={"search": {"low": 0.02, "high": 0.2, "log": True}},
    )
    images: int = Field(
        512,
        ge=1,
        description="Training images that a proposal is tried out on, held in memory; at most all.",
        json_schema_extra={"search": {"low": 256, "high": 4096, "log": True}},
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
        """Train, then cut step by step down to the budget; see `Method.derive`.

        The seed draws the images.
        """
        del fixed  # no ratios are given
        refuse_ratios("netadapt", ratios)
        space = dense.space
        held = self.held(space)
        budget = int(self.flops_ratio * space.dense_flops) if flops is None else flops
        trained = dense.train()
        network = dense.network()
        network.load_state_dict(trained.state)
        scores = {
            group.name: group_norms(space, group, network, "l2", "mean")
            for group in space.groups
            if group.name not in held
        }
        budget_threshold(space, scores, budget)  # raises where no widths meet it
        draw = cache(lambda: Sample.of(dense, self.images, seed))

        def judge(widths: dict[str, int]) -> tuple[float, float]:
            kept = ranked_channels(space, scores, widths)
            narrow = build(space.architecture(widths=widths, kept=kept), trust=True)
            narrow.load_state_dict(space.inherit(trained.state, kept))
            metrics = evaluate(
                narrow,
                draw(),
                batch_size=_BATCH,
                device=dense.device,
                precision=dense.recipe.precision,
                memory_format=dense.recipe.memory_format,
            )
            return metrics.accuracy, -metrics.loss

        groups = [group for group in space.groups if group.name in scores]
        saving = self.step * space.dense_flops
        last = last_step(
            dense,
            lambda begun: adapted(space, groups, budget, saving, judge, begun),
            key={
                "method": "netadapt",
                "budget": budget,
                "step": self.step,
                "images": self.images,
                "groups": [group.name for group in groups],
                "seed": seed,
            },
            what="netadapt",
        )
        found = last.values["widths"]
        shares = {name: width / space.dense.widths[name] for name, width in found.items()}
        fitted = space.fit(shares, flops=budget, fixed=held, tolerance=None)
        kept = ranked_channels(space, scores, fitted.widths)
        architecture = space.architecture(widths=fitted.widths, kept=kept)
        return Derivation(
            architecture,
            notes={
                "evaluations": last.values["evaluations"],
                "channels_kept": share_kept(architecture, space.dense),
                "dense_accuracy": trained.validation.accuracy,
            },
            inherit=lambda: Inheritance(kept, space.inherit(trained.state, kept)),
        )


def adapted(
    space: Space,
    groups: Collection[ChannelGroup],
    budget: int,
    saving: float,
    judge: Judge,
    begun: Step | None = None,
) -> Iterator[Step]:
    """Yield the best proposal of each step, until one is within the budget.

    A step's values are ``widths``, and ``evaluations`` so far; the first is the dense network's,
    with no step done.

    Args:
        space: Of the dense network.
        groups: That may be narrowed; at their narrowest they meet the budget.
        budget: In multiply-adds of one input.
        saving: What a step is to save of them.
        judge: Of proposals; of equals the first in the forward pass is kept.
        begun: A step to go on from.
    """
    start = {"widths": dict(space.dense.widths), "evaluations": 0}
    step = begun or Step(0, 1, values=start)
    if begun is None:
        yield step
    widths, tried = step.values["widths"], step.values["evaluations"]
    while (missing := space.flops(widths) - budget) > 0:
        offered = proposals(space, groups, widths, min(saving, missing))
        judged = [judge(each) for each in offered]
        best = judged.index(max(judged))
        widths, tried, done = offered[best], tried + len(offered), step.done + 1
        left = math.ceil(max(0, space.flops(widths) - budget) / saving)
        values = {"widths": widths, "evaluations": tried}
        step = Step(done, done + left, values=values, accuracy=judged[best][0])
        yield step


def proposals(
    space: Space, groups: Collection[ChannelGroup], widths: Mapping[str, int], saving: float
) -> list[dict[str, int]]:
    """Return each group's smallest cut that saves so many FLOPs; where none can, all each has."""
    enough: list[dict[str, int]] = []
    most: list[dict[str, int]] = []
    for group in groups:
        if widths[group.name] > group.divisor:
            proposal = smallest_cut(space, group, widths, saving)
            saved = space.flops(widths) - space.flops(proposal)
            (enough if saved >= saving else most).append(proposal)
    return enough or most


def smallest_cut(
    space: Space, group: ChannelGroup, widths: Mapping[str, int], saving: float
) -> dict[str, int]:
    """Return all widths after the smallest cut of a group that saves enough, or the deepest."""
    before = space.flops(widths)
    narrower = range(widths[group.name] - group.divisor, 0, -group.divisor)

    def saves_enough(width: int) -> bool:
        return before - space.flops({**widths, group.name: width}) >= saving

    index = bisect_left(narrower[:-1], True, key=saves_enough)  # deeper cuts save no less
    return {**widths, group.name: narrower[index]}


@dataclass(frozen=True)
class Sample:
    """Some training images and labels, held in memory: a ``Split`` of one order."""

    parts: tuple[tuple[Tensor, Tensor], ...]

    @classmethod
    def of(cls, dense: Dense, images: int, seed: int) -> "Sample":
        """Draw at least so many images, up to whole batches, or all there are."""
        size = min(images, _BATCH)
        batches = dense.data.train.batches(size, seed=seed)
        return cls(tuple(islice(batches, math.ceil(images / size))))

    def __len__(self) -> int:
        """The number of images."""
        return sum(len(labels) for _, labels in self.parts)

    def batches(
        self, batch_size: int, *, seed: int | None = None, epoch: int = 0, augment: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches as they were drawn, whatever is asked for."""
        del batch_size, seed, epoch, augment
        return iter(self.parts)
