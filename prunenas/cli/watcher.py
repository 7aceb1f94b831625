"""How far a comparison's trainings are."""

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunenas.evidence.comparison import Told


def progress_bar() -> Any:
    """Return a bar on stderr, not yet started; None where nobody watches a terminal."""
    if not sys.stderr.isatty() or os.environ.get("CI"):
        return None
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


class Watcher:
    """Shows how far trainings are: a bar in a terminal, a line for each network in a pipe."""

    def __init__(self, name: str) -> None:
        """Args: of what is shown."""
        self._name = name
        self._bar: Any = None
        self._done = 0

    def __enter__(self) -> "Watcher":
        self._bar = progress_bar()
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self._name, total=None)
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def watch(self, told: "Told") -> None:
        """Show an epoch or a cell."""
        from prunenas.cli import units

        if told.metrics is not None and self._bar is not None:
            accuracy = units.accuracy(told.metrics.validation.accuracy)
            shown = f"{told.what}: epoch {told.metrics.epoch}, {accuracy}"
            self._bar.update(self._task, description=shown)
        if told.parts:
            done = sum(len(part.results) for part in told.parts)
            self.counted(done, sum(part.total for part in told.parts))

    def counted(self, done: int, total: int) -> None:
        """Show how many networks are done."""
        from prunenas.cli import console

        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)
        elif done != self._done:
            console.note(f"{self._name}: {done} of {total} networks done")
        self._done = done
