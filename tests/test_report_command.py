"""The report on the command line: baselines, pictures, MLflow, and that its commands work."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_studies
import tracked

from prunenas.cli import main
from prunenas.export import read_config
from prunenas.places import STUDIES
from prunenas.report import page
from prunenas.report.reproduce import again, command
from prunenas.search import open_study

METHODS = tiny_studies.L1 + "\n  - {name: uniform, space: {method: {ratio: {low: 0.2, high: 0.9}}}}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's folder after ``prunenas run tiny.yaml``."""
    place = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for name in ("PRUNENAS_STORAGE", "PRUNENAS_CACHE", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        (place / "mlflow.db").write_bytes(tracked.fresh_database())
        tiny_studies.write_study(place, methods=METHODS, trials=4, epochs=1)
        assert main(["run", "tiny.yaml", "--device", "cpu"]) == 0
        yield place


def artifacts(folder: Path) -> dict[str, bytes]:
    """Those of the study's own run."""
    (place,) = (path.parent for path in folder.glob("mlartifacts/**/study.yaml"))
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file()
    }


def test_a_run_keeps_its_report_in_mlflow(folder: Path) -> None:
    told = page(open_study(STUDIES, "tiny")).encode()
    assert artifacts(folder)["report.html"] == told
    run = tracked.reading(f"sqlite:///{folder / 'mlflow.db'}")
    with run as client:
        (experiment,) = (
            each for each in client.search_experiments() if each.name == "vgg_mini on digits"
        )
        runs = client.search_runs([experiment.experiment_id])
        (study,) = (each for each in runs if "mlflow.parentRunId" not in each.data.tags)
        assert study.info.status == "FINISHED"
        assert "report.html" in [each.path for each in client.list_artifacts(study.info.run_id)]


def test_written_twice_it_stays_once(folder: Path) -> None:
    before = tracked.everything(folder)
    assert main(["track", "tiny"]) == 0
    assert tracked.everything(folder) == before


def test_pictures_and_page_go_where_they_are_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["report", "tiny", "--out", "out/page.html", "--pictures", "out/pictures"]
    assert main([*wanted, "--track"]) == 0
    drawn = {path.name: path.read_bytes() for path in (folder / "out/pictures").iterdir()}
    assert {"front.png", "front.svg"} <= drawn.keys()
    kept = artifacts(folder)
    assert kept["report.html"] == (folder / "out/page.html").read_bytes()
    assert {name: kept[f"pictures/{name}"] for name in drawn} == drawn
    capsys.readouterr()
    assert main(wanted) == 2
    assert "--replace" in capsys.readouterr().err
    assert main([*wanted, "--replace"]) == 0


def test_a_report_that_mlflow_refuses_is_one_warning(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place,) = (path.parent for path in folder.glob("mlartifacts/**/study.yaml"))
    aside = place.with_name("aside")
    place.rename(aside)
    place.write_text("a file where the folder was")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with tracked.reading(uri) as client:
        name = place.parent.name
        before = client.get_run(name).data.tags["prunenas.file.report.html"]
        client.set_tag(name, "prunenas.file.report.html", "another")
    try:
        assert main(["run", "tiny.yaml"]) == 0
        (warning,) = (line for line in capsys.readouterr().err.splitlines() if "warning" in line)
        assert warning.startswith("warning: tracking: files can't be tracked: ")
        assert "`prunenas track tiny`" in warning
    finally:
        place.unlink()
        aside.rename(place)
        with tracked.reading(uri) as client:
            client.set_tag(name, "prunenas.file.report.html", before)


@pytest.mark.slow
def test_a_points_commands_work(folder: Path) -> None:
    view = open_study(STUDIES, "tiny")
    best = max(view.front, key=lambda each: each.accuracy or 0)
    assert main(shlex.split(command(view, best))[1:]) == 0
    config = read_config(folder / f"exports/trial_{best.number}")
    assert config.training is not None
    assert config.training["validation"]["accuracy"] == best.accuracy
    assert main(shlex.split(again(view, best))[1:]) == 0
    other = read_config(folder / f"exports/trial_{best.number}_seed_1")
    assert other.training is not None
    assert (other.training["seed"], other.architecture) == (1, config.architecture)


@pytest.mark.slow
def test_guided_networks_are_trained_and_appear_on_the_same_plot(folder: Path) -> None:
    assert main(["guide", "tiny", "guided", "--flops-ratio", "0.4"]) == 0
    other = ["--model", "resnet20", "--input", "1,8,8", "--flops-ratio", "0.4"]
    assert main(["guide", "tiny", "transferred", *other]) == 0
    for name in ("guided", "transferred"):
        recipe = ["--data", "digits", "--recipe", "tiny.yaml", "--epochs", "1"]
        assert main(["train", name, *recipe]) == 0
        config = read_config(folder / name)
        assert 0.9 * 0.4 <= config.flops_ratio <= 0.4
    assert main(["report", "tiny", "--with", "guided", "--with", "transferred"]) == 0
    text = (folder / "tiny.html").read_text()
    assert text.count('data-point="baseline-') == 2
    for series in ("guided", "transferred guided"):
        assert f'aria-label="{series}, ' in text
    assert "resnet20 (another network)" in text
