"""``prunenas export``: architectures out of a study, into folders of their own."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunenas.cli.options import Device, Json, Storage, StudyName
from prunenas.errors import StudyError
from prunenas.places import STUDIES

if TYPE_CHECKING:
    from prunenas.search import StudyView
    from prunenas.trial import Record


def export(
    study: StudyName,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="The folder that exports are written into.", show_default=False
        ),
    ],
    trials: Annotated[
        list[int] | None,
        typer.Option(
            "--trial",
            metavar="NUMBER",
            min=0,
            help="This trial's architecture, into OUT/trial_NUMBER. Repeatable.",
            show_default=False,
        ),
    ] = None,
    flops_ratio: Annotated[
        float | None,
        typer.Option(
            "--flops-ratio",
            metavar="SHARE",
            help="The most accurate one within this share of the dense FLOPs, into OUT/best_SHARE.",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="The whole front, each into OUT/trial_NUMBER.")
    ] = False,
    weights: Annotated[
        bool, typer.Option("--weights", help="Trained weights too, as model.safetensors.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite exports that are there already.")
    ] = False,
    storage: Storage = STUDIES,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Export the best architectures of a study as model configs.

    Without a choice it is the most accurate one, into OUT/best. An export is a folder that loads
    with prunenas.load(FOLDER), in any process and without the study. Trained weights are
    those the study kept of its front; where there are none, they are trained again.

    \b
    prunenas export quickstart exports
    prunenas export quickstart exports --flops-ratio 0.3 --weights
    prunenas export quickstart exports --all
    """
    from prunenas.architecture import Architecture
    from prunenas.cli import console, units
    from prunenas.export import write_export
    from prunenas.search import open_study, trained_weights

    if sum((bool(trials), flops_ratio is not None, everything)) > 1:
        raise typer.BadParameter("only one of --trial, --flops-ratio and --all makes the choice")
    if flops_ratio is not None and not 0 < flops_ratio <= 1:
        raise typer.BadParameter(
            f"must be in (0, 1], but is {flops_ratio}", param_hint="'--flops-ratio'"
        )
    view = open_study(storage, study)
    written: list[dict[str, Any]] = []
    for name, record in choose(view, trials or (), flops_ratio, everything):
        assert record.architecture is not None  # choose() takes complete trials only
        folder = write_export(
            out / name,
            Architecture.from_dict(record.architecture),
            dense_flops=view.dense_flops,
            provenance=provenance(view, record),
            weights=trained_weights(view, record, device=device) if weights else None,
            replace=replace,
        )
        written.append({"folder": str(folder), "trial": record.number, "digest": record.digest})
        if not json:
            typer.echo(
                f"{folder}: trial {record.number}, accuracy {units.accuracy(record.accuracy)}, "
                f"{units.share(record.flops_ratio)} of dense FLOPs"
            )
    if json:
        console.show_json(written)


def choose(
    view: "StudyView", trials: Sequence[int], flops_ratio: float | None, everything: bool
) -> list[tuple[str, "Record"]]:
    """Return the folder's name and the record of each architecture that was asked for.

    Raises:
        StudyError: There is none; the message says the nearest.
    """
    usable = [r for r in view.records if r.state == "complete" and r.architecture is not None]
    if not usable:
        raise StudyError(f"study {view.name!r} has no complete trial yet")
    if trials:
        return [(f"trial_{number}", _numbered(view, usable, number)) for number in trials]
    if everything:
        return [(f"trial_{record.number}", record) for record in view.front]
    if flops_ratio is None:
        return [("best", max(usable, key=_merit))]
    within = [record for record in usable if (record.flops_ratio or 0.0) <= flops_ratio]
    if not within:
        least = min(record.flops_ratio or 0.0 for record in usable)
        raise StudyError(
            f"no architecture of study {view.name!r} has at most {flops_ratio:g} of the dense "
            f"FLOPs; the smallest has {least:.4f}"
        )
    return [(f"best_{flops_ratio:g}", max(within, key=_merit))]


def provenance(view: "StudyView", record: "Record") -> dict[str, Any]:
    """Return where an architecture comes from, for its config."""
    return {
        "study": view.name,
        "trial": record.number,
        "method": record.method,
        "parameters": record.parameters,
        "ratios": record.ratios,
        "notes": record.notes,
        "accuracy": record.accuracy,
        "split": "validation",
        "epochs": record.epochs,
        "seeds": record.seeds,
        "versions": record.versions,
        "finished": record.finished,
    }


def _merit(record: "Record") -> tuple[float, int]:
    return record.accuracy or 0.0, -(record.flops or 0)


def _numbered(view: "StudyView", usable: Sequence["Record"], number: int) -> "Record":
    for record in usable:
        if record.number == number:
            return record
    state = next((record.state for record in view.records if record.number == number), None)
    if state is not None:
        raise StudyError(
            f"trial {number} of study {view.name!r} is {state}: it has nothing to export"
        )
    known = ", ".join(str(record.number) for record in usable)
    raise StudyError(f"study {view.name!r} has no trial {number}. Complete: {known}")
