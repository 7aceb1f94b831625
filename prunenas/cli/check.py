"""``prunenas check``: files are read and nothing is run."""

from pathlib import Path
from typing import Annotated

import typer

from prunenas.cli.options import Json


def check(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Studies, comparisons and search spaces, in any mixture.",
            show_default=False,
        ),
    ],
    json: Json = False,
) -> None:
    """Check study, comparison and search-space files; run nothing.

    All mistakes are told at once. Each is a line: file and line, the law it breaks, the value, the
    known choices. A model of your own is not imported by this.

    \b
    prunenas check studies/quickstart.yaml
    prunenas check studies/*.yaml search_spaces/*.yaml
    """
    from prunenas.cli import console
    from prunenas.errors import SpecError
    from prunenas.spec import check as check_files

    try:
        check_files(*files)
    except SpecError as error:
        if json:
            console.show_json({"ok": False, "mistakes": list(error.mistakes)})
        raise
    if json:
        console.show_json({"ok": True, "mistakes": []})
    else:
        typer.echo("\n".join(f"{file}: ok" for file in files))
