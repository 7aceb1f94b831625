"""``prunenas status`` and ``prunenas best``: studies as they stand in their storage."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunenas.cli.options import Json, Storage, StudyName
from prunenas.places import STUDIES, address

if TYPE_CHECKING:
    from rich.console import RenderableType

    from prunenas.search import StudyView
    from prunenas.trial import Record


def status(
    study: Annotated[
        str | None,
        typer.Argument(metavar="[STUDY]", help="The study's name; all studies without it."),
    ] = None,
    storage: Storage = STUDIES,
    json: Json = False,
) -> None:
    """Show how far studies are: trials by state, progress, time left.

    \b
    prunenas status
    prunenas status quickstart
    prunenas status quickstart --json
    """
    from prunenas.cli import console, tables
    from prunenas.search import list_studies, open_study

    if study is not None:
        view = open_study(storage, study)
        if json:
            console.show_json(summary(view))
        else:
            console.show(*_details(view))
        return
    views = [open_study(storage, name) for name in list_studies(storage)]
    if json:
        console.show_json([summary(view) for view in views])
    elif views:
        console.show(tables.studies(views))
    else:
        console.note(f"no studies in {address(storage)}; begin one with `prunenas run FILE`")


def best(study: StudyName, storage: Storage = STUDIES, json: Json = False) -> None:
    """Show a study's front: the architectures no other one beats.

    On the front no other architecture is better in all that the study has for objectives: a higher
    accuracy, fewer FLOPs, a lower latency. Accuracy is the share of the validation split that is
    classified rightly.

    Where the study has repeats, candidates stand by the mean accuracy of fresh seeds, which had no
    part in the choice; beside it the search's own score, and how much that flattered them.

    Where it has several methods, a second table tells whose architectures retrain best.

    \b
    prunenas best quickstart
    prunenas best quickstart --json
    """
    from prunenas.cli import by_method, console, repeats, tables, units
    from prunenas.search import open_study
    from prunenas.search.by_method import by_method as compared

    view = open_study(storage, study)
    methods = compared(view)
    if json:
        records = [_plain(record) for record in view.final_front]
        figures = [each.to_dict() for each in methods]
        console.show_json({**summary(view), "front": records, "methods": figures})
    elif view.ranking:
        title = f"{view.name} · {tables.objective(view.objective)}"
        console.show(repeats.ranking(view, title=title), *repeats.lines(view))
    elif view.front:
        front = tables.front(view.front, title=f"{view.name} · {tables.objective(view.objective)}")
        front.add_section()
        front.add_row(*tables.dense_row(view))
        if stopped := view.counts.get("stopped"):
            front.caption = f"{units.plural(stopped, 'trial')} stopped early: not compared here"
        console.show(front)
    else:
        console.note(f"{view.name}: no trial is complete yet")
    if not json and view.front and len(methods) > 1:
        console.show("", by_method.comparison(view, methods), *by_method.lines(view, methods))


def _plain(record: "Record") -> dict[str, Any]:
    """Return a record, with its density where it has masks."""
    from prunenas.architecture import density_of

    density = density_of(record.architecture)
    return {**record.to_dict(), **({} if density is None else {"density": density})}


def summary(view: "StudyView") -> dict[str, Any]:
    """Return what ``--json`` says of a study."""
    from prunenas.cli.progress import time_left
    from prunenas.search.curse import repeats_summary

    return {
        "name": view.name,
        "storage": address(view.storage),
        "objective": dict(view.objective),
        "trials": {
            "total": view.trials_total,
            "done": len(view.records),
            "by_state": dict(view.counts),
            "reused": sum(record.reused is not None for record in view.records),
        },
        "epochs": {
            "trained": sum(record.epochs for record in view.records if not record.reused),
            "reused": sum(record.epochs for record in view.records if record.reused),
        },
        "repeats": repeats_summary(view),
        "finished": view.finished,
        "seconds_left": time_left(view),
        "best_accuracy": max(
            (r.accuracy for r in view.front if r.accuracy is not None), default=None
        ),
        "dense": {
            "flops": view.dense_flops,
            "params": view.dense_params,
            "accuracy": view.dense_accuracy,
            "latency": view.dense_latency,
            "round_seconds": view.dense_round_seconds,
            "widths": dict(view.dense_widths),
        },
    }


def _details(view: "StudyView") -> list["RenderableType"]:
    from rich.text import Text

    from prunenas.cli import repeats, tables, units
    from prunenas.cli.lines import outcome
    from prunenas.cli.progress import time_left

    left = time_left(view)
    tail = "finished" if view.finished else f"about {units.duration(left)} of work left"
    parts: list[RenderableType] = [
        tables.studies([view]),
        Text(tail if view.finished or left is not None else "time left: unknown yet", "dim"),
    ]
    if (told := repeats.progress(view)) is not None:
        parts.append(Text(told, "dim"))
    if reused := [record for record in view.records if record.reused]:
        parts.append(
            Text(
                f"{units.plural(len(reused), 'trial')} took the training of an equal architecture: "
                f"{units.plural(sum(record.epochs for record in reused), 'epoch')} saved",
                "dim",
            )
        )
    troubled = [record for record in view.records if record.state in ("failed", "infeasible")]
    parts += [Text(outcome(r), tables.STATE_STYLES[r.state]) for r in troubled[-SHOWN_TROUBLES:]]
    if hidden := len(troubled) - SHOWN_TROUBLES:
        parts += [Text(f"and {hidden} before them", "dim")] if hidden > 0 else []
    return parts


SHOWN_TROUBLES = 10
