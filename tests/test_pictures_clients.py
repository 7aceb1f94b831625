"""The picture of who holds which classes, read back as pixels."""

import io
from typing import Any

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.image import imread

from prunenas.pictures import Kind, clients_picture

KINDS: tuple[Kind, ...] = ("png", "svg")


def pixels(picture: bytes) -> "np.ndarray[Any, np.dtype[np.float32]]":
    return np.asarray(imread(io.BytesIO(picture)))[..., :3]


def having(picture: bytes, label: int, classes: int) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Where the bars have a class's colour; the legend, right of them, is cut off."""
    colour = np.array(colormaps["viridis"].resampled(classes)(label)[:3])
    drawn = pixels(picture)
    found = np.abs(drawn - colour).max(axis=2) < 0.02
    return found[:, : drawn.shape[1] * 88 // 100]


def lines(mask: "np.ndarray[Any, np.dtype[np.bool_]]") -> list[Any]:
    rows = np.flatnonzero(mask.any(axis=1))
    return np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)


def test_pieces_are_as_long_as_their_counts_and_stand_in_order() -> None:
    counts = [[30, 10, 60], [0, 50, 0], [5, 5, 10]]
    picture = clients_picture(counts)
    masks = [having(picture, label, 3) for label in range(3)]
    bars = lines(masks[0] | masks[1] | masks[2])
    assert len(bars) == 3
    widths, starts = [], []
    for bar in bars:
        middle = int(bar.mean())
        widths.append([int(mask[middle].sum()) for mask in masks])
        starts.append([int(mask[middle].argmax()) for mask in masks if mask[middle].any()])
    unit = widths[0][2] / 60
    for drawn, count in zip(widths, counts, strict=True):
        assert [width / unit for width in drawn] == pytest.approx(count, abs=2 / unit + 0.3)
    assert all(each == sorted(each) for each in starts)
    assert starts[0][0] == pytest.approx(starts[1][0], abs=2)  # all begin at nought


def test_each_class_is_in_the_legend() -> None:
    """Two classes that only the legend shows."""
    picture = clients_picture([[9, 0, 0, 4]])
    whole = pixels(picture)
    for label in (1, 2):
        colour = np.array(colormaps["viridis"].resampled(4)(label)[:3])
        found = np.abs(whole - colour).max(axis=2) < 0.02
        assert not having(picture, label, 4).any()
        assert found.sum() > 200


@pytest.mark.parametrize(("clients", "classes"), [(1, 1), (50, 62), (51, 10), (300, 20)])
def test_any_number_of_clients_and_classes_is_drawn(clients: int, classes: int) -> None:
    counts = np.random.default_rng(0).integers(1, 9, (clients, classes)).tolist()
    picture = clients_picture(counts, title="shards")
    assert pixels(picture).shape[1] == 912
    assert pixels(picture).shape[0] < 1700


def test_the_same_counts_give_the_same_bytes() -> None:
    counts = [[3, 4], [0, 9]]
    for kind in KINDS:
        assert clients_picture(counts, kind=kind) == clients_picture(counts, kind=kind)


def test_a_picture_can_be_svg() -> None:
    drawn = clients_picture([[3, 0, 1]], kind="svg").decode()
    assert drawn.startswith("<?xml")
    assert "4 of 2 classes" in drawn
    assert "4 images at 1 client" in drawn
