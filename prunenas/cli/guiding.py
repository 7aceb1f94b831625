"""Where patterns come from that `prunenas guide` builds by: a study's front, or a comparison."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from prunenas.cache import Cache
from prunenas.cli import console
from prunenas.cli.choice import choose
from prunenas.cli.run import Interrupted
from prunenas.cli.watcher import Watcher
from prunenas.data import load
from prunenas.errors import StudyError, unknown
from prunenas.evidence.comparison import every_method, found_pattern
from prunenas.evidence.patterns import Pattern, pattern
from prunenas.methods import METHODS, Dense
from prunenas.search import StudyView, open_study, whole_architecture
from prunenas.search.workshop import trace_study
from prunenas.spec import Comparison, load_comparison
from prunenas.trial import Record


@dataclass(frozen=True)
class Guide:
    """A pattern, and what is known of it.

    Attributes:
        pattern: The pattern.
        dense: The network it was found in.
        title: What it is of, in words.
        provenance: Where it comes from; JSON values.
    """

    pattern: Pattern
    dense: Dense
    title: str
    provenance: dict[str, Any]


def of_study(name: str, trials: Sequence[int], storage: str) -> Guide:
    """Return the pattern of a study's trials, by default of its front.

    Narrow networks go before those with masks.

    Raises:
        StudyError: There is no such study or trial, it is of another version, or nothing has a
            pattern.
    """
    view = open_study(storage, name)
    chosen = [record for _, record in choose(view, trials, None, everything=not trials)]
    masked = [record for record in chosen if (record.architecture or {}).get("masks")]
    taken = [record for record in chosen if record not in masked] or _pruned(view, masked, trials)
    study = view.study()
    data = load(**study.data.model_dump())
    space = trace_study(study, data)
    try:
        found = pattern(space, [whole_architecture(view, record) for record in taken])
    except ValueError as error:
        raise StudyError(f"study {name!r} has no pattern: {error}") from error
    dense = Dense(space, data, study.train, Cache(), seed=study.search.seed)
    numbers = [record.number for record in taken]
    return Guide(found, dense, name, {"study": name, "trials": numbers})


def _pruned(view: StudyView, masked: list[Record], trials: Sequence[int]) -> list[Record]:
    """Those whose masks pruning found: of a front, masks that were drawn show nothing of it."""
    found = [each for each in masked if trials or METHODS[each.method].kind == "automatic"]
    if not found:
        raise StudyError(f"study {view.name!r} only drew its front's masks: they have no pattern")
    return found


def of_comparison(
    path: str, label: str | None, budget: float | None, *, device: str, folder: Path
) -> Guide:
    """Return the pattern of what a comparison's method finds with all seeds.

    Raises:
        SpecError: The file has mistakes.
        StudyError: The method finds nothing that has a pattern.
    """
    comparison = load_comparison(path)
    method, ratio = _method(comparison, label), _budget(comparison, budget)
    contender = next(
        each
        for each in every_method(comparison)
        if each.label == method and each.flops_ratio == ratio
    )
    watcher = Watcher(comparison.name)
    try:
        with watcher:
            dense, found = found_pattern(
                comparison,
                contender,
                device=device,
                folder=folder,
                watch=watcher.watch,
                counted=lambda done: watcher.counted(done, comparison.seeds),
                warn=console.note,
            )
    except KeyboardInterrupt:
        raise Interrupted("what is done is kept, the same line goes on") from None
    provenance = {
        "comparison": comparison.name,
        "parameters": {"method": contender.method, **contender.hyperparameters},
    }
    return Guide(found, dense, f"{comparison.name}, {method} at {ratio:.0%} FLOPs", provenance)


def _method(comparison: Comparison, label: str | None) -> str:
    labels = [each.title for each in comparison.methods]
    if label is None and len(labels) == 1:
        return labels[0]
    if label is None:
        raise typer.BadParameter(
            f"{comparison.name} has several: say one. Known: {', '.join(labels)}",
            param_hint="'--method'",
        )
    if label not in labels:
        raise typer.BadParameter(
            unknown(f"method of {comparison.name}", label, labels), param_hint="'--method'"
        )
    return label


def _budget(comparison: Comparison, budget: float | None) -> float:
    known = ", ".join(f"{each:g}" for each in comparison.budgets)
    if budget is None and len(comparison.budgets) == 1:
        return comparison.budgets[0]
    if budget not in comparison.budgets:
        said = "several budgets: say one" if budget is None else f"no budget {budget:g}"
        raise typer.BadParameter(
            f"{comparison.name} has {said}. Known: {known}", param_hint="'--budget'"
        )
    return budget
