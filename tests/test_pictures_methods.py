"""Pictures of methods side by side, read back as pixels."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import synthetic
from matplotlib.colors import to_rgb
from test_pictures import BLUE, ORANGE, having, pixels

from prunenas.pictures import method_fronts_picture, methods_picture

PICTURES = pytest.mark.parametrize("draw", [methods_picture, method_fronts_picture])


def test_marks_stand_at_their_accuracies_each_method_in_its_row() -> None:
    points = {"fpgm": (0.90, 0.92, 0.96), "l1_norm": (0.91,)}
    records = [
        synthetic.record(10 * place + n, accuracy, 0.3, method=name)
        for place, (name, values) in enumerate(points.items())
        for n, accuracy in enumerate(values)
    ]
    drawn = methods_picture(records, synthetic.DENSE)
    blue, orange = having(drawn, BLUE), having(drawn, ORANGE)
    columns = np.flatnonzero(blue.any(axis=0))
    marks = np.split(columns, np.flatnonzero(np.diff(columns) > 3) + 1)
    x = [float(mark.mean()) for mark in marks]
    assert len(x) == 3
    assert (x[2] - x[1]) == pytest.approx(2 * (x[1] - x[0]), abs=4)  # 4 points and 2 points
    single = float(np.flatnonzero(orange.any(axis=0)).mean())
    assert single == pytest.approx((x[0] + x[1]) / 2, abs=4)
    # The higher mean (0.927 against 0.91) is on top, and rows don't meet.
    assert np.flatnonzero(blue.any(axis=1)).max() < np.flatnonzero(orange.any(axis=1)).min()


def test_an_architecture_is_drawn_once_and_incomplete_trials_never() -> None:
    for draw in (methods_picture, method_fronts_picture):
        whole = [synthetic.record(0, 0.9, 0.5), synthetic.record(1, 0.8, 0.3, method="fpgm")]
        again = synthetic.record(2, 0.9, 0.5) | {"digest": whole[0]["digest"]}
        stopped = synthetic.record(3, 0.4, 0.4, state="stopped")
        failed = synthetic.record(4, None, 0.4, state="failed", reason="non-finite loss")
        drawn = draw(whole, synthetic.DENSE)
        assert draw([*whole, again, stopped, failed], synthetic.DENSE) == drawn


def test_each_methods_front_is_its_own() -> None:
    """Of two methods at equal FLOPs the worse one has a staircase too."""
    records = [
        synthetic.record(n, accuracy, share, method=method)
        for n, (method, accuracy, share) in enumerate(
            [("fpgm", 0.90, 0.2), ("fpgm", 0.96, 0.8), ("l1_norm", 0.88, 0.2)]
        )
    ]
    drawn = method_fronts_picture(records, synthetic.DENSE)
    for colour in (BLUE, ORANGE):
        # Between two rows of pixels a thin line is lighter than its colour.
        line = np.abs(pixels(drawn) - np.array(to_rgb(colour))).max(axis=2) < 0.4
        assert line.sum(axis=1).max() > 0.3 * line.shape[1]  # from its mark on to the right


@pytest.mark.parametrize("accuracy", [None, 0.981])
@pytest.mark.parametrize("number", [0, 1, 300])
@PICTURES
def test_any_number_of_trials_is_drawn(
    draw: Callable[..., bytes], number: int, accuracy: float | None
) -> None:
    dice = random.Random(number)
    names = [f"method_{index}" for index in range(14)] + ["uniform"]
    records = [
        synthetic.record(n, dice.random(), dice.uniform(0.01, 1), method=names[n % 15])
        for n in range(number)
    ]
    assert pixels(draw(records, synthetic.DENSE | {"accuracy": accuracy})).shape[1] == 912


def test_one_that_is_far_off_does_not_squeeze_the_others() -> None:
    near = [synthetic.record(n, 0.95 + 0.001 * n, 0.3, method="fpgm") for n in range(5)]
    far = synthetic.record(9, 0.1, 0.3, method="l1_norm")
    others = [synthetic.record(10 + n, 0.95, 0.3, method="l1_norm") for n in range(4)]
    drawn = methods_picture([*near, *others, far], synthetic.DENSE)
    columns = np.flatnonzero(having(drawn, BLUE).any(axis=0))
    assert columns.max() - columns.min() > 0.05 * pixels(drawn).shape[1]
