"""The README's main job, done once for all tests that look at what came of it."""

import shutil
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
    """Run the quickstart in an empty folder: about three minutes on two cores."""
    done = prunenas(files_of_a_user(folder), "run", "studies/quickstart.yaml")
    return Quickstart(folder, done.returncode, tuple(done.stdout.splitlines()), done.stderr)
