"""A walk through MLflow's pages of a study, as a user takes it: by clicks, in a real browser."""

import json
from pathlib import Path

from browser import Browser

_PICTURE = """
    const pictures = [...document.images].filter(each => each.src.includes(arguments[0]));
    return pictures.some(each => each.complete && each.naturalWidth > 300)
"""
_CURVES = """
    // plotly draws a line chart's points as one path each; a bar chart has none
    return [...document.querySelectorAll('.js-plotly-plot .scatterlayer .points')]
        .map(each => each.querySelectorAll('path.point').length)
"""


def walk(
    page: Browser,
    address: str,
    folder: Path,
    *,
    experiment: str,
    study: str,
    trials: list[str],
    trial: str,
    epochs: int,
) -> None:
    """Look at a study in MLflow's pages, from the list of experiments down to a trial's pictures.

    Args:
        page: The browser.
        address: The server's address.
        folder: Where screenshots go, numbered in the order of the walk.
        experiment: Name of the experiment that holds the study.
        study: Name of the study's run.
        trials: Names of all its children, the newest last.
        trial: The child that is opened, one of the newest ten; it has curves and an architecture.
        epochs: How many epochs its curves have.
    """
    page.open(address)
    page.click_text("Model training")  # MLflow opens with its pages for language models
    page.click_text(experiment)
    page.wait_for_text(study)
    page.screenshot(folder / "1-experiment.png")
    # The toggle before the parent's name unfolds its children.
    page.click(f"//*[@role='gridcell'][.//a[normalize-space(.)={json.dumps(study)}]]//button")
    page.wait_for_text(*trials)
    page.screenshot(folder / "2-children.png")

    page.click_text(study)
    page.wait_for_text("Child runs", "Description", "best_accuracy", "hypervolume", trials[-1])
    page.screenshot(folder / "3-study.png")
    page.click_text("Show more")
    page.wait(_PICTURE, "front.png")
    page.click_text("Artifacts")
    page.wait_for_text("study.yaml", "front.json", "front_table.json")
    page.click("//*[normalize-space(text())='front.png']")
    page.wait(_PICTURE, "")
    page.screenshot(folder / "4-front.png")
    page.click("//*[normalize-space(text())='front_table.json']")
    page.wait_for_text("flops_ratio")
    page.screenshot(folder / "5-front-table.png")

    page.click_text("Overview")
    page.click_text(trial)
    page.wait_for_text("Parent run", "validation/accuracy", "flops_ratio")
    page.screenshot(folder / "6-trial.png")
    page.click_text("Model metrics")
    page.wait_for_text("train", "validation")
    page.wait(f"return (() => {{{_CURVES}}})().includes({epochs})")
    page.screenshot(folder / "7-curves.png")
    page.click_text("Artifacts")
    page.wait_for_text("architecture.json", "record.json")
    page.click("//*[normalize-space(text())='widths.png']")
    page.wait(_PICTURE, "")
    page.screenshot(folder / "8-widths.png")
