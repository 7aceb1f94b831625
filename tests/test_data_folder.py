"""Image folders: splits, transforms against torchvision's, workers, damaged files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from prunenas.data import load
from prunenas.data.folder import MEAN, STD, FolderSplit
from prunenas.errors import DataError

CLASSES = ("cat", "dog", "fox")


def write_images(root: Path, part: str, each: int, *, side: int = 40) -> None:
    random = np.random.default_rng(len(part))
    for name in CLASSES:
        (root / part / name).mkdir(parents=True)
        for number in range(each):
            pixels = random.integers(0, 256, (side, side + 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / part / name / f"{number}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_images(tmp_path, "train", 10)
    write_images(tmp_path, "test", 2)
    return tmp_path


def paths(split: object) -> set[str]:
    assert isinstance(split, FolderSplit)
    return {path for path, _ in split.samples}


def test_validation_is_split_from_train_where_there_is_none(root: Path) -> None:
    data = load("image_folder", root=root, image_size=32, workers=0)
    assert (data.classes, data.input_shape) == (3, (3, 32, 32))
    assert [len(data.train), len(data.validation), len(data.test)] == [24, 6, 6]
    assert not paths(data.train) & paths(data.validation)
    assert isinstance(data.validation, FolderSplit)
    labels = [label for _, label in data.validation.samples]
    assert sorted(labels) == [0, 0, 1, 1, 2, 2]
    assert all(Path(p).parent.parent.name == "test" for p in paths(data.test))
    assert paths(load("image_folder", root=root, seed=1).validation) != paths(data.validation)


@pytest.mark.parametrize("name", ["val", "validation"])
def test_a_validation_folder_is_used_as_such(root: Path, name: str) -> None:
    write_images(root, name, 3)
    data = load("image_folder", root=root, train_limit=6)
    assert [len(data.train), len(data.validation), len(data.test)] == [6, 9, 6]
    assert all(Path(p).parent.parent.name == name for p in paths(data.validation))
    assert isinstance(data.train, FolderSplit)
    assert sorted(label for _, label in data.train.samples) == [0, 0, 1, 1, 2, 2]


def test_a_validation_folder_alone_is_the_test_split(tmp_path: Path) -> None:
    write_images(tmp_path, "train", 10)
    write_images(tmp_path, "val", 2)
    data = load("image_folder", root=tmp_path)
    assert [len(data.train), len(data.validation), len(data.test)] == [24, 6, 6]
    assert all(Path(p).parent.parent.name == "val" for p in paths(data.test))


@pytest.mark.parametrize("channels", [None, 1])
def test_images_in_order_are_resized_and_cropped_as_torchvision_does(
    root: Path, channels: int | None
) -> None:
    data = load("image_folder", root=root, image_size=28, workers=0, channels=channels)
    kept = 3 if channels is None else 1
    assert data.input_shape == (kept, 28, 28)
    # Independent of ours: torchvision's own pipeline in float, one image at a time.
    transform = v2.Compose(
        [
            v2.Resize(32),
            v2.CenterCrop(28),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN[kept], STD[kept]),
        ]
    )
    assert isinstance(data.test, FolderSplit)
    expected = []
    for path, _ in data.test.samples:
        with Image.open(path) as file:
            expected.append(transform(file.convert("RGB" if kept == 3 else "L")))
    batches = list(data.test.batches(4))
    assert [len(labels) for _, labels in batches] == [4, 2]
    images = torch.cat([images for images, _ in batches])
    assert images.dtype == torch.float32
    assert torch.allclose(images, torch.stack(expected), atol=1e-5)
    assert torch.cat([labels for _, labels in batches]).tolist() == [0, 0, 1, 1, 2, 2]


def test_images_taken_by_index_are_those_of_a_pass_in_order(root: Path) -> None:
    split = load("image_folder", root=root, image_size=28, workers=2).train
    batches = list(split.batches(24))
    images, labels = (torch.cat(column) for column in zip(*batches, strict=True))
    chosen = torch.tensor([23, 0, 7, 7])
    taken, taken_labels = split.at(chosen)
    assert torch.equal(taken, images[chosen])
    assert torch.equal(taken_labels, labels[chosen])
    assert torch.equal(split.labels, labels)
    assert split.labels.dtype == torch.int64
    assert split.users is None


def test_a_damaged_image_taken_by_index_is_named(root: Path) -> None:
    split = load("image_folder", root=root, image_size=16, validation=0.0).train
    assert isinstance(split, FolderSplit)
    Path(split.samples[3][0]).write_bytes(b"no image")
    with pytest.raises(DataError, match=r"damaged or unreadable image .*/3\.png"):
        split.at(torch.tensor([2, 3]))


def test_augmented_passes_replay_and_leave_global_random_numbers_alone(root: Path) -> None:
    data = load("image_folder", root=root, image_size=16, workers=0)

    def run(epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        batches = list(data.train.batches(8, seed=3, epoch=epoch, augment=True))
        return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])

    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = run(1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    again, other = run(1), run(2)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert sorted(first[1].tolist()) == [0] * 8 + [1] * 8 + [2] * 8


def test_augmentation_changes_each_image_in_its_own_way(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for part in ("train", "test"):
        (tmp_path / part / "one").mkdir(parents=True)
        for number in range(10):
            Image.fromarray(pixels).save(tmp_path / part / "one" / f"{number}.png")
    data = load("image_folder", root=tmp_path, image_size=16, workers=0)
    ((images, _),) = data.train.batches(8, seed=0, augment=True)
    assert len(torch.unique(images.flatten(1), dim=0)) == 8
    ((images, _),) = data.train.batches(8, seed=0)
    assert len(torch.unique(images.flatten(1), dim=0)) == 1


def test_the_number_of_workers_changes_nothing(root: Path) -> None:
    def run(workers: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        data = load("image_folder", root=root, image_size=16, workers=workers)
        return list(data.train.batches(8, seed=0, augment=True))

    for (images, labels), (other_images, other_labels) in zip(run(0), run(2), strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named_in_one_line(root: Path, workers: int) -> None:
    path = root / "test" / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:200])
    data = load("image_folder", root=root, image_size=16, workers=workers)
    with pytest.raises(DataError, match="damaged or unreadable image") as caught:
        list(data.test.batches(4))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_digest_follows_paths_sizes_and_image_size(root: Path, tmp_path: Path) -> None:
    first = load("image_folder", root=root).digest
    assert load("image_folder", root=root, workers=0).digest == first
    assert load("image_folder", root=root, image_size=64).digest != first
    moved = root.rename(root.with_name(root.name + "-moved"))
    assert load("image_folder", root=moved).digest == first
    path = moved / "test" / "dog" / "1.png"
    path.write_bytes(path.read_bytes() + b"0")
    assert load("image_folder", root=moved).digest != first


def test_splits_must_have_the_same_classes(root: Path) -> None:
    (root / "test" / "fox").rename(root / "test" / "wolf")
    with pytest.raises(DataError, match=r"differs from train in fox, wolf"):
        load("image_folder", root=root)


def test_empty_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match="found train; set 'root'"):
        load("image_folder", root=tmp_path)
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match="image_folder can't use") as caught:
        load("image_folder", root=tmp_path)
    assert "\n" not in str(caught.value)
