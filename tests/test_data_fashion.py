"""Fashion-MNIST: the idx format, torchvision's layout, Debian's files."""

import gzip
import hashlib
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import FashionMNIST

from prunenas.data import load
from prunenas.data.fashion import DEBIAN, read_idx
from prunenas.data.tensors import TensorSplit
from prunenas.errors import DataError

needs_debian = pytest.mark.skipif(
    not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist"
)


def idx(values: np.ndarray) -> bytes:
    """The idx form of unsigned bytes: 0, 0, type 8, dimensions, sizes, values."""
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(np.uint8).tobytes()


def write_release(folder: Path, *, compressed: bool, count: int = 40) -> dict[str, np.ndarray]:
    """Write four small files of the real format; the values by file name."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for part, images in (("train", count), ("t10k", 20)):
        for name, values in (
            (f"{part}-images-idx3-ubyte", random.integers(0, 256, (images, 28, 28))),
            (f"{part}-labels-idx1-ubyte", np.arange(images) % 10),
        ):
            content = idx(values)
            path = folder / (f"{name}.gz" if compressed else name)
            path.write_bytes(gzip.compress(content) if compressed else content)
            written[name] = values
    return written


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("layout", ["FashionMNIST/raw", "."])
def test_files_are_read_in_each_layout(tmp_path: Path, layout: str, compressed: bool) -> None:
    written = write_release(tmp_path / layout, compressed=compressed)
    data = load("fashion_mnist", root=tmp_path, validation=0.25)
    assert [len(data.train), len(data.validation), len(data.test)] == [30, 10, 20]
    assert isinstance(data.test, TensorSplit)
    assert np.array_equal(data.test.images[:, 0].numpy(), written["t10k-images-idx3-ubyte"])
    assert data.test.labels.tolist() == written["t10k-labels-idx1-ubyte"].tolist()


def test_torchvision_reads_the_same_from_the_same_files(tmp_path: Path) -> None:
    write_release(tmp_path / "FashionMNIST" / "raw", compressed=False)
    data = load("fashion_mnist", root=tmp_path)
    theirs = FashionMNIST(tmp_path, train=False)
    assert isinstance(data.test, TensorSplit)
    assert torch.equal(data.test.images[:, 0], theirs.data)
    assert torch.equal(data.test.labels, theirs.targets)


def damage(name: str, content: bytes | None):
    def apply(folder: Path) -> None:
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)

    return apply


IMAGES = "train-images-idx3-ubyte.gz"
LABELS = "train-labels-idx1-ubyte.gz"


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (damage(IMAGES, b"not gzip"), "damaged or unreadable file"),
        (damage(IMAGES, gzip.compress(b"x" * 4000)[:30]), "damaged or unreadable file"),
        (damage(IMAGES, gzip.compress(b"")), "not an idx file"),
        (damage(IMAGES, gzip.compress(idx(np.arange(10)))), "not an idx file"),
        (damage(IMAGES, gzip.compress(idx(np.zeros((40, 28, 28)))[:-1])), "its header says 31360"),
        (damage(IMAGES, gzip.compress(idx(np.zeros((40, 8, 8))))), "expected N×28×28 and N"),
        (damage(LABELS, gzip.compress(idx(np.zeros(39)))), "expected N×28×28 and N"),
        (damage(LABELS, gzip.compress(idx(np.full(40, 10)))), "label 10, expected 0 to 9"),
        (damage(LABELS, None), "and it is not there"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, apply, message: str) -> None:
    write_release(tmp_path, compressed=True)
    apply(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        load("fashion_mnist", root=tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="damaged or unreadable"):
        read_idx(tmp_path, dimensions=1)  # a folder


@needs_debian
def test_debians_files_are_found_without_a_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = load("fashion_mnist")
    assert [len(data.train), len(data.validation), len(data.test)] == [48_000, 12_000, 10_000]
    assert (data.classes, data.input_shape) == (10, (1, 28, 28))
    # The mean and deviation of the training images, as widely printed: 0.2860 and 0.3530.
    assert data.mean[0] == pytest.approx(0.2860, abs=1e-3)
    assert data.std[0] == pytest.approx(0.3530, abs=1e-3)
    assert isinstance(data.train, TensorSplit)
    assert torch.bincount(data.train.labels).tolist() == [4_800] * 10
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="fashion_mnist needs"):
        load("fashion_mnist", root=tmp_path)  # a root that the user names is the only one


def test_a_download_is_torchvisions_checksums_and_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[Path], str]
) -> None:
    mirror = tmp_path / "mirror"
    write_release(mirror, compressed=True)
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"{serve(mirror)}/"])
    with pytest.raises(DataError, match=r"File not found or corrupted"):
        load("fashion_mnist", root=tmp_path, download=True)  # not the release's checksums

    sums = [
        (path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in sorted(mirror.iterdir())
    ]
    monkeypatch.setattr(FashionMNIST, "resources", sums)
    raw = tmp_path / "FashionMNIST" / "raw"
    for path in raw.iterdir():  # what an interrupted download leaves is gone on with
        if path.name != LABELS:
            path.unlink()
    shutil.copy(mirror / LABELS, raw)
    with pytest.raises(DataError, match=r"needs .*/train-images-idx3-ubyte.gz, and it is not"):
        load("fashion_mnist", root=tmp_path)
    data = load("fashion_mnist", root=tmp_path, download=True)
    assert data.digest == load("fashion_mnist", root=mirror).digest
    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    assert load("fashion_mnist", root=tmp_path, download=True).digest == data.digest  # it is there


def test_a_failed_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])  # nothing listens there
    with pytest.raises(DataError, match="could not be downloaded") as caught:
        load("fashion_mnist", root=tmp_path, download=True)
    assert "\n" not in str(caught.value)
