"""``prunenas guide``: a network built by the pattern of those that pruning found."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunenas.cli.options import Storage, StudyName
from prunenas.errors import StudyError
from prunenas.places import STUDIES

if TYPE_CHECKING:
    from rich.console import RenderableType

    from prunenas.architecture import Architecture, Space
    from prunenas.evidence.patterns import Pattern
    from prunenas.search import StudyView


def guide(
    study: StudyName,
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="The export.", show_default=False)],
    flops_ratio: Annotated[
        float,
        typer.Option(
            "--flops-ratio",
            metavar="RATIO",
            help="Share of the dense network's FLOPs, in (0, 1], that it keeps.",
            show_default=False,
        ),
    ],
    trials: Annotated[
        list[int] | None,
        typer.Option(
            "--trial",
            metavar="NUMBER",
            min=0,
            help="The pattern of this trial, instead of the front's. Repeatable.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="Another network that the pattern is taken over to; otherwise the study's.",
            show_default=False,
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="C,H,W",
            help="Shape of one input of that network.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="An argument of its constructor; VALUE is JSON or a word. Repeatable.",
            show_default=False,
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite an export that is there.")
    ] = False,
    storage: Storage = STUDIES,
) -> None:
    """Build a network by the pattern of those that pruning found, and export it.

    Over the architectures of a study's front: the mean share of channels that each stage, the
    layers at one resolution, keeps. The network whose layers keep their stage's share, scaled onto
    a FLOPs budget, is guided by them; with --model it is another network, to which the pattern is
    transferred. Nothing is pruned for it: `prunenas train FOLDER` trains it from scratch.

    The spread says how unevenly stages are pruned. Near 0 there is no pattern, and uniform widths
    are as good a guess.

    \b
    prunenas guide quickstart exports/guided --flops-ratio 0.3
    prunenas guide quickstart exports/transferred --flops-ratio 0.3 --model resnet20 --input 1,28,28
    """
    from prunenas.cli import console, units
    from prunenas.cli.inspect import traced
    from prunenas.evidence.patterns import guided, pattern
    from prunenas.export import write_export
    from prunenas.search import open_study

    if not 0 < flops_ratio <= 1:
        raise typer.BadParameter(
            f"a share of FLOPs must lie in (0, 1], but is {flops_ratio:g}",
            param_hint="'--flops-ratio'",
        )
    if model is None and (shape or settings):
        raise typer.BadParameter(
            "goes with --model: the study says its own", param_hint="'--input'"
        )
    view = open_study(storage, study)
    numbers, architectures = _narrow(view, trials or [])
    own = _space(view)
    found = pattern(own, architectures)
    space = own if model is None else traced(model, shape, settings or [])
    architecture = guided(space, found.stages, flops=int(flops_ratio * space.dense_flops))
    write_export(
        out,
        architecture,
        dense_flops=space.dense_flops,
        provenance={
            "study": view.name,
            "method": "guided" if model is None else "transferred guided",
            "trials": numbers,
            "stages": {str(stage): round(share, 6) for stage, share in found.stages.items()},
        },
        replace=replace,
    )
    console.show(*_shown(view, found))
    ratio = units.share(architecture.flops / space.dense_flops)
    console.note(f"{out}: {architecture.source} at {ratio} of its FLOPs, guided by {view.name}")


def _narrow(view: "StudyView", trials: list[int]) -> "tuple[list[int], list[Architecture]]":
    """Numbers and architectures of the trials whose widths make the pattern."""
    from prunenas.architecture import Architecture
    from prunenas.cli.choice import choose

    chosen = [record for _, record in choose(view, trials, None, everything=not trials)]
    narrow = [record for record in chosen if not (record.architecture or {}).get("masks")]
    if not narrow:
        raise StudyError(
            f"a pattern is of widths, but study {view.name!r} has only masks to show: "
            "`prunenas patterns` is for these"
        )
    plain = [Architecture.from_dict(record.architecture or {}) for record in narrow]
    return [record.number for record in narrow], plain


def _space(view: "StudyView") -> "Space":
    from prunenas.data import load
    from prunenas.search.workshop import trace_study
    from prunenas.spec import Study

    study = Study.model_validate(view.settings)
    return trace_study(study, load(**study.data.model_dump()))


def _shown(view: "StudyView", found: "Pattern") -> "list[RenderableType]":
    from rich.text import Text

    from prunenas.cli import units
    from prunenas.cli.tables import bar, table

    result = table(
        "stage",
        ("kept", "right"),
        "",
        ("± within", "right"),
        title=f"{view.name} · mean of {units.plural(found.n, 'architecture')}",
    )
    for stage, share in found.stages.items():
        result.add_row(
            str(stage), units.share(share), bar(share), units.share(found.spreads[stage])
        )
    told = f"spread between stages {found.spread:.2f} (standard deviation over mean)"
    return [result, Text(told, "dim")]
