"""What a trial costs besides its training: CPU time between trials' ends, less that of the epochs.

Beside it all that a study does: proposing, building, counting, checkpoints, storage, MLflow,
pictures. Prints the mean share for each network and number of epochs; ``--each-epoch`` writes a
checkpoint after every epoch, for comparison::

    OMP_NUM_THREADS=1 python tests/overhead_bench.py --epochs 2 10
"""

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from unittest import mock

from prunenas.search import run_study
from prunenas.search.events import Event, TrialFinished
from prunenas.spec import load_study
from prunenas.training import EpochMetrics, keeping, loop

STUDY = """\
name: overhead
model: {{name: {model}}}
data: {{name: mnist5k, channels: 3, train_limit: {images}}}
methods:
  - {{name: l1_norm, space: {{widths: {{per: stage, ratio: {{low: 0.25, high: 1.0}}}}}}}}
objective: {{maximize: accuracy, minimize: flops}}
train: {{epochs: {epochs}, batch_size: 64, lr: 0.05}}
search: {{sampler: tpe, trials: {trials}, seed: 0, starts: false}}
"""

NETWORKS = {"vgg_mini": "vgg_mini", "resnet18": "torchvision/resnet18"}


@dataclass(frozen=True)
class Spent:
    """CPU seconds of this process, by trial.

    Attributes:
        whole: From the end of one trial to the end of the next.
        training: In training's and evaluation's epochs.
    """

    whole: tuple[float, ...]
    training: tuple[float, ...]

    @property
    def besides(self) -> float:
        """Mean of a trial, without its epochs."""
        return (sum(self.whole) - sum(self.training)) / len(self.whole)

    @property
    def share(self) -> float:
        """Of all trials' time, what is not training."""
        return 1 - sum(self.training) / sum(self.whole)


@contextlib.contextmanager
def each_epoch(wanted: bool) -> Iterator[None]:
    """Write a checkpoint after every epoch, whatever it costs."""
    with contextlib.ExitStack() as stack:
        if wanted:
            stack.enter_context(mock.patch.object(keeping, "SOONEST", 0.0))
            stack.enter_context(mock.patch.object(keeping, "SHARE", float("inf")))
        yield


def measure(model: str, *, trials: int, epochs: int, images: int) -> Spent:
    """Run a study in a folder of its own; its first trial warms up and is not counted."""
    spent = 0.0
    marks: list[tuple[float, float]] = []
    epoch = loop._Run._epoch

    def timed(self: loop._Run, index: int) -> EpochMetrics:
        nonlocal spent
        start = time.process_time()
        try:
            return epoch(self, index)
        finally:
            spent += time.process_time() - start

    def watch(event: Event) -> None:
        if isinstance(event, TrialFinished):
            marks.append((time.process_time(), spent))

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(loop._Run, "_epoch", timed):
        path = Path(folder) / "overhead.yaml"
        settings = {"model": NETWORKS[model], "images": images, "epochs": epochs}
        path.write_text(STUDY.format(**settings, trials=trials + 1))
        before = Path.cwd()
        os.chdir(folder)
        try:
            run_study(
                load_study(path),
                storage="sqlite:///studies.db",
                tracking="sqlite:///mlflow.db",
                device="cpu",
                watch=watch,
            )
        finally:
            os.chdir(before)
    steps = list(pairwise(marks))
    return Spent(
        tuple(b[0] - a[0] for a, b in steps),
        tuple(b[1] - a[1] for a, b in steps),
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure and print, a line for each network and number of epochs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--epochs", nargs="+", type=int, default=[2, 10])
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--each-epoch", action="store_true")
    chosen = parser.parse_args(arguments)
    for model in chosen.networks:
        for epochs in chosen.epochs:
            with each_epoch(chosen.each_epoch):
                spent = measure(model, trials=chosen.trials, epochs=epochs, images=chosen.images)
            print(
                f"{model}, {epochs} epochs: {spent.share:.2%} of a trial is not training "
                f"({spent.besides:.2f} s; mean of {len(spent.whole)} trials)",
                flush=True,
            )


if __name__ == "__main__":
    main()
