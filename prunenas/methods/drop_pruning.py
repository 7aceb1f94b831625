"""Drop pruning.

Jia et al., "Drop Pruning for Model Compression", arXiv 1812.02035, 2018 (second version:
"Stochastic Model Pruning via Weight Dropping Away and Back"). Automatic: from the trained dense
network, step by step, some of the unimportant weights drop away by chance, and some of those that
are gone drop back; the network is trained on after each step. The last step is certain: it leaves
exactly the share that is asked for, and training goes on for ``finish_epochs``. A step is in
``_dropping``.

``back`` falls in equal steps to 0 by the last, since with a constant one the share that is gone
stops short of what is asked (``decay: false``). A weight that drops back has the value that it had
when it went (``restore: stored``), or 0 and grows anew (``zero``), and no momentum.

Differs from the paper: only its abstracts could be read. Size as importance, the probabilities, the
number of steps and epochs, the decay, what is restored and the certain last step are choices of our
own, made to fit them. A layer never loses its last weight. With a FLOPs budget the last step leaves
the largest weights that the budget allows, and the share to be pruned on the way follows from it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from prunenas.architecture.masking import BUFFER, put_on
from prunenas.methods._base import Derivation, Granular, Inheritance, Method, refuse_ratios
from prunenas.methods._dropping import dropped
from prunenas.methods._units import strongest, within
from prunenas.methods._weight_level import (
    Layers,
    costs_of,
    dropped_state,
    masked_budget,
    prunable,
    sparse_architecture,
    unit_scores,
)
from prunenas.methods.dense import Dense

STORED = "stored_weight"  # buffer: what a weight was when it dropped away


@final
class DropPruning(Method):
    """Small weights drop away by chance, others drop back, until the share asked for is left."""

    kind: ClassVar[Literal["predefined", "automatic"]] = "automatic"
    takes_ratios: ClassVar[bool] = False
    granularity: ClassVar[Granular] = "weight"
    source: ClassVar[str] = "Jia et al. 2018, Drop Pruning for Model Compression, arXiv 1812.02035"

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
    away: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Probability that an unimportant weight drops away in a step.",
        json_schema_extra={"search": {"low": 0.2, "high": 1.0}},
    )
    back: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Probability that a weight that is gone drops back, in the first step.",
        json_schema_extra={"search": {"low": 0.0, "high": 0.4}},
    )
    decay: bool = Field(
        True,
        strict=True,
        description="Whether that falls to 0 by the last step.",
        json_schema_extra={"search": {"choices": [False, True]}},
    )
    restore: Literal["stored", "zero"] = Field(
        "stored",
        description="What a weight that drops back is: what it was, or 0.",
        json_schema_extra={"search": {"choices": ["stored", "zero"]}},
    )
    steps: int = Field(
        20,
        ge=1,
        description="How many steps, the certain last one among them.",
        json_schema_extra={"search": {"low": 5, "high": 40}},
    )
    step_epochs: int = Field(
        1,
        ge=1,
        description="Epochs of training after each step but the last.",
        json_schema_extra={"search": {"low": 1, "high": 5}},
    )
    finish_epochs: int = Field(
        2,
        ge=1,
        description="Epochs of training after the last step.",
        json_schema_extra={"search": {"low": 1, "high": 20}},
    )
    lr: float = Field(
        1e-2,
        gt=0,
        description="Learning rate of all this training, constant.",
        json_schema_extra={"search": {"low": 1e-3, "high": 1e-1, "log": True}},
    )
    scope: Literal["layer", "global"] = Field(
        "layer",
        description="Whether the smallest weights are those of each layer, or of all together.",
        json_schema_extra={"search": {"choices": ["global", "layer"]}},
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
        """Train, drop away and back step by step; see `Method.derive`.

        The seed draws which weights drop.
        """
        del fixed  # no ratios are given
        refuse_ratios("drop_pruning", ratios)
        space = dense.space
        weights = prunable(space, dense.network(), self.layers, self.whole)
        target = self._target(dense, weights, flops)
        trained = dense.train()
        plan = _Plan(self, tuple(weights), target, seed)
        recipe = dense.recipe.model_copy(
            update={
                "epochs": (self.steps - 1) * self.step_epochs + self.finish_epochs,
                "lr": self.lr,
                "schedule": "constant",
                "warmup_epochs": 0,
            }
        )

        def prepare(network: nn.Module) -> None:
            network.load_state_dict(trained.state)
            plan.begin(network)

        sparse = replace(dense, recipe=recipe).train(
            prepare=prepare,
            after_epoch=plan.after_epoch,
            key={
                "method": "drop_pruning",
                "dense": dense.recipe.model_dump(mode="json"),
                **self.model_dump(mode="json", exclude={"density", "whole"}),
                "kept": target.to_dict(),
                "weights": list(weights),
                "seed": seed,
            },
            what=f"drop_pruning (density {target.density:.2g})",
        )
        keep = {name: sparse.state[_beside(name, BUFFER)] for name in weights}
        architecture = sparse_architecture(space, keep)
        own = dense.network().state_dict()
        state = {name: sparse.state[name] for name in own}
        return Derivation(
            architecture,
            notes={
                "density": architecture.density,
                "smallest_density": min(
                    (m.density for m in architecture.masks.values()), default=1
                ),
                "dense_accuracy": trained.validation.accuracy,
                "pruned_accuracy": sparse.validation.accuracy,
            },
            inherit=lambda: Inheritance({}, dropped_state(state, architecture.masks)),
        )

    def _target(self, dense: Dense, weights: Mapping[str, Tensor], flops: int | None) -> "_Target":
        total = sum(weight.numel() for weight in weights.values())
        if flops is None:
            return _Target(self.density, None, {})
        space = dense.space
        costs = costs_of(space, weights, "weight")
        scores = unit_scores(weights, "weight")
        budget = masked_budget(space, costs, scores, flops)
        # The share on the way is what a fresh network's largest weights within the budget make.
        kept = sum(int(mask.sum()) for mask in within(scores, costs, budget).values())
        return _Target(kept / total, budget, costs)


@dataclass(frozen=True)
class _Target:
    """What the last step leaves: a share of the weights, or what a budget allows."""

    density: float
    budget: int | None
    costs: Mapping[str, int]

    def to_dict(self) -> dict[str, object]:
        return {"density": self.density, "budget": self.budget}


@dataclass(frozen=True)
class _Plan:
    """The steps, as a training calls them."""

    method: DropPruning
    weights: tuple[str, ...]
    target: _Target
    seed: int

    def begin(self, network: nn.Module) -> None:
        """Put masks on that keep all, and take the first step."""
        whole = {
            name: torch.ones_like(network.get_parameter(name), dtype=torch.bool)
            for name in self.weights
        }
        put_on(network, whole, persistent=True)
        for name in self.weights:
            layer = network.get_submodule(name.removesuffix(".weight"))
            layer.register_buffer(STORED, network.get_parameter(name).detach().clone())
        self.step(network, 1)

    def after_epoch(self, network: nn.Module, epoch: int) -> None:
        """Take a step where one is due."""
        done, rest = divmod(epoch, self.method.step_epochs)
        if not rest and done < self.method.steps:
            self.step(network, done + 1)

    @torch.no_grad()
    def step(self, network: nn.Module, number: int) -> None:
        """Take a step, counted from 1; the last one is certain."""
        method = self.method
        weights = {name: network.get_parameter(name) for name in self.weights}
        before = {name: network.get_buffer(_beside(name, BUFFER)) for name in self.weights}
        if number == method.steps:
            after = self._certain(weights)
        else:
            share = 1 - (number - 1) / max(1, method.steps - 1) if method.decay else 1.0
            random = torch.Generator().manual_seed(self.seed * 100_003 + number)
            after = dropped(
                {name: weight.detach().abs() for name, weight in weights.items()},
                before,
                pruned=1 - self.target.density,
                away=method.away,
                back=method.back * share,
                together=method.scope == "global",
                random=random,
            )
        for name, weight in weights.items():
            mask, stored = before[name], network.get_buffer(_beside(name, STORED))
            now = after[name].to(mask.device)
            gone, comes = mask & ~now, now & ~mask
            stored.copy_(torch.where(gone, weight, stored))
            back = stored if method.restore == "stored" else torch.zeros_like(stored)
            weight.copy_(torch.where(comes, back, weight).masked_fill(~now, 0.0))
            mask.copy_(now)

    def _certain(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Which weights the last step keeps: the largest of those that are there."""
        scores = unit_scores(weights, "weight")  # those that are gone are 0
        if self.target.budget is not None:
            return within(scores, self.target.costs, self.target.budget)
        density = self.target.density
        if self.method.scope == "global":
            total = sum(score.numel() for score in scores.values())
            return strongest(scores, round(density * total))
        return {
            name: strongest({name: score}, round(density * score.numel()))[name]
            for name, score in scores.items()
        }


def _beside(weight: str, buffer: str) -> str:
    return f"{weight.removesuffix('weight')}{buffer}"
