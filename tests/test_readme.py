"""README.md tells the truth: its blocks run, its commands and names are those there are.

Every ``sh`` and ``python`` block runs, in the order of the file, in a folder with what a user has:
``studies/``, ``search_spaces/``, ``mlflow.yml``. A comment in the line above a block changes that::

    <!-- fixture: quickstart -->      the folder is the one in which the main job has been done
    <!-- not run: the reason -->      it is not run

Blocks that make a virtual environment are run by ``.ci/run``, which must have the same commands.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from quickstart import ROOT, Quickstart, files_of_a_user
from shell import environment

import prunenas
from prunenas.cli.app import COMMANDS
from prunenas.methods import METHODS
from prunenas.spec import check

README = (ROOT / "README.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Block:
    """A fenced block; ``line`` is that of its fence, ``mark`` the comment before it."""

    line: int
    language: str
    mark: str
    text: str

    @property
    def in_venv(self) -> bool:
        return ".venv/bin/" in self.text


def _blocks() -> list[Block]:
    pattern = r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$"
    return [
        Block(
            README.count("\n", 0, found.start("language")) + 1,
            found["language"],
            found["mark"] or "",
            found["text"],
        )
        for found in re.finditer(pattern, README, re.MULTILINE | re.DOTALL)
    ]


BLOCKS = _blocks()
RUN = [
    block
    for block in BLOCKS
    if block.language in ("sh", "python")
    and not block.in_venv
    and not block.mark.startswith("not run: ")
]


def run(block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a block as a user does who pastes it; its first failing line ends it."""
    command = ["bash", "-euo", "pipefail", "-c"]
    if block.language == "python":
        command = [sys.executable, "-c"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [*command, block.text],
        cwd=folder,
        env=environment(PATH=path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return files_of_a_user(tmp_path_factory.mktemp("readme"))


def name(block: Block) -> str:
    return f"line {block.line}"


@pytest.mark.parametrize("block", [b for b in RUN if not b.mark], ids=name)
def test_a_block_runs(block: Block, folder: Path) -> None:
    done = run(block, folder)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("block", [b for b in RUN if b.mark == "fixture: quickstart"], ids=name)
def test_a_block_runs_after_the_main_job(
    block: Block, quickstart: Quickstart, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert quickstart.code == 0, quickstart.messages
    done = run(block, _copy(quickstart, tmp_path_factory))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def _copy(quickstart: Quickstart, factory: pytest.TempPathFactory) -> Path:
    """One copy of the main job's folder for all these blocks, which build on each other."""
    copy = factory.getbasetemp() / "readme-after-the-main-job"
    if not copy.exists():
        shutil.copytree(quickstart.folder, copy, ignore=shutil.ignore_patterns("exports"))
    return copy


def test_every_block_is_run_or_says_why_not() -> None:
    assert {block.language for block in BLOCKS} <= {"sh", "python", "yaml", "text"}
    marks = {block.mark for block in BLOCKS}
    assert all(re.fullmatch(r"|fixture: quickstart|not run: \S.{7,}", mark) for mark in marks)
    assert len(README.split("\n```")) == 2 * len(BLOCKS) + 1, "a fence that is none of a block"
    assert len(RUN) >= 5


def test_ci_runs_what_the_readme_does_in_a_new_environment() -> None:
    jobs = (ROOT / ".ci" / "run").read_text().replace(" -q ", " ")
    lines = [line.strip() for line in jobs.splitlines()]
    blocks = [block for block in BLOCKS if block.in_venv]
    assert blocks
    for block in blocks:
        for command in block.text.strip().split(" && "):
            assert command in lines


def test_the_study_in_the_readme_is_the_committed_one(folder: Path) -> None:
    shown, space = (yaml.safe_load(b.text) for b in BLOCKS if b.language == "yaml")
    assert shown == yaml.safe_load((ROOT / "studies" / "quickstart.yaml").read_text())
    written = folder / "search_spaces" / "shown.yaml"
    written.write_text(yaml.safe_dump(space))
    check(written)
    written.unlink()


@pytest.mark.parametrize("command", [each for panel in COMMANDS.values() for each in panel])
def test_every_command_is_told(command: str) -> None:
    assert re.search(rf"^\| `prunenas {command}\b", README, re.MULTILINE)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_told_with_its_source(method: str) -> None:
    (row,) = re.findall(rf"^\| `{method}` \|.*$", README, re.MULTILINE)
    author = METHODS[method].source.split()[0].rstrip(",")
    assert author in row


def test_what_the_readme_names_exists() -> None:
    told = set(re.findall(r"^\| `prunenas (\w+)", README, re.MULTILINE))
    assert told == {each for panel in COMMANDS.values() for each in panel}
    for attribute in re.findall(r"prunenas\.([A-Za-z]\w*)", README):
        assert hasattr(prunenas, attribute), attribute
    for _, path in re.findall(r"\[([^]]*)\]\((?!https?://)([^)#]+)", README):
        assert (ROOT / path).exists(), path
    studies = {path.stem for path in (ROOT / "studies").glob("*.yaml")}
    (sentence,) = re.findall(r"studies come along: (.*?)\n\n", README, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", sentence)) == studies
