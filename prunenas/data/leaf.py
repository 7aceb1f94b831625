"""FEMNIST as LEAF's scripts write it: JSON files of images by user.

::

    ROOT/train/*.json    each {"users": [name, ...], "num_samples": [count, ...],
    ROOT/test/*.json           "user_data": {name: {"x": [[784 pixels], ...], "y": [label, ...]}}}

A user is a writer, with all images of a split in one file. Pixels are a byte over 255, 1 for white
paper: rounding 255 times them gives the byte back, and no image is inverted (PruneFL's authors do
that). Labels are 0 to 9 for digits, 10 to 35 for capitals, 36 to 61 for small letters.

Source: Caldas et al. 2018, "LEAF: A Benchmark for Federated Settings"; the layout and the meaning
of its figures from the authors' ``data/femnist/preprocess/data_to_json.py`` and
``data/utils/split_data.py``.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunenas.data._base import Request, one_line
from prunenas.data.tensors import Pixels
from prunenas.errors import DataError

SIDE = 28
CLASSES = 62

# A user's images, uint8 (N, 784), and labels, int64 (N,).
Drawn = tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]


def read_femnist(request: Request) -> Pixels:
    """Read all files of both splits; users are known of the training split.

    Images stand in the order of their users' sorted names, however users are spread over files.

    Raises:
        DataError: There are no files, or one is damaged.
    """
    root = request.folder
    files = {part: sorted((root / part).glob("*.json")) for part in ("train", "test")}
    if not all(files.values()):
        found = [f"{part}/*.json" for part, paths in files.items() if paths]
        raise DataError(
            f"femnist needs {root}/train/*.json and {root}/test/*.json, found "
            f"{' and '.join(found) or 'neither'}; it can't be downloaded: run "
            "'./preprocess.sh -s niid --sf 0.05 -k 0 -t sample' in data/femnist of "
            "https://github.com/TalwalkarLab/leaf, and set 'root' under 'data' (--root) to its "
            "folder data"
        )
    train, train_labels, users = _gather(files["train"])
    test, test_labels, _ = _gather(files["test"])
    return Pixels(train, train_labels, test, test_labels, users)


def _gather(paths: list[Path]) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and users of a split: uint8 ``(N, 1, 28, 28)``, int64 ``(N,)`` twice."""
    drawn: dict[str, Drawn] = {}
    origin: dict[str, Path] = {}
    for path in paths:
        for name, images_and_labels in read_users(path).items():
            if name in origin:  # such as files left over from an earlier run of LEAF's scripts
                raise DataError(
                    f"each user must be in one file, but {name!r} is in {origin[name]} and {path}"
                )
            origin[name], drawn[name] = path, images_and_labels
    if not drawn:
        raise DataError(f"femnist needs images in each split, got none in {paths[0].parent}")
    images, labels = zip(*(drawn[name] for name in sorted(drawn)), strict=True)
    counts = torch.tensor([len(of_user) for of_user in labels])
    return (
        torch.from_numpy(np.concatenate(images)).reshape(-1, 1, SIDE, SIDE),
        torch.from_numpy(np.concatenate(labels)),
        torch.repeat_interleave(torch.arange(len(counts)), counts),
    )


def read_users(path: Path) -> dict[str, Drawn]:
    """Read one file: images and labels of each user who has any, by name.

    Raises:
        DataError: It can't be read, isn't of LEAF's layout, or its figures contradict each other.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"damaged or unreadable LEAF file {path}: {one_line(error)}") from error
    content = content if isinstance(content, dict) else {}
    users, counts, data = (content.get(key) for key in ("users", "num_samples", "user_data"))
    if not (isinstance(users, list) and isinstance(counts, list) and isinstance(data, dict)):
        raise _damaged(path, "expected the lists users and num_samples and the object user_data")
    if not all(isinstance(name, str) for name in users) or len(set(users)) != len(users):
        raise _damaged(path, "users must be names, each once")
    if len(users) != len(counts):
        raise _damaged(path, f"{len(users)} users, but {len(counts)} num_samples")
    read = {
        name: _read_user(path, name, data.get(name), count)
        for name, count in zip(users, counts, strict=True)
    }
    for name in data.keys() - read.keys():
        # LEAF's split leaves out users with a single image, but keeps their empty lists.
        if len(_read_user(path, name, data[name], 0)[1]):
            raise _damaged(path, f"user {name!r} is in user_data and not in users")
    return {name: drawn for name, drawn in read.items() if len(drawn[1])}


def _read_user(path: Path, name: str, entry: object, count: object) -> Drawn:
    """Check and convert one user's images and labels; ``count`` is what num_samples says."""
    x, y = (entry.get("x"), entry.get("y")) if isinstance(entry, dict) else (None, None)
    if not (isinstance(x, list) and isinstance(y, list)):
        raise _damaged(path, f"user {name!r} needs the lists x and y in user_data")
    if not len(x) == len(y) == count:
        raise _damaged(
            path, f"user {name!r} has {len(x)} images and {len(y)} labels, num_samples says {count}"
        )
    if not y:
        return np.empty((0, SIDE * SIDE), np.uint8), np.empty(0, np.int64)
    try:
        pixels = np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):  # unequal lengths, or what is no number
        pixels = np.empty(0)
    if pixels.shape != (len(x), SIDE * SIDE):
        raise _damaged(path, f"each image of user {name!r} must be {SIDE * SIDE} numbers")
    if not ((pixels >= 0) & (pixels <= 1)).all():  # NaN fails it too
        raise _damaged(path, f"pixels of user {name!r} must lie in [0, 1]")
    if not all(type(label) is int and 0 <= label < CLASSES for label in y):
        raise _damaged(path, f"labels of user {name!r} must be whole, 0 to {CLASSES - 1}")
    return np.rint(255 * pixels).astype(np.uint8), np.asarray(y, dtype=np.int64)


def _damaged(path: Path, law: str) -> DataError:
    return DataError(f"damaged LEAF file {path}: {law}")
