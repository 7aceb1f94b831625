"""Trainable gates, the differentiable pruning method.

Kim, Park, Jung, Choe, "Plug-in, Trainable Gate for Streamlining Arbitrary Neural Networks", AAAI
2020 (in its first version, arXiv 1904.10921, "Differentiable Pruning Method for Neural Networks").
Automatic: each channel of the trained dense network is multiplied by a gate of weight ``w``, which
is 0 or 1, and network and gates are trained on together; closed channels are then cut out. The gate
and its loss are

    b(w) + s(w) g(w)        b = 1 for w > 0, else 0;  s = (M w - floor(M w)) / M
    task loss + strength (target - R / R of all gates open)^2

with R the FLOPs or parameters that the sums of the gates make. The sawtooth ``s`` lies in [0, 1/M)
and has slope 1, so that for large M the gate is ``b`` and its derivative ``g``, which is what is
computed here. In training a closed gate lets 5e-6 through, the middle of the sawtooth at M = 1e5:
behind a 0 a ReLU would have no gradient, while so a closed gate keeps its own and can open again.
The channels of a group (a residual stream) share their gates, which act behind the normalisation
that follows the layer that makes them, so that cutting changes nothing.

After ``freeze`` of the epochs the gates are decided, in the order of their weights: the highest are
opened as long as they fit in the target, which so is met to the channel; the rest of the training
adapts the weights to them. A FLOPs budget takes the place of the target.

Differs from the paper: its text could not be read. The gate's formula is that of secondary pages
and the patent (US 2021/0383190 A1); the threshold 0, the squared loss on the ratio, one ``g`` for
both are from memory; strength, rate, momentum 0.9, start (normal, 0.1 +- 0.001), the bump and the
freeze with its decision are choices of our own. The highest gate of a group never closes, where a
network could die. Channels that a grouped layer cuts into blocks share a gate with those at their
place in the other blocks. Groups whose layers don't run as modules, and those of ``whole``, have no
gates.
"""

from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, Self, final

from pydantic import Field, model_validator
from torch import nn

from prunenas.architecture import Space
from prunenas.architecture.space import Cost
from prunenas.errors import BudgetError, MethodError
from prunenas.methods._base import Derivation, Inheritance, Method, refuse_ratios, share_kept
from prunenas.methods._gates import Gates, Shape, count, of, put_on, without_gates
from prunenas.methods._sites import find_sites
from prunenas.methods.dense import Dense

_START = 0.1, 1e-3  # mean and deviation of the gates' weights: all open, and none like another
_MOMENTUM = 0.9


@final
class TrainableGates(Method):
    """Gates of 0 or 1 are trained with the network towards a target cost; closed channels go."""

    kind: ClassVar[Literal["predefined", "automatic"]] = "automatic"
    takes_ratios: ClassVar[bool] = False
    granularity: ClassVar[Literal["channel", "block"]] = "channel"
    source: ClassVar[str] = (
        "Kim et al. 2020, Plug-in, Trainable Gate for Streamlining Arbitrary Neural Networks, AAAI"
    )

    target: float = Field(
        0.5,
        gt=0,
        description="Cost to come to, in terms of `unit`; a FLOPs budget takes its place.",
        json_schema_extra={"search": {"low": 0.1, "high": 0.9}, "replaced_by_budget": True},
    )
    unit: Literal["ratio", "multiplier", "absolute"] = Field(
        "ratio",
        description=(
            "What `target` says. ratio: share of the dense network's cost; multiplier: the cost "
            "of the network whose groups all keep that share of their channels; absolute: "
            "multiply-adds of one input, or parameters."
        ),
        json_schema_extra={
            "search": {"choices": ["ratio", "multiplier"]},
            "replaced_by_budget": True,
        },
    )
    cost: Cost = Field(
        "flops",
        description="What counts as cost: multiply-adds, or parameters.",
        json_schema_extra={"search": {"choices": ["flops", "params"]}},
    )
    strength: float = Field(
        5.0,
        gt=0,
        description="Weight of the squared distance from the target in the loss (lambda).",
        json_schema_extra={"search": {"low": 1.0, "high": 20.0, "log": True}},
    )
    gate_lr: float = Field(
        0.02,
        gt=0,
        description="Learning rate of the gates, the same in all epochs.",
        json_schema_extra={"search": {"low": 0.005, "high": 0.1, "log": True}},
    )
    freeze: float = Field(
        0.67,
        gt=0,
        le=1,
        description="Share of the epochs after which the gates are decided; 1: after the last.",
        json_schema_extra={"search": {"low": 0.3, "high": 1.0}},
    )
    shape: Shape = Field(
        "constant",
        description="Derivative of a gate (g): 1, or a bump around 0, the sigmoid's derivative.",
        json_schema_extra={"search": {"choices": ["bump", "constant"]}},
    )

    @model_validator(mode="after")
    def _target_fits(self) -> Self:
        if self.unit == "absolute" and self.target < 1:
            raise ValueError(f"target >= 1 must hold for an absolute one, but it is {self.target}")
        if self.unit != "absolute" and self.target > 1:
            raise ValueError(f"target <= 1 must hold for a {self.unit}, but it is {self.target}")
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
        """Train the dense network, then network and gates; cut what is closed; see `Method.derive`.

        The gates' start is drawn by the dense network's seed.
        """
        del fixed, seed  # no ratios are given; the dense network's own seed is all there is
        refuse_ratios("trainable_gates", ratios)
        if flops is not None and self.cost != "flops":
            raise MethodError(f"a FLOPs budget goes with cost flops, but cost is {self.cost}")
        space, held = dense.space, self.held(dense.space)
        sites = {
            name: (*found.first, *found.later)
            for name, found in find_sites(space, dense.network()).items()
            if name not in held
        }
        groups = [group for group in space.groups if group.name in sites]
        if not sites and not held:
            raise MethodError(
                "trainable_gates needs a channel group whose layers run as modules, "
                f"but {space.source!r} has none"
            )
        budget = self.budget(space) if flops is None else flops
        whole = count(space, {}, self.cost)
        least = count(space, {group.name: group.divisor for group in groups}, self.cost)
        if least > budget:
            raise BudgetError(
                f"trainable_gates leaves a channel in every group and full those without gates, "
                f"so {self.cost} >= {least:,} must hold, but the target is {budget:,}"
            )
        plain = dense.train()
        if not groups:
            everything = Inheritance({}, plain.state)
            notes = {"channels_kept": 1.0, "dense_accuracy": plain.validation.accuracy}
            return Derivation(space.dense, notes=notes, inherit=lambda: everything)
        epochs = dense.recipe.epochs
        last = min(epochs, max(1, round(self.freeze * epochs)))
        share = min(1.0, budget / whole)

        def prepare(network: nn.Module) -> None:
            network.load_state_dict(plain.state)
            gates = Gates(space, groups, self.shape)
            gates.start(*_START, dense.seed)
            put_on(network, gates, sites)

        def penalty(network: nn.Module, lr: float) -> None:
            of(network).step(self.gate_lr, _MOMENTUM, self.strength, self.cost, share)

        def after_epoch(network: nn.Module, epoch: int) -> None:
            if epoch == last:
                of(network).freeze(self.cost, budget)

        trained = dense.train(
            prepare=prepare,
            penalty=penalty,
            after_epoch=after_epoch,
            key={
                "method": "trainable_gates",
                "budget": min(budget, whole),
                "cost": self.cost,
                "strength": self.strength,
                "gate_lr": self.gate_lr,
                "last": last,
                "shape": self.shape,
                "groups": list(sites),
            },
            what=f"trainable_gates ({share:.1%} of {self.cost})",
        )
        gated = dense.network()
        gates = Gates(space, groups, self.shape)
        put_on(gated, gates, {})
        gated.load_state_dict(trained.state)
        kept = gates.kept()
        widths = {name: len(indices) for name, indices in kept.items()}
        architecture = space.architecture(widths=widths, kept=kept)

        def inherit() -> Inheritance:
            return Inheritance(kept, space.inherit(without_gates(trained.state), kept))

        return Derivation(
            architecture,
            notes={
                "target": budget / whole,
                "found": float(gates.found),
                "channels_kept": share_kept(architecture, space.dense),
                "dense_accuracy": plain.validation.accuracy,
                "gated_accuracy": trained.validation.accuracy,
                "groups_without_gates": [g.name for g in space.groups if g.name not in sites],
            },
            inherit=inherit,
        )

    def budget(self, space: Space) -> int:
        """Return the target in multiply-adds of one input, or in parameters."""
        if self.unit == "absolute":
            return int(self.target)
        if self.unit == "multiplier":
            return count(space, space.widths(self.target), self.cost)
        return int(self.target * count(space, {}, self.cost) + 1e-6)
