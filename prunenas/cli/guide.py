"""``prunenas guide``: a network built by the pattern of those that pruning found."""

from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunenas.cli.options import (
    CacheFolder,
    Device,
    Json,
    Storage,
    input_option,
    set_option,
    trial_option,
)
from prunenas.places import CACHE, STUDIES

if TYPE_CHECKING:
    from rich.console import RenderableType

    from prunenas.cli.guiding import Guide


def guide(
    what: Annotated[
        str,
        typer.Argument(
            metavar="COMPARISON.yaml|STUDY",
            help="Whose networks make the pattern: those that a comparison's method finds with all "
            "seeds, or a study's front.",
            show_default=False,
        ),
    ],
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
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            metavar="LABEL",
            help="Of a comparison: this method's pattern, where there are several.",
            show_default=False,
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            metavar="RATIO",
            help="Of a comparison: the pattern at this budget, where there are several.",
            show_default=False,
        ),
    ] = None,
    trials: Annotated[
        list[int] | None,
        trial_option("Of a study: the pattern of this trial, instead of the front's. Repeatable."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="Another network that the pattern is taken over to; otherwise the pattern's own.",
            show_default=False,
        ),
    ] = None,
    shape: Annotated[
        str | None,
        input_option("Shape of one input of that network."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        set_option("An argument of its constructor; VALUE is JSON or a word. Repeatable."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite an export that is there.")
    ] = False,
    storage: Storage = STUDIES,
    device: Device = "auto",
    cache: CacheFolder = CACHE,
    json: Json = False,
) -> None:
    """Export a network built by the pattern that pruning leaves.

    A pattern is the mean share that each stage, the layers at one resolution, keeps: over the
    networks that a comparison's method finds with all its seeds (what is missing is trained and
    kept), or over a study's front. The network whose layers keep their stage's share, scaled onto
    a FLOPs budget, is guided by it; with --model it is another network, to which the pattern is
    transferred. Where pruning drops weights, shares are of weights, and the places of its 3 x 3
    kernels are drawn as often as they survive. Nothing is pruned for it: `prunenas train FOLDER`
    trains it from scratch.

    The spread says how unevenly stages are pruned. Near 0 there is no pattern, and uniform widths
    are as good a guess.

    \b
    prunenas guide studies/compare.yaml exports/guided --method magnitude --flops-ratio 0.3
    prunenas guide quickstart exports/guided --flops-ratio 0.3
    prunenas guide quickstart exports/transferred --flops-ratio 0.3 --model resnet20 --input 1,28,28
    """
    from prunenas.cli import console, units
    from prunenas.cli.guiding import of_comparison, of_study
    from prunenas.cli.inspect import traced
    from prunenas.evidence.patterns import guided
    from prunenas.export import write_export

    if not 0 < flops_ratio <= 1:
        raise typer.BadParameter(
            f"a share of FLOPs must lie in (0, 1], but is {flops_ratio:g}",
            param_hint="'--flops-ratio'",
        )
    if model is None and (shape or settings):
        raise typer.BadParameter(
            f"goes with --model: {what} says its own", param_hint="'--input' / '--set'"
        )
    if out.exists() and not replace:
        raise typer.BadParameter(f"{out} is there already; --replace overwrites it")
    if what.endswith((".yaml", ".yml")):
        if trials:
            raise typer.BadParameter("trials are of a study, not of a file", param_hint="'--trial'")
        found = of_comparison(what, method, budget, device=device, folder=cache)
    else:
        if method is not None or budget is not None:
            raise typer.BadParameter(
                "methods and budgets are of a comparison's file, but this is a study",
                param_hint="'--method' / '--budget'",
            )
        found = of_study(what, trials or [], storage)
    dense = found.dense
    if model is not None:
        dense = changed(dense, space=traced(model, shape, settings or []))
    space = dense.space
    architecture = guided(
        dense, found.pattern, flops=int(flops_ratio * space.dense_flops), seed=dense.seed
    )
    kind = "guided" if model is None else "transferred guided"
    write_export(
        out,
        architecture,
        dense_flops=space.dense_flops,
        provenance={
            **found.provenance,
            "method": kind,
            "notes": _notes(found),
            **({"seeds": {"method": dense.seed}} if architecture.masks else {}),
        },
        replace=replace,
    )
    if json:
        console.show_json(
            {
                "folder": str(out),
                "method": kind,
                "of": found.title,
                "source": architecture.source,
                "digest": architecture.digest,
                "flops": architecture.flops,
                "flops_ratio": architecture.flops / space.dense_flops,
                "params": architecture.params,
                "pattern": found.pattern.to_dict(),
            }
        )
        return
    console.show(*_shown(found))
    ratio = units.share(architecture.flops / space.dense_flops)
    console.note(f"{out}: {architecture.source} at {ratio} of its FLOPs, guided by {found.title}")


def _notes(found: "Guide") -> dict[str, object]:
    """What an export says of the pattern it was built by."""
    pattern = found.pattern
    return {
        "pattern of": found.title,
        "source": found.dense.space.dense.source,
        "n": pattern.n,
        "spread": round(pattern.spread, 6),
        "stages": {str(stage): round(share, 6) for stage, share in pattern.stages.items()},
    }


def _shown(found: "Guide") -> "list[RenderableType]":
    from rich.text import Text

    from prunenas.cli import units
    from prunenas.cli.tables import bar, table

    pattern = found.pattern
    stages = table(
        "stage",
        (f"{pattern.of} kept", "right"),
        "",
        ("± over networks", "right"),
        ("± within", "right"),
        title=f"{found.title} · mean of {units.plural(pattern.n, 'network')}",
    )
    for stage, share in pattern.stages.items():
        stages.add_row(
            str(stage),
            units.share(share),
            bar(share),
            units.share(pattern.stage_deviations[stage]),
            units.share(pattern.spreads[stage]),
        )
    parts = table(
        "group" if pattern.of == "channels" else "layer",
        ("kept", "right"),
        "",
        ("± over networks", "right"),
    )
    for name, share in pattern.parts.items():
        deviation = units.share(pattern.part_deviations[name])
        parts.add_row(name, units.share(share), bar(share), deviation)
    told = (
        f"spread between stages {pattern.spread:.2f} (standard deviation over mean): "
        f"{pattern.prediction}"
    )
    return [stages, Text(), parts, Text(told)]
