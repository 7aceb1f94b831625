"""How much an accuracy owes to its seed: one network trained several times.

The stopper ``pareto`` needs it for its margin. The network is the uniform one at half the dense
network's FLOPs (at the budget, or in the middle of the range, where the study has one), trained
with three seeds as far as the last rung: the work of one and a half trials, once a study.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import stdev
from typing import Any

import torch

from prunenas.architecture import Space, build
from prunenas.data import Data
from prunenas.errors import BudgetError, TrainingError
from prunenas.search.stoppers import SHARES, epoch_at
from prunenas.spec import Study
from prunenas.training import EpochMetrics, train

SEEDS = 3


def repeated(
    study: Study,
    space: Space,
    data: Data,
    device: torch.device,
    folder: Path,
    report: Callable[[str, EpochMetrics], None],
) -> dict[str, Any]:
    """Train one network with several seeds; its curves, as JSON values.

    Args:
        study: How it is trained; its seed is the first.
        space: Of the dense network.
        data: What it is trained and judged on.
        device: Where.
        folder: For checkpoints, so that an interrupted training goes on.
        report: Told of each epoch, with the name of the training.

    Returns:
        ``epochs`` of the whole training, and ``curves``: a list of accuracies for each seed; an
        empty list where such a network can't be had or trained, or is trained by a federation.
    """
    if study.train.protocol == "federated":  # its rounds are a trial's alone
        return {"epochs": study.train.epochs, "curves": []}
    bounds = study.objective.range
    middle = (bounds[0] * bounds[1]) ** 0.5 if bounds is not None else 0.5
    share = study.objective.budget or middle
    try:
        architecture = space.fit(1.0, flops_ratio=share, tolerance=None)
    except BudgetError:
        return {"epochs": study.train.epochs, "curves": []}
    epochs = study.epochs_for(dense_flops=space.dense.flops, flops=architecture.flops)
    last = epoch_at(SHARES[-1], epochs)
    curves: list[list[float]] = []
    for index in range(SEEDS):
        what = f"the same network, seed {index + 1} of {SEEDS}"

        def tell(metrics: EpochMetrics, what: str = what) -> str | None:
            report(what, metrics)
            return "stop" if metrics.epoch >= last else None

        seed = study.search.seed + index
        try:
            training = train(
                build(architecture, seed=seed, trust=True),
                data,
                study.train,
                epochs=epochs,
                seed=seed,
                device=device,
                report=tell,
                checkpoint=folder / f"seed-{index}.pt",
            )
        except TrainingError:
            curves = []  # trials will end the same way, each with its reason
            break
        curves.append([metrics.validation.accuracy for metrics in training.curve])
    for path in folder.glob("seed-*.pt"):
        path.unlink()
    return {"epochs": epochs, "curves": curves}


def spread_of(repeats: dict[str, Any]) -> dict[float, float]:
    """Standard deviation of the accuracy at each share of the training; what `repeated` kept."""
    curves = repeats["curves"]
    if len(curves) < 2:
        return {}
    epochs = {share: epoch_at(share, repeats["epochs"]) for share in SHARES}
    return {share: stdev(curve[epoch - 1] for curve in curves) for share, epoch in epochs.items()}
