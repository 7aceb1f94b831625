"""The README's main job, done once for all tests that look at what came of it.

``PRUNENAS_MAIN_JOB`` names a folder in which it has been done already, as ``.ci/run`` does it, with
what it printed and said in ``.prunenas/main_job.out`` and ``main_job.err``; tests get a copy.
"""

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from shell import prunenas

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Quickstart:
    """A user's folder after ``prunenas run studies/quickstart.yaml``.

    Attributes:
        folder: The folder; what a test adds to it goes into a folder of the test's own.
        code: The command's exit code.
        lines: What it printed.
        messages: What it said on stderr.
    """

    folder: Path
    code: int
    lines: tuple[str, ...]
    messages: str


def files_of_a_user(folder: Path) -> Path:
    """Copy what a user's folder has of the repository before anything was run; the folder."""
    for name in ("studies", "search_spaces"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "mlflow.yml", folder)
    return folder


def main_job(folder: Path) -> Quickstart:
    """Run the quickstart in an empty folder, about three minutes on two cores, or copy it."""
    done_in = os.environ.get("PRUNENAS_MAIN_JOB")
    if done_in:
        return _copied(Path(done_in), folder)
    done = prunenas(files_of_a_user(folder), "run", "studies/quickstart.yaml")
    return Quickstart(folder, done.returncode, tuple(done.stdout.splitlines()), done.stderr)


def _copied(done_in: Path, folder: Path) -> Quickstart:
    """Copy the main job's folder; what a failed one leaves is none, so that its code is 0."""
    files_of_a_user(folder)
    for name in (".prunenas", "mlartifacts"):
        shutil.copytree(done_in / name, folder / name)
    shutil.copy(done_in / "mlflow.db", folder)
    # MLflow writes down where a run's files lie, and would write into the other folder.
    before, after = ((place / "mlartifacts").absolute().as_uri() for place in (done_in, folder))
    with closing(sqlite3.connect(folder / "mlflow.db")) as tables, tables:
        for table, column in (("runs", "artifact_uri"), ("experiments", "artifact_location")):
            tables.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (before, after)
            )
    out, err = (folder / ".prunenas" / f"main_job.{end}" for end in ("out", "err"))
    return Quickstart(folder, 0, tuple(out.read_text().splitlines()), err.read_text())
