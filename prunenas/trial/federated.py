"""Retraining from scratch by a federation: ``protocol: federated``.

Federated averaging (McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from
Decentralized Data", algorithm 1) of an architecture whose masks stay as they are. What a curve
calls an epoch is the rounds between two validations.
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import torch

from prunenas.architecture import Architecture, build, masked_weights
from prunenas.federated import STRATEGIES, Point, Setting, TimeModel, federate, time_model
from prunenas.federated.history import FederatedRun
from prunenas.federated.kept import run_key
from prunenas.methods import Dense
from prunenas.training import EpochMetrics, Metrics, Training
from prunenas.training.loop import Report
from prunenas.training.metrics import UNKNOWN
from prunenas.training.shared import Done, Way, says_stop


def federated_way(
    architecture: Architecture, dense: Dense, *, seed: int, check: Callable[[], object]
) -> Way:
    """Return how an architecture is trained by the federation of a dense network's study.

    Args:
        architecture: With its masks.
        dense: The dense network; its data, federation and device are the training's.
        seed: Of fresh weights, partition, batches and choice of clients.
        check: Called before the first round; raises where the architecture can't be trained.
    """
    setting = Setting(
        architecture=architecture,
        data=dense.data,
        federation=dense.federated(),
        strategy=STRATEGIES["conventional"](),
        time=_of_all_layers(time_model(dense.federated(), dense.space), architecture),
        seed=seed,
        device=torch.device(dense.device),
    )

    def train(report: Report, checkpoint: Path | None) -> Done:
        check()
        return _trained(setting, report, checkpoint)

    return Way(train, {"federated": run_key(setting)})


def _of_all_layers(time: TimeModel, architecture: Architecture) -> TimeModel:
    """A time model that names each layer of an architecture that may have a mask.

    A server only knows masks of layers that its time model names. The seconds decide nothing here:
    what is not named, or gone, has what communication alone takes.
    """
    network = build(architecture, trust=True)
    sent = 8 * time.seconds_per_byte
    layers = {name: time.layers.get(name, sent) for name in masked_weights(network)}
    return TimeModel(time.constant, layers, time.seconds_per_byte)


def _trained(setting: Setting, report: Report, checkpoint: Path | None) -> Done:
    """Train; each validation is told as an epoch."""
    federation, told = setting.federation, time.monotonic()
    curve: list[EpochMetrics] = []

    def watch(point: Point) -> bool:
        nonlocal told
        before, told = told, time.monotonic()
        epoch = EpochMetrics(
            epoch=len(curve) + 1,
            train=UNKNOWN,  # what clients said of the rounds comes with the end
            validation=Metrics(loss=point.loss, accuracy=point.accuracy),
            lr=federation.lr_in(point.round),
            seconds=told - before,
        )
        curve.append(epoch)
        return says_stop(report, epoch)

    run = federate(setting, watch=watch, checkpoint=checkpoint)
    curve = _with_losses(curve, run)
    training = Training(
        validation=curve[-1].validation,
        curve=tuple(curve),
        seconds=sum(epoch.seconds for epoch in curve),
        stopped=run.stopped,
    )
    state = build(setting.architecture, seed=setting.seed, trust=True).state_dict()
    return training, {**state, **run.weights}


def _with_losses(curve: list[EpochMetrics], run: FederatedRun) -> list[EpochMetrics]:
    """Epochs with the mean loss of their rounds' clients, which counts no accuracy."""
    starts = [0, *(point.round for point in run.history.points)]
    losses = [
        fmean(report.loss for report in run.history.reports if start < report.round <= end)
        for start, end in pairwise(starts)
    ]
    return [
        replace(epoch, train=Metrics(loss=loss, accuracy=math.nan))
        for epoch, loss in zip(curve, losses, strict=True)
    ]
