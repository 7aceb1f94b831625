"""What a training says of itself: values without behaviour, small enough for a record."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Metrics:
    """How good a network is on one split.

    Attributes:
        loss: Mean cross-entropy in nats per image (natural logarithm), >= 0.
        accuracy: Share of images whose class is named right, in [0, 1].
    """

    loss: float
    accuracy: float


UNKNOWN = Metrics(loss=math.nan, accuracy=math.nan)
"""Of a split without images."""


@dataclass(frozen=True)
class EpochMetrics:
    """One finished epoch.

    Attributes:
        epoch: Epochs finished so far, from 1.
        train: Running means over the epoch, in train mode, while the weights change. The loss is
            the one that is minimised: label smoothing and auxiliary heads included. The accuracy
            is nan where training didn't count it.
        validation: The validation split after the epoch, in eval mode, plain cross-entropy;
            ``UNKNOWN`` where it has no images.
        lr: Learning rate of the epoch's last step.
        seconds: Wall time of the epoch, its validation included.
    """

    epoch: int
    train: Metrics
    validation: Metrics
    lr: float
    seconds: float


def point(metrics: EpochMetrics) -> dict[str, float]:
    """An epoch as a record's curve keeps it; without figures that training didn't take."""
    train = {"train_loss": metrics.train.loss, "train_accuracy": metrics.train.accuracy}
    return {
        "epoch": metrics.epoch,
        **{name: value for name, value in train.items() if not math.isnan(value)},
        "validation_loss": metrics.validation.loss,
        "validation_accuracy": metrics.validation.accuracy,
        "lr": metrics.lr,
    }


@dataclass(frozen=True)
class Training:
    """One finished training.

    Attributes:
        validation: The last epoch's, never the best one's: choosing an epoch by its validation
            accuracy would flatter the figure that the search compares.
        curve: Every epoch in order, those before an interruption included.
        seconds: Wall time of all epochs together, those before an interruption included.
        stopped: Whether ``report`` ended the training before its last epoch.
    """

    validation: Metrics
    curve: tuple[EpochMetrics, ...]
    seconds: float
    stopped: bool
