"""CIFAR: files of the real binary and Python formats, written here and read by the real loaders."""

import hashlib
import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from prunenas.data import load
from prunenas.data.cifar import CIFAR10, CIFAR100, Release
from prunenas.data.tensors import TensorSplit
from prunenas.errors import DataError

RELEASES = {"cifar10": CIFAR10, "cifar100": CIFAR100}


def make_images(release: Release, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    return images, (np.arange(count) % release.classes).astype(np.uint8)


def make_parts(release: Release) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    names = [*release.train, release.test]
    return {name: make_images(release, 200, seed) for seed, name in enumerate(names)}


def write_binary(root: Path, release: Release) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The authors' format: label byte(s), then 1024 red, 1024 green and 1024 blue bytes."""
    parts = make_parts(release)
    (root / release.folder).mkdir()
    for name, (images, labels) in parts.items():
        with (root / release.folder / name).open("wb") as file:
            for image, label in zip(images, labels, strict=True):
                if release is CIFAR100:
                    file.write(bytes([label // 5]))  # the coarse label comes first
                file.write(bytes([label]))
                for plane in image:
                    file.write(plane.tobytes())
    return parts


class OldPickler(pickle.Pickler):
    """Pickles arrays as the NumPy of the release's day did, with integers for flags."""

    def reducer_override(self, value: object) -> object:
        if isinstance(value, np.dtype):
            return np.dtype, ("u1", 0, 1), (3, "|", None, None, None, -1, -1, 0)
        return NotImplemented


def write_pickles(root: Path, release: Release, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Python form, with its checksums put where torchvision looks for the release's."""
    dataset = getattr(datasets, release.name)
    folder = root / release.pickles
    folder.mkdir(parents=True)

    def write(name: str, content: dict[str, object]) -> str:
        buffer = io.BytesIO()
        OldPickler(buffer, protocol=2).dump(content)
        (folder / name).write_bytes(buffer.getvalue())
        return hashlib.md5(buffer.getvalue()).hexdigest()

    sums = []
    key = "labels" if release is CIFAR10 else "fine_labels"
    names = [name for name, _ in dataset.train_list + dataset.test_list]
    for name, (images, labels) in zip(names, make_parts(release).values(), strict=True):
        flat = images.reshape(len(images), -1)
        sums.append([name, write(name, {"data": flat, key: labels.tolist()})])
    names = [f"class {number}" for number in range(release.classes)]
    meta = dict(dataset.meta)
    meta["md5"] = write(meta["filename"], {meta["key"]: names})
    monkeypatch.setattr(dataset, "train_list", sums[:-1])
    monkeypatch.setattr(dataset, "test_list", sums[-1:])
    monkeypatch.setattr(dataset, "meta", meta)
    return folder


@pytest.mark.parametrize("name", sorted(RELEASES))
def test_the_binary_form_is_read(tmp_path: Path, name: str) -> None:
    release = RELEASES[name]
    parts = write_binary(tmp_path, release)
    data = load(name, root=tmp_path, validation=0.5, seed=1)
    assert (data.classes, data.input_shape) == (release.classes, (3, 32, 32))
    assert isinstance(data.test, TensorSplit)
    assert isinstance(data.train, TensorSplit)
    assert isinstance(data.validation, TensorSplit)
    images, labels = parts[release.test]
    assert np.array_equal(data.test.images.numpy(), images)
    assert data.test.labels.tolist() == labels.tolist()

    written = {
        image.tobytes(): int(label)
        for file in release.train
        for image, label in zip(*parts[file], strict=True)
    }
    found = {
        image.numpy().tobytes(): int(label)
        for split in (data.train, data.validation)
        for image, label in zip(split.images, split.labels, strict=True)
    }
    assert found == written
    counts = torch.bincount(data.validation.labels)
    assert counts.min() == counts.max() == len(written) / 2 / release.classes


@pytest.mark.parametrize("name", sorted(RELEASES))
def test_the_python_form_is_read_and_is_the_same_data(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = RELEASES[name]
    write_pickles(tmp_path / "python", release, monkeypatch)
    (tmp_path / "binary").mkdir()
    write_binary(tmp_path / "binary", release)
    python = load(name, root=tmp_path / "python")
    assert python.digest == load(name, root=tmp_path / "binary").digest


def test_a_foreign_pickle_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_pickles(tmp_path, CIFAR10, monkeypatch)
    flag = tmp_path / "opened"

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (flag,)

    (folder / "data_batch_3").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="checksums of the authors' release") as caught:
        load("cifar10", root=tmp_path)
    assert str(folder) in str(caught.value)
    assert not flag.exists()


def test_a_download_is_unpacked_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[Path], str]
) -> None:
    mirror = tmp_path / "mirror"
    folder = write_pickles(mirror, CIFAR10, monkeypatch)
    archive = mirror / "cifar.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{serve(mirror)}/{archive.name}")
    checksum = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", checksum)
    data = load("cifar10", root=tmp_path / "data", download=True)
    assert data.digest == load("cifar10", root=mirror).digest


@pytest.mark.parametrize("name", sorted(RELEASES))
def test_a_failed_download_is_one_line(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = "http://127.0.0.1:9/cifar.tar.gz"  # nothing listens there
    monkeypatch.setattr(getattr(datasets, RELEASES[name].name), "url", nowhere)
    with pytest.raises(DataError, match="could not be downloaded") as caught:
        load(name, root=tmp_path, download=True)
    assert "\n" not in str(caught.value)


def test_damaged_binary_files_are_named(tmp_path: Path) -> None:
    write_binary(tmp_path, CIFAR10)
    path = tmp_path / CIFAR10.folder / "data_batch_2.bin"
    content = path.read_bytes()
    for damaged, message in (
        (content[:-1], "614599 bytes, expected records of 3073"),
        (b"", "0 bytes"),
        (b"\x0a" + content[1:], "label 10, expected 0 to 9"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=message) as caught:
            load("cifar10", root=tmp_path)
        assert str(path) in str(caught.value)
    path.unlink()
    with pytest.raises(DataError, match=r"unreadable CIFAR file .*data_batch_2\.bin"):
        load("cifar10", root=tmp_path)


def test_colour_images_stay_colour(tmp_path: Path) -> None:
    write_binary(tmp_path, CIFAR10)
    assert load("cifar10", root=tmp_path, channels=3).input_shape == (3, 32, 32)
    with pytest.raises(DataError, match="cifar10 has 3 channels, got channels 1"):
        load("cifar10", root=tmp_path, channels=1)
