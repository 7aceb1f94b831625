"""Federated comparisons while they run, and what is written of them."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunenas.cli.run import Interrupted
from prunenas.cli.watcher import progress_bar
from prunenas.places import CACHE

if TYPE_CHECKING:
    from prunenas.evidence.federation import Told


class FederatedWatcher:
    """Shows how far trainings are: a bar in a terminal, a line for each validation in a pipe."""

    def __init__(self, name: str, rounds: int) -> None:
        """Args: of what is shown, and how many rounds a training has."""
        self._name, self._rounds = name, rounds
        self._bar: Any = None

    def __enter__(self) -> "FederatedWatcher":
        self._bar = progress_bar()
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self._name, total=None)
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def watch(self, told: "Told") -> None:
        """Show a validation, or a training that is done."""
        from prunenas.cli import console, units

        rounds, point = self._rounds, told.point
        if point is None:
            if self._bar is None:
                console.note(f"{self._name}: {told.done} of {told.total} trainings done")
            else:
                self._bar.update(
                    self._task, completed=told.done * rounds, total=told.total * rounds
                )
            return
        shown = (
            f"{told.what}: round {point.round}, {units.accuracy(point.accuracy)}, "
            f"{units.share(point.density)} kept"
        )
        if self._bar is None:
            console.note(shown)
        else:
            self._bar.update(
                self._task,
                description=shown,
                completed=min((told.done + 1) * rounds, told.done * rounds + point.round),
                total=told.total * rounds,
            )


def compare_file(
    path: str,
    *,
    seeds: int | None,
    device: str,
    cache: Path,
    markdown: Path | None,
    page: Path | None,
    picture: Path | None,
    json: bool,
) -> None:
    """Run a federated comparison from its file, and show it.

    Args:
        path: Of the file.
        seeds: How many, instead of the file's.
        device: A torch device, or ``auto``.
        cache: Folder of the cache.
        markdown: A file for the table.
        page: A file for an HTML page.
        picture: A file for the curves.
        json: Whether JSON is printed instead of a table.
    """
    from prunenas.cli import console
    from prunenas.spec import load_federated

    comparison = load_federated(path)
    if seeds is not None:
        comparison = comparison.model_copy(update={"seeds": seeds})
    again = ["prunenas", "compare", path]
    again += ["--seeds", str(seeds)] if seeds else []
    again += ["--cache", str(cache)] if cache != CACHE else []
    watcher = FederatedWatcher(comparison.name, comparison.federation.rounds)
    try:
        with watcher:
            from prunenas.evidence.federation import compare_strategies

            done = compare_strategies(
                comparison, device=device, folder=cache, watch=watcher.watch, warn=console.note
            )
    except KeyboardInterrupt:
        for option, value in (("--markdown", markdown), ("--out", page), ("--curves", picture)):
            again += [option, str(value)] if value else []
        raise Interrupted(f"what is done is kept, go on with `{shlex.join(again)}`") from None
    from prunenas.cli.federated import (
        curves,
        federated_json,
        federated_markdown,
        federated_table,
    )

    if markdown is not None:
        _write(markdown, federated_markdown(done).encode(), "Markdown", comparison.name)
    if page is not None:
        from prunenas.report import federated_page

        text = federated_page(done, picture=curves(done), command=shlex.join(again))
        _write(page, text.encode(), "a page", comparison.name)
    if picture is not None:
        _write(picture, curves(done), "a picture", comparison.name)
    if json:
        console.show_json(federated_json(done))
        return
    console.show(*federated_table(done))


def _write(path: Path, content: bytes, kind: str, name: str) -> None:
    from prunenas.cli import console

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    console.note(f"{path}: {name} as {kind}")
