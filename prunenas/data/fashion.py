"""Fashion-MNIST in the idx format of MNIST, compressed or not."""

import gzip
import struct
import zlib
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch

from prunenas.data._base import Request, one_line
from prunenas.data.tensors import Pixels
from prunenas.errors import DataError

FILES = tuple(
    f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist


def read_fashion_mnist(request: Request) -> Pixels:
    """Read the four files, downloading them with torchvision where the user says so.

    They are looked for in torchvision's folder ``ROOT/FashionMNIST/raw``, in ``ROOT``, and, where
    the user names no root, in the folder of Debian's package.

    Raises:
        DataError: They are nowhere, can't be downloaded, or are damaged.
    """
    layout = request.folder / "FashionMNIST" / "raw"
    folders = [layout, request.folder, *([DEBIAN] if request.root is None else [])]
    folder = next((f for f in folders if all(_find(f, name) for name in FILES)), None)
    if folder is None and request.download:
        _download(request.folder)
        folder = layout
    # A folder with some of the files: reading it says which one is missing.
    folder = folder or next((f for f in folders if any(_find(f, name) for name in FILES)), None)
    if folder is None:
        raise DataError(
            f"fashion_mnist needs {layout}/train-images-idx3-ubyte.gz and three more; set "
            "'download: true' under 'data' (--download), or run: "
            "apt-get install dataset-fashion-mnist"
        )
    train, train_labels = _pair(folder, "train")
    test, test_labels = _pair(folder, "t10k")
    return Pixels(train, train_labels, test, test_labels)


def _find(folder: Path, name: str) -> Path | None:
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)


def _pair(folder: Path, part: str) -> tuple[torch.Tensor, torch.Tensor]:
    images = read_idx(_require(folder, f"{part}-images-idx3-ubyte"), dimensions=3)
    labels = read_idx(_require(folder, f"{part}-labels-idx1-ubyte"), dimensions=1)
    if images.shape[1:] != (28, 28) or len(images) != len(labels) or len(labels) == 0:
        raise DataError(
            f"damaged Fashion-MNIST in {folder}: {part} images {images.shape}, labels "
            f"{labels.shape}; expected N×28×28 and N"
        )
    if labels.max() > 9:
        raise DataError(f"damaged Fashion-MNIST in {folder}: label {labels.max()}, expected 0 to 9")
    return torch.from_numpy(images[:, None]), torch.from_numpy(labels.astype(np.int64))


def _require(folder: Path, name: str) -> Path:
    path = _find(folder, name)
    if path is None:
        raise DataError(f"fashion_mnist needs {folder / name}.gz, and it is not there")
    return path


def read_idx(path: Path, *, dimensions: int) -> np.ndarray:
    """Read an idx file of unsigned bytes: magic number, sizes (big-endian), then the values.

    Source: the description of the format on the MNIST page of LeCun, Cortes and Burges.

    Raises:
        DataError: It can't be read, is cut short or too long, or has other dimensions.
    """
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"damaged or unreadable file {path}: {one_line(error)}") from error
    start = 4 * (1 + dimensions)
    header = struct.unpack(f">{1 + dimensions}I", content[:start]) if len(content) >= start else ()
    if not header or header[0] != 0x0800 + dimensions:
        raise DataError(f"not an idx file of unsigned bytes with {dimensions} dimensions: {path}")
    shape = header[1:]
    values = np.frombuffer(bytearray(content[start:]), dtype=np.uint8)
    expected = int(np.prod(shape, dtype=np.int64))
    if values.size != expected:
        raise DataError(f"damaged file {path}: {values.size} values, its header says {expected}")
    return values.reshape(shape)


def _download(root: Path) -> None:
    from torchvision.datasets import FashionMNIST  # imported on use: it takes a second

    try:
        FashionMNIST(root, download=True)
    except (OSError, RuntimeError, HTTPException) as error:
        raise DataError(
            f"fashion_mnist could not be downloaded to {root}: {one_line(error)}"
        ) from error
