"""Magnitude pruning.

Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks", NIPS
2015, section 3; in the one-shot form of Liu et al., "Rethinking the Value of Network Pruning", ICLR
2019. Automatic: the dense network is trained, and the weights of smallest size go, wherever they
are. With ``rounds`` above 1 they go bit by bit, each time by the same share of what is left, and
what is left is trained on in between, as Han et al. do.

``scope`` says how the density is spread over the layers: ``global``, by one threshold over all;
``uniform``, the same for each; ``erk``, small layers keep more (Evci et al. 2020). A FLOPs budget
is met by surviving multiply-adds, to the weight. Where densities are given layer by layer, as a
study may search them, each layer keeps its own largest weights at its own density; a budget then
scales all densities by one factor.

Differs from the paper: one threshold for all layers is Liu et al.'s; Han et al. set one for each
layer by hand, from the spread of its weights. ``layers: convolutions`` is Liu et al.'s choice,
since linear layers are a small share of their networks. A layer never loses its last weight. Biases
and normalisations stay. Retraining between rounds is the study's recipe at a constant rate,
``retrain_lr``.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import ClassVar, Literal, final

from pydantic import Field
from torch import Tensor, nn

from prunenas.architecture import Mask, Space
from prunenas.architecture.masking import put_on
from prunenas.methods._base import Derivation, Granular, Inheritance, Method
from prunenas.methods._densities import given, layers_of, scaled
from prunenas.methods._weight_level import (
    Distribution,
    Layers,
    costs_of,
    dropped_state,
    masked_budget,
    masks_for,
    per_layer,
    prunable,
    sparse_architecture,
    unit_scores,
)
from prunenas.methods.dense import Dense


@final
class Magnitude(Method):
    """The smallest weights go, wherever they are."""

    kind: ClassVar[Literal["predefined", "automatic"]] = "automatic"
    takes_ratios: ClassVar[bool] = False
    takes_densities: ClassVar[bool] = True
    granularity: ClassVar[Granular] = "weight"
    source: ClassVar[str] = (
        "Han et al. 2015, Learning both Weights and Connections for Efficient Neural Networks, NIPS"
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
    scope: Distribution = Field(
        "global",
        description=(
            "How that is spread over the layers: by one threshold for all, the same share of "
            "each, or more of small ones (Erdős–Rényi-kernel)."
        ),
        json_schema_extra={
            "search": {"choices": ["erk", "global", "uniform"]},
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
    rounds: int = Field(
        1,
        ge=1,
        description="In how many steps the weights go; what is left is trained on in between.",
        json_schema_extra={"search": {"low": 1, "high": 5}},
    )
    retrain_epochs: int = Field(
        1,
        ge=1,
        description="Epochs of training after each step but the last.",
        json_schema_extra={"search": {"low": 1, "high": 10}},
    )
    retrain_lr: float = Field(
        1e-2,
        gt=0,
        description="Learning rate of that training, constant.",
        json_schema_extra={"search": {"low": 1e-3, "high": 1e-1, "log": True}},
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
        """Train, drop the smallest weights, as often as asked; see `Method.derive`.

        Under a budget the densities of steps in between are those on the way to the last ones.
        """
        del seed  # the dense network's own is all there is
        space = dense.space
        network = dense.network()
        weights = prunable(space, network, self.layers, self.whole)
        costs = costs_of(space, weights, "weight")
        shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
        plain = unit_scores(weights, "weight")
        budget = None if flops is None else masked_budget(space, costs, plain, flops)
        densities = None if ratios is None else given(self, space, ratios, weights)
        if densities is not None and budget is not None:
            counts = {name: weight.numel() for name, weight in weights.items()}
            densities = scaled(densities, counts, costs, budget, fixed)
        full = sum(costs[name] * weight.numel() for name, weight in weights.items())
        trained = dense.train()
        state, masks = trained.state, dict[str, Mask]()
        for done in range(1, self.rounds + 1):
            part = done / self.rounds
            sizes = unit_scores({name: state[name] for name in weights}, "weight")
            if densities is not None:
                keep = per_layer(sizes, {name: each**part for name, each in densities.items()})
            else:
                keep = masks_for(
                    sizes,
                    costs,
                    self.scope,
                    density=self.density**part,
                    budget=None if budget is None else _between(full, budget, part),
                    shapes=shapes,
                )
            architecture = sparse_architecture(space, keep)
            masks = dict(architecture.masks)
            state = dropped_state(state, masks)
            if done < self.rounds:
                state = self._retrained(dense, state, masks, architecture.digest, done)
        return Derivation(
            architecture,
            notes={
                "density": architecture.density,
                "smallest_density": min((m.density for m in masks.values()), default=1.0),
                "dense_accuracy": trained.validation.accuracy,
            },
            inherit=lambda: Inheritance({}, state),
        )

    def density_layers(self, space: Space) -> dict[str, int]:
        """Return the layers that lose weights, each with its stage; see `Method`."""
        return layers_of(space, self.layers, self.whole)

    def _retrained(
        self,
        dense: Dense,
        state: Mapping[str, Tensor],
        masks: Mapping[str, Mask],
        digest: str,
        done: int,
    ) -> dict[str, Tensor]:
        recipe = dense.recipe.model_copy(
            update={
                "epochs": self.retrain_epochs,
                "lr": self.retrain_lr,
                "schedule": "constant",
                "warmup_epochs": 0,
            }
        )

        def prepare(network: nn.Module) -> None:
            network.load_state_dict(state)
            put_on(network, {name: mask.tensor() for name, mask in masks.items()})

        # All that the weights come from is in the digest of the masks and the recipes.
        key = {
            "method": "magnitude",
            "dense": dense.recipe.model_dump(mode="json"),
            "masks": digest,
            "round": done,
            "hyperparameters": self.model_dump(mode="json"),
        }
        return (
            replace(dense, recipe=recipe)
            .train(prepare=prepare, key=key, what=f"magnitude, round {done} of {self.rounds}")
            .state
        )


def _between(full: int, budget: int, part: float) -> int:
    """The way from all to the budget, in equal factors."""
    return budget if part == 1 or not budget else int(full * (budget / full) ** part)
