"""The page of a comparison: its drawing and figures by hand, and in a real browser."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from browser import browser, needs_browser, printed
from scipy.stats import ttest_rel

from prunenas.evidence.cells import CONTROLS, Cell, Contender, Outcome, cells
from prunenas.evidence.comparison import Compared, every_method
from prunenas.report import comparison_page
from prunenas.spec import Comparison

SVG = "{http://www.w3.org/2000/svg}"
ARMS = ("dense", "fine_tuned", "scratch_e", "uniform", "random", "ticket")


def comparison(**changes: Any) -> Comparison:
    return Comparison.model_validate(
        {
            "name": "made",
            "models": [{"name": "vgg_mini"}],
            "data": {"name": "digits"},
            "methods": [{"name": "l1_norm"}, {"name": "magnitude", "label": "by size"}],
            "budgets": [0.5, 0.25],
            "train": {"epochs": 2},
            "arms": ARMS,
            "seeds": 3,
            "seed": 7,
            **changes,
        }
    )


def outcome(cell: Cell) -> Outcome:
    """By a formula of what the cell is; l1_norm has no ticket."""
    name = cell.contender.label if cell.contender else ""
    if cell.arm == "ticket" and name == "l1_norm":
        return Outcome(reason="a ticket needs masks")
    test = 0.8 + 0.01 * list(ARMS).index(cell.arm) + 0.003 * (cell.seed % 3) ** 2
    test += 0.002 * len(name) - 0.02 * (1 - (cell.flops_ratio or 1)) * (cell.seed - 6)
    flops = round(1_000_000 * (cell.flops_ratio or 1))
    return Outcome(test=test, validation=test, flops=flops, params=900, epochs=2, digest="d")


def part(of: Comparison, *, total: int = 100) -> Compared:
    contenders = every_method(of)
    seeds = range(of.seed, of.seed + of.seeds)
    results = {cell: outcome(cell) for cell in cells(list(contenders), of.arms, seeds)}
    return Compared(of.models[0], 1_000_000, 900, contenders, results, total)


def drawing(text: str) -> ET.Element:
    found = re.search(r'<svg[^>]*class="big arms".*?</svg>', text, re.DOTALL)
    assert found
    return ET.fromstring(found[0])


def classed(drawn: ET.Element, word: str) -> list[ET.Element]:
    return [each for each in drawn.iter() if word in (each.get("class") or "").split()]


def test_every_mean_is_a_mark_and_every_seed_a_dot() -> None:
    of = comparison()
    drawn = drawing(comparison_page(of, [part(of)]))
    # At each budget two controls, and of two methods two arms; a ticket of one.
    assert len(classed(drawn, "point")) == 2 * (2 + 2 * 2 + 1)
    assert len(classed(drawn, "seed")) == 3 * len(classed(drawn, "point"))
    assert len(classed(drawn, "band")) == 1
    shapes = {
        (mark.get("class"), mark.tag, (mark.get("points") or "").count(" "))
        for mark in classed(drawn, "point")
    }
    assert len(shapes) == len(ARMS) - 1  # told apart by shape and colour


def test_marks_stand_where_their_means_are() -> None:
    of = comparison()
    whole = part(of)
    drawn = drawing(comparison_page(of, [whole]))
    # The axis by its ticks: two of them make the scale.
    ticks = [
        (float(each.get("x") or 0), float(each.text or 0))
        for each in drawn.iter(f"{SVG}text")
        if each.get("class") == "tick" and each.get("text-anchor") == "middle"
    ]
    (x0, v0), (x1, v1) = ticks[0], ticks[-1]
    for seeds in ("0-0-scratch_e", "0-2-scratch_e"):
        dots = [each for each in classed(drawn, "seed") if each.get("data-show") == seeds]
        row = whole.contenders[int(seeds.split("-")[1])]
        expected = [
            100 * (each.test or 0)
            for cell, each in whole.results.items()
            if cell.contender == row and cell.arm == "scratch_e"
        ]
        found = [v0 + (float(e.get("cx") or 0) - x0) / (x1 - x0) * (v1 - v0) for e in dots]
        assert found == pytest.approx(expected, abs=0.02)
        (mark,) = (each for each in classed(drawn, "point") if each.get("data-point") == seeds)
        mean = v0 + (float(mark.get("cx") or 0) - x0) / (x1 - x0) * (v1 - v0)
        assert mean == pytest.approx(fmean(expected), abs=0.02)


def test_the_table_has_means_and_deviations() -> None:
    of = comparison()
    whole = part(of)
    text = comparison_page(of, [whole])
    for row in whole.contenders:
        for arm in ("fine_tuned", "scratch_e"):
            values = [
                100 * (each.test or 0)
                for cell, each in whole.results.items()
                if cell.contender == row and cell.arm == arm
            ]
            assert f">{fmean(values):.2f} ± {stdev(values):.2f}<" in text
    assert "a ticket needs masks" in text
    assert "l1_norm, original initialisation, 50 %" in text


def test_one_question_has_the_p_of_a_paired_t_test() -> None:
    """With nothing to correct for, it is scipy's own."""
    of = comparison(methods=[{"name": "l1_norm"}], budgets=[0.5], arms=["fine_tuned", "scratch_e"])
    row = Contender("l1_norm", "l1_norm", 0.5)
    first, second = (0.80, 0.83, 0.81), (0.82, 0.86, 0.815)
    results = {
        Cell(arm, 7 + n, 0.5, row): Outcome(test=value, flops=1, params=1, digest="d")
        for arm, values in (("fine_tuned", first), ("scratch_e", second))
        for n, value in enumerate(values)
    }
    text = comparison_page(of, [Compared(of.models[0], 2, 2, (row,), results, 6)])
    p = ttest_rel(second, first).pvalue
    assert f">{p:.3f}<" in text
    assert "Scratch-E against fine-tuned" in text
    assert "no difference at n = 3" in text
    differences = [b - a for a, b in zip(first, second, strict=True)]
    assert f">{fmean(differences) / stdev(differences):+.2f}<" in text  # Cohen's d


def test_methods_together_have_the_p_of_their_means_over_seeds() -> None:
    rows = [Contender(name, name, 0.5) for name in ("taylor", "magnitude")]
    tuned = ((0.80, 0.83, 0.81), (0.70, 0.75, 0.71))
    scratch = ((0.82, 0.86, 0.815), (0.74, 0.75, 0.73))
    of = comparison(
        methods=[{"name": row.method} for row in rows],
        budgets=[0.5],
        arms=["fine_tuned", "scratch_e"],
    )
    results = {
        Cell(arm, 7 + n, 0.5, row): Outcome(test=value, flops=1, params=1, digest=f"{row} {arm}")
        for arm, every in (("fine_tuned", tuned), ("scratch_e", scratch))
        for row, values in zip(rows, every, strict=True)
        for n, value in enumerate(values)
    }
    text = comparison_page(of, [Compared(of.models[0], 2, 2, tuple(rows), results, 12)])
    first, second = (
        [fmean(both) for both in zip(*every, strict=True)] for every in (tuned, scratch)
    )
    (told,) = re.findall(r"Methods together.*?<tbody>(.*?)</tbody>", text, re.DOTALL)
    assert f">{ttest_rel(second, first).pvalue:.3f}<" in told
    assert f">{100 * (fmean(second) - fmean(first)):+.2f}<" in told
    worse = ttest_rel([each + 0.005 for each in second], first, alternative="greater").pvalue
    assert f">{worse:.3f}<" in told


def test_it_says_how_it_came_about() -> None:
    of = comparison().came_from("name: made  # as the user wrote it\n")
    text = comparison_page(of, [part(of)], command="prunenas compare made.yaml --seeds 3")
    assert "name: made  # as the user wrote it" in text
    assert "prunenas compare made.yaml --seeds 3" in text
    assert "torch " in text
    assert "51 of 100" in text  # of 3 seeds: dense, 2 controls at 2 budgets, 4 rows of 3 arms


def test_an_unfinished_comparison_and_two_networks_of_one_name_are_told() -> None:
    of = comparison(models=[{"name": "resnet20"}, {"name": "resnet20", "arguments": {"width": 8}}])
    one = part(of)
    other = Compared(of.models[1], 5, 5, one.contenders, {}, 10)
    text = comparison_page(of, [one, other])
    assert "resnet20 (as it is)" in text
    assert "resnet20 (width 8)" in text
    assert "No network is done yet" in text


def test_labels_are_text_not_markup() -> None:
    wicked = "</script><script>alert(1)</script>"
    of = comparison(methods=[{"name": "l1_norm", "label": wicked}])
    assert "<script>alert" not in comparison_page(of, [part(of)])


@needs_browser
def test_in_a_browser_seeds_are_shown_by_hover_and_by_keyboard(tmp_path: Path) -> None:
    of = comparison()
    path = tmp_path / "page.html"
    path.write_text(comparison_page(of, [part(of)]))
    _, said = printed(path, tmp_path)
    assert said == ""
    (tmp_path / "browser").mkdir()
    with browser(tmp_path / "browser") as window:
        window.open(path.as_uri())
        assert window.run("return performance.getEntriesByType('resource').length") == 0
        panel = "return document.querySelector('.details').innerText"
        dot = (
            "document.querySelector('[data-show=\"0-1-scratch_e\"]')"
            ".dispatchEvent(new PointerEvent('pointerenter'));"
        )
        told = window.run(dot + panel)
        assert "by size · Scratch-E" in told
        assert all(f"seed {seed}" in told for seed in (7, 8, 9))
        walk = (
            "const key = (key) => document.activeElement.dispatchEvent("
            "new KeyboardEvent('keydown', {key, bubbles: true}));"
            "document.querySelector('.arms [tabindex=\"0\"]').focus(); const seen = new Set();"
            "for (let i = 0; i < 60; i++) { key('ArrowUp'); }"
            "for (let i = 0; i < 60; i++) { seen.add(document.activeElement.dataset.point);"
            " key('ArrowDown'); } return seen.size"
        )
        assert window.run(walk) == 2 * (len(CONTROLS) + 5)  # every mark can be reached
