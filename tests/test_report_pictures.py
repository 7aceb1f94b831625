"""The page's charts as files: they parse, they open, and they have as many points as records."""

import io
import re
import xml.etree.ElementTree as ET
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from made_views import GROUPS, record, view
from matplotlib.image import imread

from prunenas.pictures.canvas import COLOURS
from prunenas.report import Baseline, pictures
from prunenas.search import StudyView

SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"
NAMES = ("l1_norm", "network_slimming", "uniform")


def study(trials: int = 12, **changes: Any) -> StudyView:
    return view([record(n, method=NAMES[n % 3]) for n in range(trials)], **changes)


def groups(picture: bytes, begin: str) -> dict[str, ET.Element]:
    drawn = ET.fromstring(picture.decode())
    return {
        name: each
        for each in drawn.iter(f"{SVG}g")
        if (name := each.get("id", "")).startswith(begin)
    }


def marks(picture: bytes, begin: str) -> dict[str, int]:
    """How many marks each series has."""
    return {
        name: sum(1 for _ in each.iter(f"{SVG}use"))
        for name, each in groups(picture, begin).items()
    }


@pytest.fixture(scope="module")
def drawn() -> dict[str, bytes]:
    other = Baseline("study other", "other, trial 1", 0.9, "validation", 300, 1, "x", True, {})
    return pictures(study(), [other, other])


def test_each_chart_is_there_twice_and_can_be_opened(drawn: dict[str, bytes]) -> None:
    stems = {"front", "widths", "curves", "importance", "methods", "progress"}
    assert drawn.keys() == {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")}
    for name, content in drawn.items():
        if name.endswith(".png"):
            assert np.asarray(imread(io.BytesIO(content))).shape[0] > 200
        else:
            assert ET.fromstring(content.decode()).tag == f"{SVG}svg"


def test_the_same_study_gives_the_same_bytes(drawn: dict[str, bytes]) -> None:
    other = Baseline("study other", "other, trial 1", 0.9, "validation", 300, 1, "x", True, {})
    assert pictures(study(), [other, other]) == drawn
    assert not any(re.search(rb"20\d\d-\d\d-\d\dT", content) for content in drawn.values())


def test_the_front_has_a_mark_for_each_record(drawn: dict[str, bytes]) -> None:
    assert marks(drawn["front.svg"], "trials-") == {f"trials-{name}": 4 for name in NAMES}
    assert marks(drawn["front.svg"], "baselines-") == {"baselines-study-other": 2}
    assert sum(marks(drawn["methods.svg"], "trials-").values()) == 12
    assert len(groups(drawn["curves.svg"], "curve-")) == 12
    assert len(groups(drawn["progress.svg"], "progress")) == 2


def test_the_heat_map_has_the_fronts_widths(drawn: dict[str, bytes]) -> None:
    said = [each.text for each in ET.fromstring(drawn["widths.svg"].decode()).iter(f"{SVG}text")]
    for best in study().front:
        assert f"trial {best.number}, {100 * (best.flops_ratio or 0):.1f} %" in said
        for group in GROUPS:
            assert f"{100 * best.ratios[group]:.0f}" in said


def test_charts_with_nothing_to_show_are_left_out() -> None:
    assert pictures(view([])) == {}
    failed = record(0, state="failed", accuracy=None, reason="non-finite loss", curve=[])
    assert pictures(view([failed])) == {}


def test_pages_and_pictures_have_the_same_colours_and_they_stand_out() -> None:
    """WCAG 2.2, 1.4.11: marks need a contrast of 3 to 1 with what they stand on."""
    style = files("prunenas.report").joinpath("page.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]
    for theme in (light, dark):
        known = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", theme))
        for index in range(len(COLOURS)):
            assert contrast(known[f"c{index}"], known["paper"]) >= 3
        assert contrast(known["soft"], known["wash"]) >= 4.5  # text
    assert [colour.lower() for colour in COLOURS] == re.findall(r"--c\d: (#[0-9a-f]{6})", light)


def contrast(first: str, second: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)
