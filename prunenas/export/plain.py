"""Plain values out of a file that anyone may have written: JSON's kinds, finite, not too deep."""

import math
from pathlib import Path
from typing import Any

from prunenas.errors import ExportError

_DEEPEST = 64
_LARGEST_INT = 1 << 63
_LONGEST = 600


def read_bounded(path: Path, limit: int) -> str:
    """A file's text, if it is a plain file of at most ``limit`` bytes.

    Raises:
        FileNotFoundError: There is none.
        ExportError: It can't be read, is larger, or no UTF-8 text.
    """
    try:
        if path.exists() and not path.is_file():  # a device or a pipe may never end
            raise ExportError(f"{path}: can't be read: not a plain file")
        with path.open("rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise ExportError(f"{path}: must be at most {limit >> 20} MiB, but is larger")
        return content.decode("utf-8")
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{path}: can't be read: {error}") from error


def one_line(error: BaseException) -> str:
    """What an error says of a file's content, in one line however odd or long the content is."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def check_plain(value: Any, where: str) -> None:
    """Refuse what JSON could not hold, or what no honest file holds.

    Raises:
        ExportError: A value of another kind, a number that is not finite or beyond 64 bits, a key
            that is no text, text that is not Unicode, or nesting beyond 64 levels.
    """
    todo: list[tuple[Any, int]] = [(value, 0)]
    while todo:
        each, depth = todo.pop()
        if depth > _DEEPEST:
            raise ExportError(f"{where}: values must be nested at most {_DEEPEST} deep")
        if isinstance(each, dict):
            todo += [(key, depth) for key in each]
            todo += [(inner, depth + 1) for inner in each.values()]
            if any(not isinstance(key, str) for key in each):
                raise ExportError(f"{where}: keys must be text")
        elif isinstance(each, list):
            todo += [(inner, depth + 1) for inner in each]
        elif isinstance(each, str):
            if not each.isascii() and any("\ud800" <= letter <= "\udfff" for letter in each):
                raise ExportError(f"{where}: text must be Unicode, but got {each[:40]!a}")
        elif isinstance(each, float):
            if not math.isfinite(each):
                raise ExportError(f"{where}: numbers must be finite, but got {each!r}")
        elif isinstance(each, int):
            if abs(each) >= _LARGEST_INT:
                raise ExportError(f"{where}: whole numbers must fit 64 bits, but one does not")
        elif each is not None:
            raise ExportError(f"{where}: values must be JSON's, but got {type(each).__name__}")
