"""What a comparison trains: one network in one way with one seed, a cell of its table.

Every way begins with the same dense network of the seed, or beside it:

- ``dense``: that network itself;
- ``fine_tuned``: what the method leaves of it, trained on at a low rate;
- ``scratch_e``, ``scratch_b``: the method's architecture from fresh weights, for as many epochs or
  as much computation (Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019, section 3);
- ``uniform``, ``random``: the same share of every layer, or shares drawn at random, at the same
  FLOPs, by the protocol of the recipe: does the found architecture beat what nobody had to find?
- ``ticket``: the method's masks on the dense network's original weights (Frankle and Carbin, "The
  Lottery Ticket Hypothesis", ICLR 2019), where the method drops weights;
- ``guided``: a network by the pattern of what the method finds with all seeds, at the same FLOPs;
- ``transferred``: by the pattern that the method has on another network or other data (both: Liu
  et al., section 5; see ``evidence.patterns``).
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from prunenas.spec.comparison import Arm

CONTROLS: tuple[Arm, ...] = ("uniform", "random")
"""Arms that a budget has, whatever the method."""

GUIDED: tuple[Arm, ...] = ("guided", "transferred")
"""Arms that rest on what the method finds with every seed of the comparison."""


@dataclass(frozen=True)
class Contender:
    """A method with its hyperparameters, at a budget: what two rows of a table differ in.

    Attributes:
        label: What tables call it.
        method: Name of the method.
        hyperparameters: Of the method.
        flops_ratio: The budget, a share of the dense network's FLOPs, in (0, 1].
        ratios: Shares of channels by group, for a method that follows given ratios.
    """

    label: str
    method: str
    flops_ratio: float
    hyperparameters: dict[str, Any] = field(default_factory=dict, hash=False)
    ratios: dict[str, float] | None = field(default=None, hash=False)


@dataclass(frozen=True)
class Cell:
    """One network to be trained.

    Attributes:
        arm: In which way.
        seed: Of everything random in it.
        flops_ratio: The budget; None for the dense network.
        contender: Whose architecture it is; None for the dense network and the controls.
    """

    arm: Arm
    seed: int
    flops_ratio: float | None = None
    contender: Contender | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        whose = self.contender.label if self.contender else None
        budget = f"{self.flops_ratio:.0%} FLOPs" if self.flops_ratio is not None else None
        parts = (whose, self.arm.replace("_", " "), budget, f"seed {self.seed}")
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Outcome:
    """What came of a cell.

    Attributes:
        reason: Why there is no figure; None where there is.
        test: Accuracy on the test split, read once, in [0, 1].
        validation: On the validation split, after the last epoch.
        flops: Fused multiply-adds of one input.
        params: Number of trainable parameters.
        epochs: Of the last training.
        digest: Of the architecture.
    """

    reason: str | None = None
    test: float | None = None
    validation: float | None = None
    flops: int | None = None
    params: int | None = None
    epochs: int | None = None
    digest: str | None = None


def cells(contenders: list[Contender], arms: tuple[Arm, ...], seeds: range) -> list[Cell]:
    """Return what is trained, in an order in which the first seed of all comes first.

    Whoever interrupts a comparison has the same number of seeds for each row, but for one. What
    rests on all seeds comes last.
    """
    budgets = sorted({each.flops_ratio for each in contenders}, reverse=True)
    found = []
    for seed in seeds:
        if "dense" in arms:
            found.append(Cell("dense", seed))
        for arm in (arm for arm in CONTROLS if arm in arms):
            found += [Cell(arm, seed, budget) for budget in budgets]
        for each in contenders:
            own = (arm for arm in arms if arm not in ("dense", *CONTROLS, *GUIDED))
            found += [Cell(arm, seed, each.flops_ratio, each) for arm in own]
    for seed in seeds:
        for each in contenders:
            last = (arm for arm in GUIDED if arm in arms)
            found += [Cell(arm, seed, each.flops_ratio, each) for arm in last]
    return found
