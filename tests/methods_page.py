"""The tables of ``docs/methods.md`` that tests write, and compare with what they find.

Each stands between ``<!-- written by a test: NAME -->`` and ``<!-- end -->``.
``PRUNENAS_WRITE_DOCS=1`` writes instead of comparing first.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "methods.md"
NOTHING = "–"
LEAST = -7  # single precision has no more than seven digits


def writing() -> bool:
    return bool(os.environ.get("PRUNENAS_WRITE_DOCS"))


def lines_of(name: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    _, _, rest = text.partition(f"<!-- written by a test: {name} -->\n")
    return rest.partition("<!-- end -->")[0].splitlines()


def write(name: str, lines: Sequence[str]) -> None:
    start, end = f"<!-- written by a test: {name} -->\n", "<!-- end -->"
    before, mark, rest = PAGE.read_text(encoding="utf-8").partition(start)
    assert mark, f"{PAGE.name} must say where the table {name!r} stands"
    after = rest.partition(end)[2]
    text = "".join(f"{line}\n" for line in lines)
    PAGE.write_text(f"{before}{start}{text}{end}{after}", encoding="utf-8")


def compare(name: str, lines: Sequence[str]) -> None:
    if writing():
        write(name, lines)
    assert lines_of(name) == list(lines), "PRUNENAS_WRITE_DOCS=1 writes it anew"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{'|'.join('---' for _ in head)}|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def cells(name: str) -> list[list[str]]:
    """A table, its head first and without the rule below that."""
    read = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines_of(name)]
    return [*read[:1], *read[2:]]


def compare_cell(row: str, column: str, measured: float | None, *, limit: float = 1e-5) -> None:
    """Hold a measured difference against the table; ``None``: there is nothing to measure."""
    head, *rows = cells("exactness")
    place, own = head.index(column), next(cells for cells in rows if cells[0] == row)
    if writing():
        own[place] = NOTHING if measured is None else f"1e{_exponent(measured)}"
        write("exactness", table(head, rows))
    if measured is None:
        assert own[place] == NOTHING
        return
    stated = float(own[place])
    # What is rounding differs between machines, by less than an order of magnitude.
    assert measured <= min(10 * stated, limit), f"{row}, {column}: {measured:.1e} was measured"
    assert stated <= limit
    assert measured >= stated / 1000 or stated == float(f"1e{LEAST}")


def _exponent(measured: float) -> int:
    """Of the power of ten above, with a third of it to spare."""
    return max(LEAST, math.ceil(math.log10(1.5 * measured)) if measured else LEAST)
