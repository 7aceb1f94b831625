"""Where output goes: tables and JSON on stdout, messages on stderr."""

import json
import math
import os
import sys
from typing import Any

from rich.console import Console, RenderableType

PIPED_WIDTH = 1000  # columns: whoever reads a pipe, such as grep, has no edge to wrap at


def console(**settings: Any) -> Console:
    """Return a console on stdout, as it is at this moment; ``settings`` are rich's own.

    Text is shown as it is: a layer may be called ``[0]`` and a model ``nets:smile:``.
    """
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        settings = {"width": PIPED_WIDTH, **settings}
    return Console(highlight=False, markup=False, emoji=False, **settings)


def show(*parts: RenderableType) -> None:
    """Print tables and text on stdout."""
    console().print(*parts, sep="\n")


def show_json(value: Any) -> None:
    """Print ``value`` as strict JSON on stdout; what is not finite becomes ``null``."""
    print(json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False))


def note(message: str) -> None:
    """Print a message for people on stderr."""
    print(message, file=sys.stderr)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
