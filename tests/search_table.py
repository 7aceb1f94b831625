"""A table of trained architectures, so that ways of searching are compared in seconds.

Every width vector of a grid over the four channel groups of ``vgg_mini`` was trained from scratch
on scikit-learn's digits, with several seeds; the validation accuracy after each epoch is kept. The
file is gzipped JSON, to be read without prunenas; ``conditions`` says how it was made.

Make it again (about half an hour on one core; interrupted, it goes on where it stopped)::

    OMP_NUM_THREADS=1 python tests/search_table.py
"""

import argparse
import gzip
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from prunenas.architecture import Space, build, trace
from prunenas.data import Data, load
from prunenas.errors import TrainingError
from prunenas.training import Recipe, train

PATH = Path(__file__).parent / "golden" / "search_table.json.gz"
PARTIAL = Path("build") / "search_table.jsonl"

MODEL = "vgg_mini"
ARGUMENTS = {"num_classes": 10, "in_channels": 1, "input_size": 8}
INPUT_SHAPE = (1, 8, 8)
# Half for validation: with a fifth, one image in 287 would be a third of the seeds' noise.
DATA: Mapping[str, Any] = {"name": "digits", "validation": 0.5, "seed": 0}
# The quickstart's recipe, 8 epochs: short enough that accuracy depends on the widths.
RECIPE = Recipe(epochs=8, batch_size=64, lr=0.1, schedule="one_cycle")
RATIOS = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 5 / 8, 1.0)
SEEDS = 2


@dataclass(frozen=True)
class Table:
    """What was measured; rows are architectures, in the order of ``product(RATIOS, …)``.

    Attributes:
        conditions: How it was made: data, recipe, seeds, versions, processor.
        groups: Names of the channel groups.
        widths: Shape (rows, groups).
        flops: Fused multiply-adds for one input, shape (rows,).
        params: Trainable parameters, shape (rows,).
        curves: Validation accuracy, shape (rows, seeds, epochs); nan from where a training failed.
    """

    conditions: Mapping[str, Any]
    groups: tuple[str, ...]
    widths: NDArray[np.int64]
    flops: NDArray[np.int64]
    params: NDArray[np.int64]
    curves: NDArray[np.float64]

    @classmethod
    def read(cls, path: Path = PATH) -> "Table":
        """The committed table."""
        stored = json.loads(gzip.decompress(path.read_bytes()))
        right = np.array(
            [
                [[np.nan if n is None else n for n in curve] for curve in row]
                for row in stored["right"]
            ],
            dtype=float,
        )
        return cls(
            conditions=stored["conditions"],
            groups=tuple(stored["groups"]),
            widths=np.array(stored["widths"]),
            flops=np.array(stored["flops"]),
            params=np.array(stored["params"]),
            curves=right / stored["conditions"]["validation_images"],
        )

    @cached_property
    def dense(self) -> int:
        """The row of the dense network."""
        return int(self.flops.argmax())

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """FLOPs as a share of the dense network's, shape (rows,)."""
        return self.flops / self.flops[self.dense]

    @cached_property
    def levels(self) -> tuple[NDArray[np.int64], ...]:
        """The widths of each group that are on the grid, ascending."""
        return tuple(np.unique(column) for column in self.widths.T)

    @cached_property
    def accuracy(self) -> NDArray[np.float64]:
        """Mean over seeds of the accuracy after the last epoch, shape (rows,)."""
        # A failed training found nothing: it counts as guessing.
        final: NDArray[np.float64] = np.nan_to_num(self.curves[:, :, -1], nan=0.1).mean(axis=1)
        return final

    @cached_property
    def _rows(self) -> Mapping[tuple[int, ...], int]:
        return {tuple(row): index for index, row in enumerate(self.widths.tolist())}

    def row(self, widths: Sequence[int]) -> int:
        """The row of widths that are on the grid."""
        return self._rows[tuple(int(width) for width in widths)]

    def nearest(self, ratios: Sequence[float]) -> tuple[int, ...]:
        """The widths of the grid that are nearest to ratios, by their logarithm."""
        return tuple(
            int(levels[np.abs(np.log(levels / levels[-1]) - np.log(ratio)).argmin()])
            for levels, ratio in zip(self.levels, ratios, strict=True)
        )


def setting() -> tuple[Space, Data]:
    """The dense network's space, and the data."""
    return trace(MODEL, arguments=ARGUMENTS, input_shape=INPUT_SHAPE), load(**DATA)


def trained(space: Space, data: Data, ratios: Sequence[float], seed: int) -> list[int | None]:
    """Train one architecture; right answers on the validation split after each epoch."""
    named = {group.name: ratio for group, ratio in zip(space.groups, ratios, strict=True)}
    network = build(space.architecture(named), seed=seed, trust=True)
    right: list[int | None] = []

    def note(metrics: Any) -> None:
        right.append(round(metrics.validation.accuracy * len(data.validation)))

    try:
        train(network, data, RECIPE, seed=seed, report=note)
    except TrainingError:  # a dead network: what is missing says so
        right += [None] * (RECIPE.epochs - len(right))
    return right


def make(seeds: int = SEEDS, path: Path = PATH, partial: Path = PARTIAL) -> None:
    """Train with seeds from 0 what is not yet in the partial file, then write the table."""
    torch.set_num_threads(1)
    space, data = setting()
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.touch()
    done = {(row, seed): right for row, seed, right in _lines(partial)}
    grid = list(product(RATIOS, repeat=len(space.groups)))
    # Seeds outside: ended early, fewer seeds are whole.
    with partial.open("a") as file:
        for seed, (row, ratios) in product(range(seeds), enumerate(grid)):
            if (row, seed) not in done:
                done[row, seed] = trained(space, data, ratios, seed)
                file.write(json.dumps([row, seed, done[row, seed]]) + "\n")
                file.flush()
    architectures = [
        space.architecture({g.name: r for g, r in zip(space.groups, ratios, strict=True)})
        for ratios in grid
    ]
    table = {
        "conditions": _conditions(data, seeds),
        "groups": [group.name for group in space.groups],
        "widths": [[a.widths[group.name] for group in space.groups] for a in architectures],
        "flops": [architecture.flops for architecture in architectures],
        "params": [architecture.params for architecture in architectures],
        "right": [[done[row, seed] for seed in range(seeds)] for row in range(len(grid))],
    }
    text = json.dumps(table, separators=(",", ":")).encode()
    path.write_bytes(gzip.compress(text, compresslevel=9, mtime=0))


def _lines(partial: Path) -> Iterator[list[Any]]:
    for line in partial.read_text().splitlines():
        yield json.loads(line)


def machine() -> dict[str, Any]:
    """What decides the last digits of a training here."""
    return {"name": _processor(), "vectors": torch.backends.cpu.get_cpu_capability()}


def _conditions(data: Data, seeds: int) -> dict[str, Any]:
    libraries = ("prunenas", "torch", "numpy", "scikit-learn")
    return {
        "what": "right answers on the validation split after each epoch, right[row][seed][epoch]; "
        "null from where a training failed",
        "model": {"name": MODEL, "arguments": ARGUMENTS},
        "data": {**DATA, "digest": data.digest},
        "training_images": len(data.train),
        "validation_images": len(data.validation),
        "recipe": RECIPE.model_dump(mode="json"),
        "seeds": list(range(seeds)),
        "ratios": list(RATIOS),
        "threads": 1,
        "processor": machine(),
        "versions": {
            "python": platform.python_version(),
            **{library: version(library) for library in libraries},
        },
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    make(parser.parse_args().seeds)
