"""Tables that fit their terminal: what matters least gives way first, figures never."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.bar import Bar
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from prunenas.cli.tables import BAR_WIDTH, table

_GAP = 3  # columns between two of a table's
_LEAST = 20  # columns that a list of names is worth showing in


@dataclass(frozen=True)
class Column:
    """A column of a listing.

    Attributes:
        header: Its name.
        right: Whether it holds figures.
        gives_way: In which order it goes where there is no room, from 1; 0 for never.
        shrinks: Whether it is cut to the room there is, before it goes.
    """

    header: str
    right: bool = False
    gives_way: int = 0
    shrinks: bool = False


class Listing:
    """A table of one-line rows, as wide as there is room.

    Args:
        columns: The first names the rows; it is cut last.
    """

    def __init__(self, *columns: Column) -> None:
        self._columns = columns
        self._rows: list[tuple[tuple[RenderableType, ...], bool]] = []

    def add(self, *cells: RenderableType, section: bool = False) -> None:
        """Add a row, after a blank line where ``section`` begins with it."""
        self._rows.append((cells, section))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Show what there is room for."""
        widths = self.widths(options.max_width)
        shown = [index for index, width in enumerate(widths) if width]
        result = table(
            *(
                (self._columns[index].header, "right" if self._columns[index].right else "left")
                for index in shown
            )
        )
        for column, index in zip(result.columns, shown, strict=True):
            column.width, column.no_wrap, column.overflow = widths[index], True, "ellipsis"
        for cells, section in self._rows:
            if section:
                result.add_section()
            result.add_row(*(cells[index] for index in shown))
        yield result

    def widths(self, room: int) -> list[int]:
        """Columns of the terminal that each column gets; 0 for one that is left out."""
        natural = [
            max(cell_len(column.header), *(_width(cells[index]) for cells, _ in self._rows), 1)
            for index, column in enumerate(self._columns)
        ]
        for index, column in enumerate(self._columns):
            if column.shrinks and not any(_width(cells[index]) for cells, _ in self._rows):
                natural[index] = 0
        widths = [
            min(width, _LEAST) if column.shrinks else width
            for width, column in zip(natural, self._columns, strict=True)
        ]
        ranked = [index for index, column in enumerate(self._columns) if column.gives_way]
        ranked.sort(key=lambda index: self._columns[index].gives_way)
        for index in ranked:
            if _total(widths) > room:
                widths[index] = 0
        for index in reversed(ranked):  # what is worth more takes what room is left
            for wanted in range(natural[index], widths[index], -1):
                wider = [*widths[:index], wanted, *widths[index + 1 :]]
                whole = wanted == natural[index]
                if _total(wider) <= room and (whole or widths[index]):
                    widths = wider
                    break
        widths[0] = max(_LEAST, widths[0] - max(0, _total(widths) - room))
        return widths


def _total(widths: Sequence[int]) -> int:
    shown = [width for width in widths if width]
    return sum(shown) + _GAP * (len(shown) - 1)


def _width(cell: RenderableType) -> int:
    if isinstance(cell, Bar):
        return BAR_WIDTH
    return cell_len(cell.plain if isinstance(cell, Text) else str(cell))
