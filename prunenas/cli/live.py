"""A running study as one screen that keeps itself up to date: for terminals."""

from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from prunenas.cli import repeats, tables, units
from prunenas.cli.console import console as stdout_console
from prunenas.cli.lines import outcome
from prunenas.cli.progress import Progress, RunningRepeat, RunningTrial
from prunenas.search.events import Event, RepeatFinished, TrialFinished

LINES_AROUND_FRONT = 14  # header, progress, trials, counts, the table's own head, and the prompt


class Screen:
    """Show the study while it runs; leave the last state standing when it ends.

    Args:
        progress: The state that the events are folded into.
        objective: The study's objective in words.
        storage: URL of the storage the study lives in.
        console: The terminal.
    """

    def __init__(
        self, progress: Progress, objective: str, storage: str, console: Console | None = None
    ) -> None:
        self._progress = progress
        self._objective = objective
        self._storage = storage
        self._console = console or stdout_console()
        self._spinner = Spinner("dots", style="cyan")
        # Rendered by Live's own thread four times a second, so that the clock runs between events.
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
        self._live.stop()

    def watch(self, event: Event) -> None:
        """Take one event in; a trial that did not complete leaves a line above the screen."""
        self._progress.update(event)
        if isinstance(event, TrialFinished) and event.record.state in ("failed", "infeasible"):
            style = tables.STATE_STYLES[event.record.state]
            self._console.print(Text(outcome(event.record), style))
        if isinstance(event, RepeatFinished) and event.repeat.reason is not None:
            told = repeats.outcome(event.again, event.repeat)
            self._console.print(Text(told, tables.STATE_STYLES["failed"]))

    def warn(self, message: str) -> None:
        """Print trouble above the screen."""
        self._console.print(Text(f"warning: {message}", "yellow"))

    def render(self) -> RenderableType:
        """Return the screen as it stands."""
        progress = self._progress
        parts: list[RenderableType] = [self._header(), self._bar()]
        if progress.running or progress.dense or progress.repeats:
            parts.append(self._trials())
        if progress.counts:
            parts.append(tables.states(progress.counts))
        if progress.front:
            rows = max(3, self._console.height - LINES_AROUND_FRONT)
            parts += [Text(), tables.front(progress.front, limit=rows)]
        return Group(*parts)

    def _header(self) -> RenderableType:
        return Text.assemble(
            (self._progress.name, "bold"),
            (" · ", "dim"),
            self._objective,
            (" · ", "dim"),
            (self._storage, "dim"),
            overflow="ellipsis",
            no_wrap=True,
        )

    def _bar(self) -> RenderableType:
        progress = self._progress
        left = progress.seconds_left()
        if progress.finished:
            tail = "finished"
        elif not progress.total:
            tail = "preparing"
        elif left is None:
            tail = "time left: known after the first epoch"
        else:
            tail = f"about {units.duration(left)} left"
        row = Table.grid(padding=(0, 1))
        row.add_row(
            Text("✓", "green") if progress.finished else self._spinner,
            ProgressBar(
                total=max(1, progress.total),
                completed=progress.done,
                width=30,
                complete_style="cyan",
                finished_style="green",
            ),
            Text(self._counted()),
            Text(tail, "dim"),
        )
        return row

    def _counted(self) -> str:
        progress = self._progress
        words = []
        if progress.total:
            words.append(f"{progress.done}/{units.plural(progress.total, 'trial')}")
        if progress.repeats_total:
            total = units.plural(progress.repeats_total, "repeat")
            words.append(f"{progress.repeats_done}/{total}")
        return " · ".join(words)

    def _trials(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        for dense in tuple(self._progress.dense.values()):
            grid.add_row(
                Text(dense.what, "cyan"),
                "",
                "",
                f"{dense.unit} {dense.epoch}/{dense.epochs}",
                "" if dense.accuracy is None else f"accuracy {units.accuracy(dense.accuracy)}",
            )
        for trial in tuple(self._progress.running.values()):  # events come from another thread
            grid.add_row(*_cells(trial))
        for repeat in tuple(self._progress.repeats.values()):
            grid.add_row(*_repeat_cells(repeat))
        return grid


def _cells(trial: RunningTrial) -> tuple[RenderableType, ...]:
    return (
        Text(f"trial {trial.number}", "cyan"),
        trial.method,
        f"{units.share(trial.flops_ratio)} of dense FLOPs",
        f"epoch {trial.epoch}/{trial.epochs}",
        f"accuracy {units.accuracy(trial.accuracy)}" if trial.epoch else "",
    )


def _repeat_cells(repeat: RunningRepeat) -> tuple[RenderableType, ...]:
    again = repeat.again
    return (
        Text(f"trial {again.number}", "cyan"),
        f"fresh seed {again.index} of {again.of}",
        f"{units.share(again.flops_ratio)} of dense FLOPs",
        f"epoch {repeat.epoch}/{again.epochs}",
        f"accuracy {units.accuracy(repeat.accuracy)}" if repeat.epoch else "",
    )
