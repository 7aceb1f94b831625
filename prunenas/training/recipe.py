"""How networks are trained: the ``train:`` section of a study, and the epochs it comes to.

The protocols are those of Liu et al., "Rethinking the Value of Network Pruning" (ICLR 2019),
section 3: an architecture found by pruning is trained from random weights either for as many
epochs as the dense network (Scratch-E) or for as much computation (Scratch-B).
"""

from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from prunenas.errors import TrainingError, unknown

Scratch = Literal["scratch_e", "scratch_b"]
Protocol = Literal["scratch_e", "scratch_b", "federated"]
Schedule = Literal["step", "cosine", "one_cycle", "constant"]
Initial = Literal["fresh", "original", "rewound"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
MemoryFormat = Literal["auto", "channels_last", "contiguous"]

PROTOCOLS: tuple[Scratch, ...] = ("scratch_e", "scratch_b")
"""Whose length is a number of epochs; ``federated`` trains in rounds of a federation."""


class Recipe(BaseModel):
    """Everything that decides how a network is trained, but for data, seed and device.

    The optimiser is stochastic gradient descent, as in the pruning papers. Values that don't fit
    raise ``pydantic.ValidationError`` (the study reader turns it into a ``SpecError``).

    >>> Recipe(epochs=160, batch_size=64).schedule
    'step'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    protocol: Protocol = Field(
        default="scratch_e",
        description="scratch_e: as many epochs as the dense network; "
        "scratch_b: as much computation (epochs × dense flops / flops); "
        "federated: by the clients of the study's `federation:`, in its rounds",
    )
    epochs: int = Field(
        ge=1, strict=True, description="Epochs of the dense network, and of scratch_e"
    )
    scratch_b_cap: float | None = Field(
        default=None,
        ge=1,
        description="scratch_b trains for at most this many times `epochs` "
        "(the paper: 2 on ImageNet, none on CIFAR)",
    )
    initial: Initial = Field(
        default="fresh",
        description="What retraining begins with, for methods that drop weights: fresh random "
        "weights; the dense network's original ones (a lottery ticket); or those it had after "
        "`rewind_epochs`",
    )
    rewind_epochs: int = Field(
        default=1, ge=1, strict=True, description="Epochs of the dense network for `rewound`"
    )
    batch_size: int = Field(default=128, ge=2, strict=True, description="Images in one step")
    lr: float = Field(default=0.1, gt=0, description="Highest learning rate of the schedule")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum of SGD")
    nesterov: bool = Field(default=False, strict=True, description="Nesterov's form of momentum")
    weight_decay: float = Field(
        default=1e-4, ge=0, description="Weight decay (the λ of λ/2·‖w‖² in the loss)"
    )
    decay_all: bool = Field(
        default=True,
        strict=True,
        description="Whether normalisation parameters and biases decay too, as in the papers",
    )
    schedule: Schedule = Field(
        default="step",
        description="step: × gamma at the milestones; cosine: to 0, step by step; "
        "one_cycle: up for 30 % of the steps, then down (Smith 2018); constant",
    )
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.5, 0.75),
        description="Where `step` lowers the learning rate, as ascending shares of the epochs",
    )
    gamma: float = Field(
        default=0.1, gt=0, le=1, description="What `step` multiplies the learning rate with"
    )
    warmup_epochs: float = Field(
        default=0, ge=0, description="Epochs over which the learning rate rises linearly at first"
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the target spread over all classes"
    )
    augment: bool = Field(
        default=True, strict=True, description="Random crops and flips, as the data set allows"
    )
    precision: Precision = Field(
        default="auto", description="Numbers in the forward pass (auto: fastest for the device)"
    )
    memory_format: MemoryFormat = Field(
        default="auto", description="Order of images in memory (auto: fastest for the device)"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: true needs momentum > 0, but momentum is 0")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones must ascend, but are {list(self.milestones)}")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs must be below epochs ({self.epochs}), but is {self.warmup_epochs:g}"
            )
        if self.initial == "rewound" and self.rewind_epochs >= self.epochs:
            raise ValueError(
                f"rewind_epochs must be below epochs ({self.epochs}), but is {self.rewind_epochs}"
            )
        if self.warmup_epochs and self.schedule == "one_cycle":
            raise ValueError("one_cycle has a warm-up of its own: leave warmup_epochs at 0")
        return self

    @property
    def scratch(self) -> Scratch:
        """The protocol, where trainings last epochs.

        Raises:
            TrainingError: It is ``federated``.
        """
        if self.protocol == "federated":
            raise TrainingError(
                "no federation",
                "protocol: federated needs the federation of a study, but there is none. "
                "Give scratch_e or scratch_b",
            )
        return self.protocol

    def epochs_for(self, *, dense_flops: int, flops: int, evaluations: int | None = None) -> int:
        """Epochs that this recipe trains an architecture of ``flops`` from scratch.

        Args:
            dense_flops: FLOPs of the dense network.
            flops: FLOPs of the architecture.
            evaluations: How often a federated training is validated: what its epochs are.

        Raises:
            TrainingError: The protocol is ``federated``, but there is no federation.
        """
        if self.protocol == "federated" and evaluations is not None:
            return evaluations
        return scratch_epochs(
            self.scratch, self.epochs, dense_flops=dense_flops, flops=flops, cap=self.scratch_b_cap
        )


def scratch_epochs(
    protocol: str, epochs: int, *, dense_flops: int, flops: int, cap: float | None = None
) -> int:
    """Epochs that the protocol gives an architecture trained from scratch.

    ``scratch_e``: ``epochs``. ``scratch_b``: ``int(epochs × dense_flops / flops)`` in whole-number
    arithmetic, at least 1 and at most ``int(epochs × cap)``. The ratio is that of FLOPs as
    prunenas counts them (fvcore: convolution, linear and matrix products); the paper's code also
    counts biases, normalisation, activations and pooling, which moves its epochs by one or two.

    Args:
        protocol: ``"scratch_e"`` or ``"scratch_b"``.
        epochs: Epochs of the dense network, >= 1.
        dense_flops: FLOPs of the dense network, >= 1.
        flops: FLOPs of the architecture, >= 1; above ``dense_flops`` scratch_b trains shorter.
        cap: The highest multiple of ``epochs``, >= 1. The paper: 2 on ImageNet, none on CIFAR.

    Raises:
        TrainingError: An unknown protocol, or a number below its bound.

    >>> scratch_epochs("scratch_b", 160, dense_flops=313_201_664, flops=156_600_832)
    320
    """
    if protocol not in PROTOCOLS:
        raise TrainingError("unknown protocol", unknown("protocol", protocol, PROTOCOLS))
    if min(epochs, dense_flops, flops) < 1 or (cap is not None and cap < 1):
        raise TrainingError(
            "unusable epochs",
            "epochs, dense_flops, flops and cap must be >= 1, "
            f"but are {epochs}, {dense_flops}, {flops} and {cap}",
        )
    if protocol == "scratch_e":
        return epochs
    longer = epochs * dense_flops // flops
    if cap is not None:
        longer = min(longer, int(epochs * exact(cap)))
    return max(1, longer)


def exact(number: float) -> Fraction:
    """The decimal a user wrote: 0.29 × 100 is 29, not the 28.999… of binary floats."""
    return Fraction(repr(float(number)))
