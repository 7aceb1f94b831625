"""The report in a real browser: nothing asked of any server, hover, keyboard, and its figures."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import browser, needs_browser, printed
from made_views import DENSE, record, view

from prunenas.report import page
from prunenas.report.figures import compute, cost, progress
from prunenas.tracking.front import hypervolume


def made(trials: int = 24) -> str:
    names = ("l1_norm", "network_slimming", "uniform")
    return page(view([record(n, method=names[n % 3]) for n in range(trials)]))


class Outside(HTMLParser):
    """Collects every address that a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("src", "href", "srcset", "data") and value and not value.startswith("#"):
                self.found.append(value)


def test_it_names_no_address_outside() -> None:
    text = made()
    outside = Outside()
    outside.feed(text)
    assert outside.found == ["data:,"]  # no icon
    assert "@import" not in text
    assert not re.search(r"url\(", text)


def test_names_from_files_are_text_not_markup() -> None:
    wicked = "</script><script>alert(1)</script>"
    text = page(view([record(n, reason=wicked, state="failed") for n in range(3)], name=wicked))
    assert "<script>alert" not in text


def test_everything_that_is_known_of_a_study_is_there() -> None:
    text = made()
    for section in (
        "front",
        "widths",
        "learning-curves",
        "what-matters",
        "methods",
        "progress-and-compute",
        "trials",
        "reproduce",
    ):
        assert f'<section id="{section}">' in text
    for said in (
        "Hypervolume over trials",
        "Hypervolume over compute",
        "saved, trials that ended early",
        "Importance of widths",
        "Sampler seed 0",
        "name: made",  # the study file
        "prunenas run made.yaml --storage sqlite:///made.db",
    ):
        assert said in text
    shown = json.loads(re.findall(r'id="point-data">(.*?)</script>', text)[0])
    assert len(shown) == 24
    for number, point in shown.items():
        line = f"prunenas export made exports --trial {number} --weights"
        assert point["command"].startswith(line)


def test_every_mark_and_drawing_says_what_it_is() -> None:
    text = made()
    marks = re.findall(r'<[^>]*class="[^"]*\bpoint\b[^>]*>', text)
    assert len(marks) == 24
    assert all("aria-label=" in mark for mark in marks)
    drawings = [each for each in re.findall(r"<svg[^>]*>", text) if "aria-hidden" not in each]
    assert drawings
    assert all("aria-label=" in drawing for drawing in drawings)


def test_an_empty_study_has_a_page() -> None:
    text = page(view([]))
    assert "No architecture has been trained yet" in text
    assert "front-chart" not in text.split("</style>")[1].split("<script")[0]


@needs_browser
def test_it_opens_without_an_error_on_the_console(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(made())
    shown, said = printed(path, tmp_path)
    assert said == ""
    assert "<meter" in shown  # which the script makes


@needs_browser
def test_hover_and_keyboard_show_an_architectures_widths(tmp_path: Path) -> None:
    (tmp_path / "browser").mkdir()
    path = tmp_path / "report.html"
    path.write_text(made())
    with browser(tmp_path / "browser") as window:
        window.open(path.as_uri())
        panel = "return document.getElementById('details').innerText"
        window.wait(panel)
        assert window.run("return performance.getEntriesByType('resource').length") == 0
        other = window.run(
            "const mark = document.querySelector('#front-chart .point[data-point=\"5\"]');"
            "mark.dispatchEvent(new PointerEvent('pointerenter'));"
            "return document.getElementById('details').innerText"
        )
        assert "trial 5 · uniform" in other
        assert "of 16" in other
        # The keyboard's place can be seen.
        outline = (
            "const mark = document.querySelector('#front-chart [tabindex=\"0\"]'); mark.focus();"
            "return getComputedStyle(mark).outlineStyle"
        )
        assert window.run(outline) == "solid"
        # One stop for Tab, then arrows along the horizontal axis and back.
        stops = "return document.querySelectorAll('#front-chart [tabindex=\"0\"]').length"
        assert window.run(stops) == 1
        press = (
            "const press = (key) => document.activeElement.dispatchEvent("
            "new KeyboardEvent('keydown', {key, bubbles: true}));"
            "document.querySelector('#front-chart [tabindex=\"0\"]').focus();"
            "press('Home'); const first = document.activeElement.dataset.point;"
            "press('ArrowRight'); const second = document.activeElement.dataset.point;"
            "press('ArrowLeft'); return [first, second, document.activeElement.dataset.point]"
        )
        first, second, back = window.run(press)
        assert first != second
        assert first == back
        assert window.run(stops) == 1
        narrowest = min((record(n) for n in range(24)), key=lambda each: each.flops_ratio or 0)
        assert first == str(narrowest.number)


@needs_browser
def test_a_heading_sorts_the_trials(tmp_path: Path) -> None:
    (tmp_path / "browser").mkdir()
    path = tmp_path / "report.html"
    path.write_text(made())
    with browser(tmp_path / "browser") as window:
        window.open(path.as_uri())
        shown = window.run(
            "document.querySelectorAll('#trials th button')[3].click();"
            "return [...document.querySelectorAll('#trials tbody tr')]"
            ".map((line) => Number(line.children[3].dataset.value))"
        )
    assert shown == sorted(shown)
    assert len(shown) == 24


@needs_browser
def test_two_hundred_trials_are_small_and_load_at_once(tmp_path: Path) -> None:
    (tmp_path / "browser").mkdir()
    path = tmp_path / "report.html"
    path.write_text(made(200))
    assert path.stat().st_size < 5_000_000
    with browser(tmp_path / "browser") as window:
        window.open(path.as_uri())
        # The browser's own clock, from the first byte to the end of the page's script.
        spent = window.run(
            "const entry = performance.getEntriesByType('navigation')[0];"
            "return entry.domContentLoadedEventEnd - entry.responseStart"
        )
        assert window.run("return document.querySelectorAll('#front-chart .point').length") == 200
    assert spent < 3000


@needs_browser
def test_nothing_is_clipped_on_a_narrow_screen_or_on_paper(tmp_path: Path) -> None:
    (tmp_path / "browser").mkdir()
    path = tmp_path / "report.html"
    path.write_text(made())
    wide = "const page = document.documentElement; return page.scrollWidth - page.clientWidth"
    paper = "return getComputedStyle(document.body).backgroundColor"
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    with browser(tmp_path / "browser") as window:
        size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        window.chrome("Emulation.setDeviceMetricsOverride", **size)
        window.open(path.as_uri())
        assert window.run(wide) == 0
        assert window.run(paper) == "rgb(255, 255, 255)"
        window.chrome("Emulation.setEmulatedMedia", features=[dark])
        assert window.run(paper) != "rgb(255, 255, 255)"
        # A4 less its margins, of a user who reads in the dark: paper stays light.
        window.chrome("Emulation.setDeviceMetricsOverride", **size | {"width": 688})
        window.chrome("Emulation.setEmulatedMedia", media="print", features=[dark])
        assert window.run(wide) == 0
        assert window.run(paper) == "rgb(255, 255, 255)"
        clipped = (
            "return [...document.querySelectorAll('.scroll, pre, td, th')]"
            ".filter((each) => each.scrollWidth > each.clientWidth + 1).length"
        )
        assert window.run(clipped) == 0
        hidden = "return getComputedStyle(document.querySelector('.details')).display"
        assert window.run(hidden) == "none"


def test_compute_counts_dense_trainings() -> None:
    """A trial at half the FLOPs for all epochs is half a dense training."""
    half = {"flops": DENSE // 2, "flops_ratio": 0.5}
    told = view(
        [
            record(0, **half),
            record(1, **half, reused="trial 0"),
            record(2, **half, epochs=2, state="stopped"),
            record(3, state="infeasible", accuracy=None, flops=None, flops_ratio=None, epochs=0),
        ]
    )
    assert [cost(told, each) for each in told.records] == [0.5, 0.5, 0.125, 0.0]
    found = compute(told)
    assert (found.spent, found.reused, found.stopped) == (0.625, 0.5, 0.375)
    assert found.infeasible == 1


def test_progress_is_the_hypervolume_of_what_had_ended() -> None:
    records = [record(n, finished=f"2026-01-01T00:00:{10 + n}+00:00") for n in range(6)]
    found = progress(view(records))
    for count, each in enumerate(found, 1):
        reached = [(r.flops_ratio or 0.0, r.accuracy or 0.0) for r in records[:count]]
        assert each.hypervolume == pytest.approx(hypervolume(reached))
        assert each.best == max(accuracy for _, accuracy in reached)
    assert found[-1].compute == pytest.approx(sum(r.flops_ratio or 0.0 for r in records))
