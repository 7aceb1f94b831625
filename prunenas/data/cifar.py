"""CIFAR-10 and CIFAR-100, in the authors' binary form or their Python form.

The binary form holds plain bytes and is read here; what it says is checked, whoever wrote it. The
Python form is a pickle, and unpickling runs code: it is left to torchvision, which first compares
each file with the checksum of the authors' release, so that no other file is ever opened.

Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images";
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import warnings
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from prunenas.data._base import Request, one_line
from prunenas.data.tensors import Pixels
from prunenas.errors import DataError

SIDE = 32
PIXELS = 3 * SIDE * SIDE


@dataclass(frozen=True)
class Release:
    """The files of one of the two data sets.

    Attributes:
        name: Of torchvision's class.
        classes: Labels are 0 to ``classes - 1``.
        labels: Bytes before the pixels of a record; the last of them is the label.
        archive: Of the binary form, under the authors' address.
        folder: The binary form's.
        train: Its training files, in order.
        test: Its test file.
        pickles: The Python form's folder.
    """

    name: str
    classes: int
    labels: int
    archive: str
    folder: str
    train: tuple[str, ...]
    test: str
    pickles: str


CIFAR10 = Release(
    name="CIFAR10",
    classes=10,
    labels=1,
    archive="cifar-10-binary.tar.gz",
    folder="cifar-10-batches-bin",
    train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    test="test_batch.bin",
    pickles="cifar-10-batches-py",
)
CIFAR100 = Release(
    name="CIFAR100",
    classes=100,
    labels=2,
    archive="cifar-100-binary.tar.gz",
    folder="cifar-100-binary",
    train=("train.bin",),
    test="test.bin",
    pickles="cifar-100-python",
)


def read_cifar10(request: Request) -> Pixels:
    """CIFAR-10; see :func:`read_release`."""
    return read_release(CIFAR10, request)


def read_cifar100(request: Request) -> Pixels:
    """CIFAR-100 with its 100 fine labels; see :func:`read_release`."""
    return read_release(CIFAR100, request)


def read_release(release: Release, request: Request) -> Pixels:
    """Read the binary form, else the Python form, else download the Python form if asked to.

    Raises:
        DataError: There is neither, the download failed, or a file is missing or damaged.
    """
    binary = request.folder / release.folder
    if binary.is_dir():
        parts = [read_records(release, binary / name) for name in release.train]
        images, labels = (torch.cat(column) for column in zip(*parts, strict=True))
        return Pixels(images, labels, *read_records(release, binary / release.test))
    if request.download or (request.folder / release.pickles).is_dir():
        train = _read_pickles(release, request, train=True)
        return Pixels(*train, *_read_pickles(release, request, train=False))
    raise DataError(
        f"{request.name} needs the folder {binary} or {request.folder / release.pickles}; set "
        f"'download: true' under 'data' (--download), or unpack https://www.cs.toronto.edu/~kriz/"
        f"{release.archive} in {request.folder}"
    )


def read_records(release: Release, path: Path) -> tuple[Tensor, Tensor]:
    """Read one file of the binary form: records of label bytes and 3 × 32 × 32 pixels.

    Returns:
        Images, uint8 ``(N, 3, 32, 32)``, and labels, int64 ``(N,)``.

    Raises:
        DataError: It can't be read, is not a whole number of records, or has a label too high.
    """
    try:
        content = np.frombuffer(bytearray(path.read_bytes()), dtype=np.uint8)
    except OSError as error:
        raise DataError(f"unreadable CIFAR file {path}: {one_line(error)}") from error
    record = release.labels + PIXELS
    if content.size == 0 or content.size % record:
        raise DataError(
            f"damaged CIFAR file {path}: {content.size} bytes, expected records of {record}"
        )
    records = torch.from_numpy(content.reshape(-1, record))
    labels = records[:, release.labels - 1].long()
    if labels.max() >= release.classes:
        raise DataError(
            f"damaged CIFAR file {path}: label {labels.max()}, expected 0 to {release.classes - 1}"
        )
    return records[:, release.labels :].reshape(-1, 3, SIDE, SIDE), labels


def _read_pickles(release: Release, request: Request, *, train: bool) -> tuple[Tensor, Tensor]:
    from torchvision import datasets  # imported on use: it takes a second

    try:
        with warnings.catch_warnings():
            # The release was pickled by an old NumPy, in a form that NumPy 2.4 warns about.
            warnings.filterwarnings("ignore", message=".*align should be passed as Python or NumPy")
            data = getattr(datasets, release.name)(
                request.folder, train=train, download=request.download
            )
    except (OSError, RuntimeError, HTTPException) as error:
        if request.download:
            raise DataError(
                f"{request.name} could not be downloaded to {request.folder}: {one_line(error)}"
            ) from error
        raise DataError(
            f"damaged CIFAR files in {request.folder / release.pickles}: not all are there with "
            "the checksums of the authors' release; set 'download: true' under 'data' (--download)"
        ) from error
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(data.targets, dtype=torch.int64)
