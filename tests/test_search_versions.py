"""A study of another version, whose method this one has not, is shown and exported."""

import sqlite3
from pathlib import Path

import pytest
from tiny_studies import NOWHERE, figures, write_study

from prunenas.cli import main
from prunenas.search import open_study, run_study
from prunenas.spec import load_study


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a study was run whose method has another name since."""
    monkeypatch.chdir(tmp_path)
    study = load_study(write_study(tmp_path, epochs=1, trials=1))
    view = run_study(
        study, storage="sqlite:///.prunenas/studies.db", tracking=NOWHERE, device="cpu"
    )
    assert view.study().settings() == study.settings()
    with sqlite3.connect(tmp_path / ".prunenas" / "studies.db") as database:
        for table in ("study_user_attributes", "trial_user_attributes"):
            database.execute(
                f"UPDATE {table} SET value_json = replace(value_json, 'l1_norm', 'gone')"
            )
    database.close()
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [("guide", "tiny", "guided", "--flops-ratio", "0.5"), ("compare", "tiny", "--plan")],
    ids=lambda arguments: arguments[0],
)
def test_what_would_be_done_again_is_refused_in_one_line(
    folder: Path, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "error: study 'tiny' is of another version of prunenas: unknown method 'gone'. Known: "
    )


def test_it_is_shown_and_its_architectures_leave(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(("best", "tiny")) == 0
    assert "gone" in capsys.readouterr().out
    assert main(("export", "tiny", "exports", "--trial", "0")) == 0
    view = open_study("sqlite:///.prunenas/studies.db", "tiny")
    (exported,) = (folder / "exports").iterdir()
    assert figures(view)[0]["digest"] in (exported / "config.json").read_text()
