"""What every data set becomes, what may be asked of one, and where its random numbers come from."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor


class Split(Protocol):
    """The images and labels of one part of a data set."""

    def __len__(self) -> int:
        """The number of images."""
        ...

    def batches(
        self, batch_size: int, *, seed: int | None = None, epoch: int = 0, augment: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over the split, on its device.

        Args:
            batch_size: Images in a batch, at least 1.
            seed: ``None`` keeps the order and every image. A number shuffles by ``(seed, epoch)``
                and nothing else, so that any epoch can be replayed alone, and drops a last batch
                of a single image, which batch normalisation can't take, unless ``batch_size`` is 1
                or there is no other batch.
            epoch: Which shuffle.
            augment: Random crops, and flips where they keep the class; also drawn from
                ``(seed, epoch)``.

        Yields:
            Images, float32 ``(N, C, H, W)``, normalised to the training split's mean and standard
            deviation per channel, and labels, int64 ``(N,)``.

        Raises:
            DataError: ``batch_size`` below 1, ``augment`` without a seed, or a damaged image file.
        """
        ...


class IndexedSplit(Split, Protocol):
    """A split whose images can be taken in any order, as those of a client are."""

    @property
    def labels(self) -> Tensor:
        """The label of each image, int64 ``(N,)``."""
        ...

    @property
    def users(self) -> Tensor | None:
        """Who made each image, int64 ``(N,)``; ``None`` where the data set doesn't say."""
        ...

    def at(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Some images and their labels, as :meth:`batches` yields them without augmentation.

        Args:
            indices: int64 ``(M,)``, each in 0 to N - 1; an image may be named twice.

        Raises:
            DataError: A damaged image file.
        """
        ...


@dataclass(frozen=True)
class Data:
    """A data set, loaded and split.

    Attributes:
        name: As in ``DATASETS``.
        classes: The number of classes; labels are 0 to ``classes - 1``.
        input_shape: ``(C, H, W)`` of one image.
        train: What networks learn from.
        validation: What search and early stopping read; empty where all images are trained on.
        test: What is read once, for a reported figure.
        digest: 16 hexadecimal digits that name these splits: data set, content, seed, sizes.
        mean: Of the training images per channel, pixels in [0, 1]; already subtracted in batches.
        std: Standard deviation, the same way; batches are already divided by it.
    """

    name: str
    classes: int
    input_shape: tuple[int, int, int]
    train: IndexedSplit
    validation: Split
    test: Split
    digest: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Request:
    """What the user asked of a data set; the fields are :func:`prunenas.data.load`'s arguments."""

    name: str
    root: Path | None
    download: bool
    validation: float
    seed: int
    channels: int | None
    train_limit: int | None
    workers: int
    image_size: int
    device: torch.device

    @property
    def folder(self) -> Path:
        """Where files are looked for and downloaded to."""
        return Path("data") if self.root is None else self.root

    def digest(self, **content: object) -> str:
        """Name the splits: whatever changes a batch has to be in here."""
        parts = {
            "format": 1,  # raise it when the same request gives other batches than before
            "name": self.name,
            "validation": self.validation,
            "seed": self.seed,
            "channels": self.channels,
            "train_limit": self.train_limit,
            **content,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def generator(*parts: int | str) -> torch.Generator:
    """Random numbers on the CPU that depend on ``parts`` alone, not on torch's global state."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def one_line(error: BaseException) -> str:
    """An outside library's message on one line, or its type when it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
