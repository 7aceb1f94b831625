"""How often a study's storage is asked; each time takes milliseconds, and there are many trials."""

from pathlib import Path

import optuna
import pytest
from sqlalchemy import event
from tiny_studies import NOWHERE, write_study

from prunenas.search import run_study
from prunenas.search.ledger import Ledger
from prunenas.search.storage import open_storage
from prunenas.spec import Study, load_study

URL = "sqlite:///studies.db"


def questions(study: Study) -> int:
    """SQL statements that one look at all trials' standings takes."""
    with open_storage(URL, create=False) as storage:
        ledger = Ledger.read(storage, URL, study.name)
        asked: list[str] = []

        def count(connection: object, cursor: object, statement: str, *rest: object) -> None:
            asked.append(statement)

        event.listen(storage.engine, "before_cursor_execute", count)
        standings = ledger.standings(study)
        event.remove(storage.engine, "before_cursor_execute", count)
    assert all(standing.costs for standing in standings)
    return len(asked)


def test_more_trials_are_no_more_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = load_study(write_study(tmp_path, epochs=1, trials=2))
    run_study(study, storage=URL, tracking=NOWHERE, device="cpu")
    few = questions(study)
    kept = optuna.load_study(study_name=study.name, storage=URL)
    kept.add_trials(10 * kept.get_trials())
    assert len(kept.trials) == 22
    assert questions(study) == few > 0
