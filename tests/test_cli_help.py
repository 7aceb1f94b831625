"""Help: there for every command, with examples that parse, quick, and printed in docs/cli.md."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from prunenas.cli import main
from prunenas.cli.app import COMMANDS, app
from prunenas.version import __version__

DOCUMENT = Path(__file__).parent.parent / "docs" / "cli.md"
NAMES = [name for commands in COMMANDS.values() for name in commands]
HEAVY = (
    "torch",
    "torchvision",
    "optuna",
    "mlflow",
    "numpy",
    "matplotlib",
    "rich",
    "yaml",
)

HEADER = """\
# The command line

What `prunenas COMMAND --help` prints. What was asked for goes to stdout, with `--json` as JSON, and
messages go to stderr. Exit codes: 0 done; 2 something you can mend, told in lines `error: …`; 130
ended by Ctrl-C.
"""


def help_of(*command):
    done = subprocess.run(
        [sys.executable, "-m", "prunenas", *command, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "96"},
    )
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()).strip()


def words(text):
    """Help without what typer's versions set differently: lines, brackets, types of arguments."""
    return re.sub(r"<[^<>]*>|[][{}]|\.{3,}", "", text).split()


def test_the_reference_is_what_help_prints():
    """`PRUNENAS_WRITE_DOCS=1 pytest tests/test_cli_help.py` writes docs/cli.md anew."""
    sections = [HEADER, f"```text\n$ prunenas --help\n{help_of()}\n```\n"]
    for name in NAMES:
        body = f"```text\n$ prunenas {name} --help\n{help_of(name)}\n```\n"
        sections.append(f"## prunenas {name}\n\n{body}")
    text = "\n".join(sections)
    if os.environ.get("PRUNENAS_WRITE_DOCS"):
        DOCUMENT.write_text(text, encoding="utf-8")
    assert words(DOCUMENT.read_text(encoding="utf-8")) == words(text)


def examples(name):
    command = typer.main.get_command(app).commands[name]
    after = (command.help or "").split("\b\n", 1)
    return re.findall(r"^\s*(prunenas .*)$", after[1] if len(after) == 2 else "", re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_examples_that_parse(name):
    command = typer.main.get_command(app).commands[name]
    found = examples(name)
    assert found
    for example in found:
        program, called, *arguments = shlex.split(example)
        assert (program, called) == ("prunenas", name)
        with command.make_context(name, arguments) as context:  # raises on what it does not know
            assert context.params


@pytest.mark.parametrize("page", ["federated", "federated_deployment"])
def test_commands_in_the_docs_parse(page):
    text = (DOCUMENT.parent / f"{page}.md").read_text(encoding="utf-8")
    found = re.findall(rf"^ *prunenas ({'|'.join(NAMES)}) (.*)$", text, re.MULTILINE)
    assert len(found) >= 2
    for name, arguments in found:
        command = typer.main.get_command(app).commands[name]
        with command.make_context(name, shlex.split(arguments)) as context:
            assert context.params


@pytest.mark.parametrize("name", NAMES)
def test_every_option_and_argument_has_help(name):
    command = typer.main.get_command(app).commands[name]
    for parameter in command.params:
        assert parameter.help, parameter.name


def test_without_a_command_help_is_shown(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert "Usage: prunenas" in shown
    assert all(f"\n  {name} " in shown for name in NAMES)


def test_summaries_are_not_cut_short(capsys):
    main(["--help"])
    assert "..." not in capsys.readouterr().out.replace("[ARGS]...", "")


def test_the_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"prunenas {__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"], ["nope"]])
def test_help_loads_none_of_the_heavy_packages(arguments):
    code = (
        "import sys\n"
        "from prunenas.cli import main\n"
        "main(sys.argv[1:])\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert set(done.stderr.split()) & set(HEAVY) == set()
