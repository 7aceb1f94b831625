"""Pictures, read back as pixels."""

import io
import math
import random
from typing import Any

import numpy as np
import pytest
import synthetic
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from prunenas.pictures import (
    densities_picture,
    front_picture,
    latency_picture,
    repeats_picture,
    widths_picture,
)

BLUE, ORANGE = "#0072B2", "#D55E00"


def pixels(picture: bytes) -> "np.ndarray[Any, np.dtype[np.float32]]":
    assert picture.startswith(b"\x89PNG\r\n")
    return np.asarray(imread(io.BytesIO(picture)))[..., :3]


def having(picture: bytes, colour: str) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    return np.asarray(np.abs(pixels(picture) - np.array(to_rgb(colour))).max(axis=2) < 0.01)


def test_each_method_has_a_colour_of_its_own() -> None:
    records = synthetic.study()
    both = front_picture(records, synthetic.DENSE)
    assert having(both, BLUE).sum() > 100
    assert having(both, ORANGE).sum() > 50
    one = front_picture([r for r in records if r["method"] == "l1_norm"], synthetic.DENSE)
    assert having(one, BLUE).sum() > 100
    assert having(one, ORANGE).sum() == 0


def test_marks_stand_where_their_figures_are() -> None:
    """Three trials on one line of accuracy: their marks' distances are those of their FLOPs."""
    shares = (0.2, 0.5, 0.8)
    records = [synthetic.record(n, 0.95 + 0.001 * n, share) for n, share in enumerate(shares)]
    blue = having(front_picture(records, synthetic.DENSE), BLUE)
    columns = np.flatnonzero(blue[: blue.shape[0] * 4 // 5].any(axis=0))  # without the legend
    marks = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    centres = [mark.mean() for mark in marks]
    assert len(centres) == 3
    assert (centres[2] - centres[1]) == pytest.approx(centres[1] - centres[0], abs=2)
    # The axis reaches from 0 to 103 % of dense over most of the picture.
    width = blue.shape[1]
    assert (centres[2] - centres[0]) / 0.6 == pytest.approx(0.9 * width, rel=0.1)


@pytest.mark.parametrize("accuracy", [None, 0.981])
@pytest.mark.parametrize("number", [0, 1, 300])
def test_any_number_of_trials_is_drawn(number: int, accuracy: float | None) -> None:
    dice = random.Random(number)
    methods = [f"method_{index}" for index in range(14)] + ["uniform"]
    records = [
        synthetic.record(n, dice.random(), dice.uniform(0.01, 1), method=methods[n % 15])
        for n in range(number)
    ]
    picture = front_picture(records, synthetic.DENSE | {"accuracy": accuracy})
    assert pixels(picture).shape[1] == 912


def test_trials_without_an_accuracy_are_left_out() -> None:
    whole = [synthetic.record(0, 0.9, 0.5)]
    failed = synthetic.record(1, None, 0.4, state="failed", reason="non-finite loss")
    strange = synthetic.record(2, math.nan, 0.4, epochs=0)
    drawn = front_picture(whole, synthetic.DENSE)
    assert front_picture([*whole, failed, strange], synthetic.DENSE) == drawn


def bar_lengths(picture: bytes) -> list[int]:
    """Length of each bar in pixels, from top to bottom."""
    blue = having(picture, BLUE)
    lines = np.flatnonzero(blue.any(axis=1))
    bars = np.split(lines, np.flatnonzero(np.diff(lines) > 1) + 1)
    return [int(blue[int(bar.mean())].sum()) for bar in bars]


def test_bars_of_densities_are_shares_however_large_the_layers_are() -> None:
    kept = {"a.weight": (10, 10), "b.weight": (50_000, 200_000), "c.weight": (1, 2)}
    first, *others = bar_lengths(densities_picture(kept, title="trial 3"))
    assert [length / first for length in others] == pytest.approx([0.25, 0.5], abs=0.01)


def test_bars_are_as_long_as_what_is_left() -> None:
    dense = {"a": 64, "b": 32, "c": 64, "d": 16, "e": 64}
    left = {"a": 64, "b": 8, "c": 16, "d": 16}  # e is not said: it keeps all
    lengths = bar_lengths(widths_picture(left, dense))
    assert len(lengths) == 5
    unit = lengths[0] / 64
    assert [length / unit for length in lengths] == pytest.approx([64, 8, 16, 16, 64], abs=1)


@pytest.mark.parametrize("groups", [1, 5, 60])
def test_every_group_has_a_line_that_can_be_read(groups: int) -> None:
    dense = {f"features.denseblock3.denselayer{n}.conv1.conv": 64 for n in range(groups)}
    drawn = widths_picture(dict.fromkeys(dense, 32), dense)
    picture, blue = pixels(drawn), having(drawn, BLUE)
    lines = np.flatnonzero(blue.any(axis=1))
    bars = np.split(lines, np.flatnonzero(np.diff(lines) > 1) + 1)
    assert len(bars) == groups
    assert picture.shape[1] == 912
    if groups > 1:  # letters of 8 points are 13 pixels high
        pitch = (lines[-1] - lines[0]) / groups
        assert pitch > 20
    for bar in bars:  # ink of the name, left of the bar
        name = picture[bar.min() : bar.max(), : np.flatnonzero(blue[int(bar.mean())])[0] - 4]
        assert (name.min(axis=2) < 0.4).sum() > 100


def candidates(*points: tuple[float, float], error: float | None = 0.0) -> list[dict[str, Any]]:
    return [
        {
            "trial": number,
            "method": "l1_norm",
            "search_accuracy": search,
            "mean": mean,
            "standard_error": error,
        }
        for number, (search, mean) in enumerate(points)
    ]


def test_candidates_stand_at_their_two_scores() -> None:
    """Two whose scores agree lie on a rising line of 45 degrees, a flattered one below it."""
    drawn = repeats_picture(candidates((0.90, 0.90), (0.92, 0.90), (0.94, 0.94)))
    blue = having(drawn, BLUE)
    blue = blue[: blue.shape[0] * 17 // 20]  # without the legend
    columns = np.flatnonzero(blue.any(axis=0))
    marks = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    assert len(marks) == 3
    x = [float(mark.mean()) for mark in marks]
    y = [float(np.flatnonzero(blue[:, mark].any(axis=1)).mean()) for mark in marks]
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=2)
    assert y[1] == pytest.approx(y[0], abs=2)
    assert x[2] - x[0] == pytest.approx(y[0] - y[2], abs=3)


@pytest.mark.parametrize("number", [0, 1, 12])
@pytest.mark.parametrize("error", [None, 0.01])
def test_any_number_of_candidates_is_drawn(number: int, error: float | None) -> None:
    dice = random.Random(number)
    rows = candidates(*[(dice.random(), dice.random()) for _ in range(number)], error=error)
    rows += [{**row, "mean": None, "standard_error": None} for row in candidates((0.5, 0.5))]
    curse = {"mean": 0.01, "standard_error": error, "n": number}
    assert pixels(repeats_picture(rows, curse if number else None)).shape[1] == 744


def timed(number: int, share: float, median: float, **changes: Any) -> dict[str, Any]:
    protocol = {"runtime": "torch", "device": "cpu", "threads": 1, "batch": 1, "rounds": 50}
    told = {"median": median, "low": median, "high": median, "protocol": protocol}
    record = synthetic.record(number, 0.9, share)
    return {**record, "digest": f"{number:016x}", "latency": told, **changes}


def test_latencies_stand_on_the_line_of_their_flops() -> None:
    """Three architectures as fast as their FLOPs promise: their marks are evenly spaced."""
    records = [timed(n, share, 4 * share) for n, share in enumerate((0.2, 0.5, 0.8))]
    picture = latency_picture(records, {**synthetic.DENSE, "latency_ms": 4.0})
    blue = having(picture, BLUE)
    blue = blue[: blue.shape[0] * 4 // 5]  # without the legend
    for axis, whole in ((0, 0.9 * blue.shape[1]), (1, None)):
        places = np.flatnonzero(blue.any(axis=axis))
        marks = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
        centres = [mark.mean() for mark in marks]
        assert len(centres) == 3
        assert (centres[2] - centres[1]) == pytest.approx(centres[1] - centres[0], abs=2)
        if whole is not None:
            assert (centres[2] - centres[0]) / 0.6 == pytest.approx(whole, rel=0.1)


def test_equal_architectures_and_those_without_a_latency_are_drawn_once_or_not() -> None:
    one = [timed(0, 0.5, 2.0)]
    more = [*one, timed(1, 0.5, 2.0, digest=one[0]["digest"]), timed(2, 0.7, 3.0, latency=None)]
    dense = {**synthetic.DENSE, "latency_ms": 4.0}
    assert latency_picture(more, dense) == latency_picture(one, dense)
    assert latency_picture([], synthetic.DENSE).startswith(b"\x89PNG")
    assert latency_picture(one, dense, kind="svg").startswith(b"<?xml")
