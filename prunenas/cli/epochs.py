"""A training while it runs: as lines for pipes, as a few lines that keep themselves up to date."""

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from prunenas.cli import units
from prunenas.cli.console import console as stdout_console
from prunenas.retraining import Plan
from prunenas.training import EpochMetrics

TREND = 40  # epochs, columns of the picture
_STEPS = "▁▂▃▄▅▆▇█"


class Course:
    """What is known of a training: its plan, and the epochs so far.

    Args:
        plan: What is trained.
        name: What to call it.
    """

    def __init__(self, plan: Plan, name: str) -> None:
        self.plan = plan
        self.name = name
        self.curve: list[EpochMetrics] = []

    def begin(self) -> str:
        """Word what is about to be trained."""
        plan, data = self.plan, self.plan.data
        held_out = f", {len(data.validation):,} held out" if len(data.validation) else ""
        return (
            f"{self.name}: {units.count(plan.architecture.flops)} FLOPs "
            f"({units.share(plan.architecture.flops / plan.dense_flops)} of dense), "
            f"{units.plural(plan.epochs, 'epoch')} ({plan.recipe.protocol}) "
            f"on {len(data.train):,} images of {data.name}{held_out}, seed {plan.seed}"
        )

    def measured(self) -> str:
        """Word the last epoch's figures."""
        last, held_out = self.curve[-1], len(self.plan.data.validation)
        words = f"training accuracy {units.accuracy(last.train.accuracy)}"
        if held_out:
            words = (
                f"validation accuracy {units.accuracy(last.validation.accuracy)} "
                f"(n={held_out:,}), {words}"
            )
        return f"{words}, loss {last.train.loss:.4f}"

    def seconds_left(self) -> float | None:
        """Estimate the time that the epochs to come take; None before the first one."""
        if not self.curve:
            return None
        pace = sum(epoch.seconds for epoch in self.curve) / len(self.curve)
        return pace * (self.plan.epochs - len(self.curve))

    def trend(self) -> str:
        """Draw the last epochs' accuracy, from the lowest to the highest of them."""
        held_out = len(self.plan.data.validation)
        shown = [
            (epoch.validation if held_out else epoch.train).accuracy
            for epoch in self.curve[-TREND:]
        ]
        low, high = min(shown), max(shown)
        span = high - low or 1.0
        return "".join(_STEPS[int((value - low) / span * (len(_STEPS) - 1))] for value in shown)


class Lines:
    """Print each epoch as one line.

    Args:
        course: What the epochs are added to.
        write: Prints one line; flushes, so that a reader of the pipe sees it at once.
    """

    def __init__(
        self,
        course: Course,
        write: Callable[[str], None] = lambda line: print(line, flush=True),
    ) -> None:
        self._course = course
        self._write = write
        self.told = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, error, trace

    def warn(self, message: str) -> None:
        """Print trouble on stderr."""
        print(f"warning: {message}", file=sys.stderr, flush=True)

    def begun(self, resumed: bool) -> None:
        """Print what is trained, and whether it was begun earlier."""
        self.told = True
        self._write(self._course.begin())
        if resumed:
            self._write(f"{self._course.name}: resumed, finished epochs first")

    def epoch(self, metrics: EpochMetrics) -> None:
        """Print an epoch."""
        course = self._course
        course.curve.append(metrics)
        left = course.seconds_left() if metrics.epoch < course.plan.epochs else None
        tail = f" [about {units.duration(left)} left]" if left is not None else ""
        self._write(f"epoch {metrics.epoch}/{course.plan.epochs}: {course.measured()}{tail}")


class Screen:
    """Show the training while it runs; leave the last state standing when it ends.

    Args:
        course: What the epochs are added to.
        console: The terminal.
    """

    def __init__(self, course: Course, console: Console | None = None) -> None:
        self._course = course
        self._console = console or stdout_console()
        self._spinner = Spinner("dots", style="cyan")
        self.told = False
        self._resumed = self._over = False
        self._live = Live(
            get_renderable=self.render, console=self._console, refresh_per_second=4, transient=False
        )

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, error, trace
        self._over = True
        self._live.stop()

    def warn(self, message: str) -> None:
        """Print trouble above the screen."""
        self._console.print(Text(f"warning: {message}", "yellow"))

    def begun(self, resumed: bool) -> None:
        """Begin to draw."""
        self.told, self._resumed = True, resumed

    def epoch(self, metrics: EpochMetrics) -> None:
        """Take an epoch in."""
        self._course.curve.append(metrics)

    def render(self) -> RenderableType:
        """Return the screen as it stands."""
        course = self._course
        if not self.told:
            return Text() if self._over else self._preparing()
        parts: list[RenderableType] = [Text(course.begin(), "bold"), self._bar()]
        if course.curve:
            parts.append(Text.assemble((course.trend(), "cyan"), " ", course.measured()))
        return Group(*parts)

    def _preparing(self) -> RenderableType:
        row = Table.grid(padding=(0, 1))
        row.add_row(self._spinner, Text(f"{self._course.name}: preparing", "dim"))
        return row

    def _bar(self) -> RenderableType:
        course, left = self._course, self._course.seconds_left()
        done, total = len(course.curve), course.plan.epochs
        if done == total:
            tail = "trained"
        elif left is None:
            tail = "resumed" if self._resumed else "time left: known after the first epoch"
        else:
            tail = f"about {units.duration(left)} left"
        row = Table.grid(padding=(0, 1))
        row.add_row(
            Text("✓", "green") if done == total else self._spinner,
            ProgressBar(
                total=total,
                completed=done,
                width=30,
                complete_style="cyan",
                finished_style="green",
            ),
            Text(f"{done}/{units.plural(total, 'epoch')}"),
            Text(tail, "dim"),
        )
        return row
