"""The command line: parses and prints; everything else is done on lower floors."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

from prunenas.cli.app import app
from prunenas.cli.run import Interrupted
from prunenas.errors import PrunenasError, SpecError

__all__ = ["main"]

USER_ERROR = 2
INTERRUPTED = 130

# The class of everything that can be mistyped. Older versions of typer take it from click, newer
# ones have a click of their own, and none exports it under a name of its own.
USAGE: type[Exception] = typer.BadParameter.__mro__[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; ``arguments`` default to the process's own.

    Whatever a user can cause or mend is told in lines ``error: ...`` on stderr with exit code 2.
    Only a bug in prunenas ends in a traceback.
    """
    try:
        code = app(args=arguments, prog_name="prunenas", standalone_mode=False)
    except PrunenasError as error:
        return _refuse(error.mistakes if isinstance(error, SpecError) else [str(error)])
    except USAGE as error:
        return _refuse([_usage(error)])
    except Interrupted as error:
        print(f"interrupted: {error}", file=sys.stderr)
        return INTERRUPTED
    except (typer.Abort, KeyboardInterrupt):  # otherwise typer turns Ctrl-C into this code
        code = INTERRUPTED
    except BrokenPipeError:
        # `prunenas ... | head`: the reader has left; Python must not complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return _refuse([f"{error.strerror or error}{where}"])
    if code == INTERRUPTED:
        print("interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _refuse(lines: Sequence[str]) -> int:
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    return USER_ERROR


def _usage(error: Any) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "prunenas"
    return f"{' '.join(error.format_message().split())} (see `{command} --help`)"
