"""What masks cost while a network is trained: a step of VGG-16 with masks over one without.

Steps of the two take turns, so that both see the same machine; the ratio is of their medians. Both
are the same network with the same optimiser; one has masks on all convolutions and linear layers,
which are applied as the training loop does::

    OMP_NUM_THREADS=1 python tests/mask_bench.py --batch 32 --rounds 15
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
import torch.nn.functional as F

from prunenas.architecture import build, masked_weights, trace
from prunenas.architecture.masking import put_on
from prunenas.training.masks import Masks


@dataclass(frozen=True)
class Cost:
    """Seconds of steps, in the order in which they took turns."""

    plain: tuple[float, ...]
    masked: tuple[float, ...]

    @property
    def overhead(self) -> float:
        """What masks add, as a share of a step without."""
        return median(self.masked) / median(self.plain) - 1


def step(density: float | None, batch: int) -> Callable[[], None]:
    """Return one training step of a fresh VGG-16 on random images."""
    space = trace("vgg16", input_shape=(3, 32, 32))
    network = build(space.dense, seed=0)
    if density is not None:
        random = torch.Generator().manual_seed(0)
        keep = {
            name: torch.rand(weight.shape, generator=random) < density
            for name, weight in masked_weights(network).items()
        }
        put_on(network, keep)
    masks = Masks(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    images, labels = torch.randn(batch, 3, 32, 32), torch.arange(batch) % 10

    def take() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network(images), labels).backward()
        masks.silence()
        optimizer.step()
        masks.drop()

    return take


def measure(*, batch: int, rounds: int, density: float = 0.1) -> Cost:
    """Let the two take turns; the first steps of both are not counted."""
    kinds = (step(None, batch), step(density, batch))
    spent: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 2):
        for take, times in zip(kinds, spent, strict=True):
            start = time.perf_counter()
            take()
            if number >= 2:
                times.append(time.perf_counter() - start)
    return Cost(tuple(spent[0]), tuple(spent[1]))


def main(arguments: list[str] | None = None) -> None:
    """Measure and print, a line for each batch size."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", nargs="+", type=int, default=[32, 128])
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args(arguments)
    for batch in chosen.batch:
        cost = measure(batch=batch, rounds=chosen.rounds)
        print(
            f"VGG-16, batch {batch}: masks add {cost.overhead:.1%} to a step "
            f"(medians of {chosen.rounds})",
            flush=True,
        )


if __name__ == "__main__":
    main()
