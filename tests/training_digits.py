"""Scikit-learn's digits as bare tensors, and a small network: the training loop's test bench."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from prunenas.data import Data


@dataclass(frozen=True)
class Tensors:
    """The whole of the split protocol, written apart from prunenas.data."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batches(
        self, batch_size: int, *, seed: int | None = None, epoch: int = 0, augment: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.arange(len(self))
        if seed is not None:
            digest = hashlib.sha256(f"{seed}/{epoch}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
            order = torch.randperm(len(self), generator=generator)
        for chosen in order.split(batch_size):
            if seed is None or len(chosen) > 1:
                yield self.images[chosen], self.labels[chosen]


def digits(train: int = 385, validation: int = 200) -> Data:
    """Some of the 1,797 images, normalised roughly; 385 = 6 × 64 + 1 drops the last one.

    Shuffled once, because neighbours in the set are by the same hand.
    """
    images, labels = load_digits(return_X_y=True)
    x = (torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) - 4.9) / 6.0
    y = torch.tensor(labels, dtype=torch.int64)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    cut = train + validation
    return Data(
        name="digits",
        classes=10,
        input_shape=(1, 8, 8),
        train=Tensors(x[:train], y[:train]),
        validation=Tensors(x[train:cut], y[train:cut]),
        test=Tensors(x[cut : cut + 100], y[cut : cut + 100]),
        digest=f"digits-{train}-{validation}",
        mean=(4.9 / 16,),
        std=(6.0 / 16,),
    )


def small_network(seed: int = 0, *, dropout: float = 0.0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64, 10),
        )


def same_state(one: nn.Module, other: nn.Module) -> bool:
    """Bit for bit, buffers included."""
    first, second = one.state_dict(), other.state_dict()
    return list(first) == list(second) and all(torch.equal(first[n], second[n]) for n in first)
