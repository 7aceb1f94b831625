"""FEMNIST in LEAF's layout, from files that the tests write as LEAF's scripts do."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prunenas.data import Data, IndexedSplit, Partition, client_splits, load
from prunenas.data.tensors import TensorSplit
from prunenas.errors import DataError

Drawing = tuple[bytes, int]  # 784 bytes, and the label


def drawings(name: str, part: str, count: int) -> list[Drawing]:
    """What a writer drew: bytes and labels that follow from the arguments alone."""
    random = np.random.default_rng(list(f"{name}/{part}".encode()))
    return [
        (random.integers(0, 256, 784, dtype=np.uint8).tobytes(), int(random.integers(62)))
        for _ in range(count)
    ]


def leaf_json(users: dict[str, list[Drawing]]) -> dict[str, Any]:
    """The content of one file: LEAF divides bytes by 255, and json writes all their digits."""
    return {
        "users": list(users),
        "num_samples": [len(drawn) for drawn in users.values()],
        "user_data": {
            name: {
                "x": [(np.frombuffer(image, dtype=np.uint8) / 255).tolist() for image, _ in drawn],
                "y": [label for _, label in drawn],
            }
            for name, drawn in users.items()
        },
    }


def write(root: Path, part: str, *files: dict[str, list[Drawing]]) -> list[Path]:
    (root / part).mkdir(parents=True, exist_ok=True)
    paths = []
    for number, users in enumerate(files):
        paths.append(root / part / f"all_data_{number}_niid_05_keep_0_{part}_9.json")
        paths[-1].write_text(json.dumps(leaf_json(users)))
    return paths


TRAIN = {
    name: drawings(name, "train", count)
    for name, count in (("f0042_07", 9), ("f0001_41", 4), ("f1999_12", 12), ("f0300_00", 5))
}
TEST = {name: drawings(name, "test", 2) for name in TRAIN}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three of the training writers in one file and one in another, none in order."""
    names = list(TRAIN)
    write(tmp_path, "train", {n: TRAIN[n] for n in names[:3]}, {n: TRAIN[n] for n in names[3:]})
    write(tmp_path, "test", TEST)
    return tmp_path


def split_of(data: Data) -> TensorSplit:
    assert isinstance(data.train, TensorSplit)
    return data.train


def owners(split: IndexedSplit) -> list[int]:
    assert split.users is not None
    return split.users.tolist()


def test_every_byte_label_and_writer_comes_back(root: Path) -> None:
    data = load("femnist", root=root, validation=0.0)
    assert (data.classes, data.input_shape) == (62, (1, 28, 28))
    assert [len(data.train), len(data.validation), len(data.test)] == [30, 0, 8]
    expected = [
        (image, label, user)
        for user, name in enumerate(sorted(TRAIN))
        for image, label in TRAIN[name]
    ]
    split = split_of(data)
    images = [image.numpy().tobytes() for image in split.images]
    assert list(zip(images, split.labels.tolist(), owners(split), strict=True)) == expected
    assert isinstance(data.test, TensorSplit)
    tested = [label for name in sorted(TEST) for _, label in TEST[name]]
    assert data.test.labels.tolist() == tested
    assert data.test.users is None


def test_all_256_values_of_a_pixel_survive_the_division(tmp_path: Path) -> None:
    ramp = bytes(range(256)) * 3 + bytes(16)
    write(tmp_path, "train", {"a": [(ramp, 0)]})
    write(tmp_path, "test", {"a": [(ramp, 61)]})
    data = load("femnist", root=tmp_path, validation=0.0)
    assert split_of(data).images.numpy().tobytes() == ramp


def test_pixels_between_two_bytes_go_to_the_nearer_one(tmp_path: Path) -> None:
    write(tmp_path, "test", TEST)
    (path,) = write(tmp_path, "train", {"a": drawings("a", "train", 1)})
    content = json.loads(path.read_text())
    content["user_data"]["a"]["x"][0][:4] = [
        0.0019,
        0.0021,
        0.997,
        0.999,
    ]  # 0.48, 0.54, 254.2, 254.7
    path.write_text(json.dumps(content))
    images = split_of(load("femnist", root=tmp_path, validation=0.0)).images
    assert images.flatten()[:4].tolist() == [0, 1, 254, 255]


def test_writers_stay_with_their_images_through_validation_and_limit(root: Path) -> None:
    whose = {image: user for user, name in enumerate(sorted(TRAIN)) for image, _ in TRAIN[name]}
    split = split_of(load("femnist", root=root, validation=0.3, train_limit=15))
    assert len(split) == 15
    assert owners(split) == [whose[image.numpy().tobytes()] for image in split.images]
    clients = client_splits(split, 2, Partition("users"), seed=0)
    first, second = (set(torch.tensor(owners(split))[c.indices].tolist()) for c in clients)
    assert first
    assert second
    assert not first & second


def test_how_writers_are_spread_over_files_changes_nothing(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write(other, "train", *({name: TRAIN[name]} for name in reversed(TRAIN)))
    write(other, "test", TEST)
    assert load("femnist", root=other).digest == load("femnist", root=root).digest


def test_the_digest_follows_who_drew_what(root: Path, tmp_path: Path) -> None:
    """The same images and labels in the same order, all by one writer."""
    other = tmp_path / "other"
    together = [drawn for name in sorted(TRAIN) for drawn in TRAIN[name]]
    write(other, "train", {"one": together})
    write(other, "test", TEST)
    ours, theirs = (load("femnist", root=where, validation=0.0) for where in (root, other))
    assert torch.equal(split_of(ours).images, split_of(theirs).images)
    assert torch.equal(split_of(ours).labels, split_of(theirs).labels)
    assert ours.digest != theirs.digest


def test_empty_lists_that_leafs_split_leaves_are_passed_over(root: Path) -> None:
    (path, *_) = sorted((root / "train").iterdir())
    content = json.loads(path.read_text())
    content["user_data"]["f0000_00"] = {"x": [], "y": []}
    content["users"].append("f0000_01")
    content["num_samples"].append(0)
    content["user_data"]["f0000_01"] = {"x": [], "y": []}
    expected = load("femnist", root=root).digest
    path.write_text(json.dumps(content))
    data = load("femnist", root=root)
    assert data.digest == expected
    assert set(owners(data.train)) == {0, 1, 2, 3}


def test_shifted_letters_lie_on_white_paper(tmp_path: Path) -> None:
    """A blank sheet stays blank wherever it is shifted, and nothing is mirrored."""
    half = (bytes([0] * 14) + bytes([255] * 14)) * 28  # ink on the left
    for part in ("train", "test"):
        write(tmp_path, part, {"a": [(bytes([255]) * 784, 0)] * 20 + [(half, 1)] * 20})
    data = load("femnist", root=tmp_path, validation=0.0)
    ((images, labels),) = data.train.batches(40, seed=0, augment=True)
    white, black = ((value - data.mean[0]) / data.std[0] for value in (1, 0))
    blank, inked = images[labels == 0], images[labels == 1]
    assert torch.allclose(blank, torch.full_like(blank, white), atol=1e-4)
    assert torch.allclose(inked[..., 2:-2, 2:12], torch.tensor(black), atol=1e-4)
    assert torch.allclose(inked[..., 16:], torch.tensor(white), atol=1e-4)
    assert len(torch.unique(inked.flatten(1), dim=0)) > 3


def test_missing_files_are_told_with_what_there_is(root: Path) -> None:
    (root / "test").rename(root / "elsewhere")
    with pytest.raises(DataError) as caught:
        load("femnist", root=root, download=True)
    message = str(caught.value)
    assert message.startswith(f"femnist needs {root}/train/*.json and {root}/test/*.json, found")
    assert "found train/*.json; it can't be downloaded" in message
    assert "https://github.com/TalwalkarLab/leaf" in message
    assert "\n" not in message


def test_a_writer_in_two_files_is_refused(root: Path) -> None:
    """As where LEAF's scripts were run twice into one folder."""
    (root / "train" / "again.json").write_text(
        json.dumps(leaf_json({"f0042_07": TRAIN["f0042_07"]}))
    )
    with pytest.raises(DataError) as caught:
        load("femnist", root=root)
    assert str(caught.value).startswith("each user must be in one file, but 'f0042_07' is in ")
    assert "again.json" in str(caught.value)


def test_a_split_without_images_is_refused(root: Path) -> None:
    for path in (root / "test").iterdir():
        path.write_text(json.dumps(leaf_json({"a": []})))
    with pytest.raises(DataError, match=r"femnist needs images in each split, got none in .*/test"):
        load("femnist", root=root)


Change = Callable[[dict[str, Any]], object]


def of_user(change: Callable[[dict[str, Any]], object]) -> Change:
    return lambda content: change(content["user_data"]["a"])


DAMAGES: dict[str, tuple[Change, str]] = {
    "no users": (lambda c: c.pop("users"), "expected the lists users and num_samples and"),
    "no user_data": (lambda c: c.pop("user_data"), "expected the lists users and num_samples and"),
    "user_data a list": (lambda c: c.update(user_data=[]), "expected the lists users and"),
    "a number for a name": (lambda c: c.update(users=[1, 2]), "users must be names, each once"),
    "a name twice": (lambda c: c.update(users=["a", "a"]), "users must be names, each once"),
    "a count too few": (lambda c: c["num_samples"].pop(), "2 users, but 1 num_samples"),
    "a wrong count": (
        lambda c: c.update(num_samples=[4, 2]),
        "user 'a' has 3 images and 3 labels, num_samples says 4",
    ),
    "a label too few": (
        of_user(lambda u: u["y"].pop()),
        "user 'a' has 3 images and 2 labels, num_samples says 3",
    ),
    "a missing user": (
        lambda c: c["user_data"].pop("a"),
        "user 'a' needs the lists x and y in user_data",
    ),
    "no images": (of_user(lambda u: u.pop("x")), "user 'a' needs the lists x and y in user_data"),
    "a user too many": (
        lambda c: (c["users"].pop(0), c["num_samples"].pop(0)),
        "user 'a' has 3 images and 3 labels, num_samples says 0",
    ),
    "a pixel too few": (of_user(lambda u: u["x"][1].pop()), "each image of user 'a' must be 784"),
    "small images": (
        of_user(lambda u: u.update(x=[[0.5] * 100] * 3)),
        "each image of user 'a' must be 784 numbers",
    ),
    "words": (of_user(lambda u: u.update(x=["a.jpg"] * 3)), "each image of user 'a' must be 784"),
    "bytes": (of_user(lambda u: u["x"][0].__setitem__(5, 128)), "pixels of user 'a' must lie in"),
    "no number": (
        of_user(lambda u: u["x"][2].__setitem__(0, math.nan)),
        "pixels of user 'a' must lie in [0, 1]",
    ),
    "a label too high": (of_user(lambda u: u["y"].__setitem__(0, 62)), "labels of user 'a' must"),
    "a label too low": (of_user(lambda u: u["y"].__setitem__(0, -1)), "labels of user 'a' must be"),
    "a list of labels": (of_user(lambda u: u["y"].__setitem__(0, [1])), "labels of user 'a' must"),
    "endless": (
        of_user(lambda u: u["x"][2].__setitem__(0, 10**400)),
        "each image of user 'a' must be 784 numbers",
    ),
    "no object": (lambda c: c["user_data"].update(a=3), "user 'a' needs the lists x and y"),
    "half a label": (of_user(lambda u: u["y"].__setitem__(0, 1.5)), "labels of user 'a' must be"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, damage: str) -> None:
    change, law = DAMAGES[damage]
    (path,) = write(tmp_path, "train", {"a": drawings("a", "", 3), "b": drawings("b", "", 2)})
    write(tmp_path, "test", {"a": drawings("a", "test", 1)})
    assert len(load("femnist", root=tmp_path, validation=0.0).train) == 5
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        load("femnist", root=tmp_path, validation=0.0)
    assert str(caught.value).startswith(f"damaged LEAF file {path}: {law}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe\x00", b"[" * 200_000, b'{"users": ["a"], "num_samples"'],
    ids=repr,
)
def test_what_is_no_json_is_named_in_one_line(root: Path, content: bytes) -> None:
    path = root / "test" / "b.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"^damaged or unreadable LEAF file") as caught:
        load("femnist", root=root)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_json_that_is_no_object_is_named(root: Path) -> None:
    path = root / "test" / "b.json"
    path.write_text("[1, 2]")
    with pytest.raises(DataError, match="expected the lists users"):
        load("femnist", root=root)
