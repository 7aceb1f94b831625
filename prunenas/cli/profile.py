"""``prunenas profile``: what a kept weight costs a round of federated learning, measured here."""

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunenas.cli.options import Json, input_option, set_option

if TYPE_CHECKING:
    from prunenas.architecture import Architecture
    from prunenas.latency import UpdateTimes


def profile(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="conv2, torchvision/NAME or import.path:callable.",
            show_default=False,
        ),
    ],
    shape: Annotated[
        str | None,
        input_option("Shape of one input; otherwise the model's own."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        set_option("An argument of the model's constructor; VALUE is JSON or a word. Repeatable."),
    ] = None,
    batch: Annotated[
        int, typer.Option("--batch", metavar="N", min=2, help="Inputs of a local update.")
    ] = 20,
    updates: Annotated[
        int, typer.Option("--updates", metavar="N", min=1, help="Local updates of a round.")
    ] = 5,
    bandwidth: Annotated[
        float | None,
        typer.Option(
            "--bandwidth",
            metavar="BYTES",
            help="Bytes a second between client and server, one way; otherwise 1.44 MB, PruneFL's.",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[int, typer.Option("--threads", metavar="N", min=1, help="Of the CPU.")] = 1,
    rounds: Annotated[
        int, typer.Option("--rounds", metavar="N", min=3, help="How often each time is taken.")
    ] = 7,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Write the time model, .yaml, for a federation's `time`.",
            show_default=False,
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite this file.")] = False,
    json: Json = False,
) -> None:
    """Measure what a kept weight costs a federation's round.

    A local update is a forward pass, a backward pass and a step of SGD. Each layer's part of it is
    timed in sparse form, which multiplies only the weights that a mask keeps, at five densities
    from 5 to 50 per cent; the line through them gives the layer's seconds for each weight, and what
    a whole update takes beyond the lines is the constant. Communication is added: 4 bytes for each
    kept weight, both ways. Lines that fit badly are told, and a whole update that none of them was
    fitted to is set beside what they promise.

    prunenas itself trains masked weights in dense form, at the same speed whatever masks keep: the
    figures are of what sparse layers would take here. Measure on the clients' machine.

    \b
    prunenas profile conv2 --out studies/conv2-times.yaml
    prunenas profile torchvision/resnet18 --input 3,32,32 --set num_classes=10 --batch 32
    prunenas profile vgg11_prunefl --bandwidth 12.5e6 --threads 4 --json
    """
    from prunenas.architecture import build
    from prunenas.cli import console
    from prunenas.cli.inspect import traced
    from prunenas.cli.latency import progress
    from prunenas.federated.time import positive
    from prunenas.latency import measure_updates
    from prunenas.spec import times_text

    if bandwidth is not None:
        positive("a bandwidth in bytes a second", bandwidth)
    if out is not None:
        _check_out(out, replace)
    dense = traced(model, shape, settings or []).dense
    how = f"sparse form on cpu, {threads} thread{'s' if threads > 1 else ''}, batch {batch}"
    with progress(f"{how}, median of {rounds}") as tell:
        found = measure_updates(
            build(dense, seed=0, trust=True),
            dense.input_shape,
            batch=batch,
            threads=threads,
            rounds=rounds,
            tell=tell,
        )
    plain = _plain(found, dense, updates, bandwidth)
    measured = {"batch": batch, "threads": threads, "rounds": rounds}
    told = [*_poor(found), *_slower(found)]
    if out is not None:
        time = found.model(updates=updates, bandwidth=bandwidth)
        lines = [_origin(dense), f"{how}, median of {rounds}; {updates} updates a round", *told]
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(times_text(time, lines), encoding="utf-8")
    if json:
        console.show_json({**plain, **measured, "file": None if out is None else str(out)})
        return
    console.show(_table(found, f"{dense.source}: {how}, median of {rounds}"), *_summary(plain))
    for line in told:
        console.note(line)
    if out is not None:
        console.note(f"{out}: the time model; a federation reads it as `time: {out.name}`")


def _check_out(out: Path, replace: bool) -> None:
    if out.suffix not in (".yaml", ".yml"):
        raise typer.BadParameter(
            f"a time model is a .yaml file, but got {out}", param_hint="'--out'"
        )
    if out.exists() and not replace:
        raise typer.BadParameter(f"{out} is there already; --replace overwrites it")


def _origin(dense: "Architecture") -> str:
    """Where and when, without the machine's name."""
    import platform

    import torch

    given = ", ".join(f"{name}={value}" for name, value in dense.arguments.items())
    size = ",".join(map(str, dense.input_shape))
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return (
        f"{dense.source}({given}) on {size}, measured by `prunenas profile` on {today}: "
        f"torch {torch.__version__}, {platform.system()} on {platform.machine()}"
    )


def _plain(
    found: "UpdateTimes", dense: "Architecture", updates: int, bandwidth: float | None
) -> dict[str, Any]:
    """Everything that was measured, as JSON values."""
    time = found.model(updates=updates, bandwidth=bandwidth)
    whole = {name: each.weights for name, each in found.layers.items()}
    tenth = {name: max(1, round(0.1 * number)) for name, number in whole.items()}
    return {
        "model": dense.source,
        "arguments": dict(dense.arguments),
        "input_shape": list(dense.input_shape),
        "updates": updates,
        "layers": {
            name: {
                "weights": each.weights,
                "seconds_per_weight": each.per_weight,
                "r2": each.r2,
                "error": each.error,
                "kept": list(each.kept),
                "seconds": list(each.seconds),
            }
            for name, each in found.layers.items()
        },
        "update": {
            "constant": found.constant,
            "dense": found.dense,
            "breaks_even": found.breaks_even,
            "check": found.check_seconds,
            "check_promised": found.seconds(found.check_kept),
        },
        "round": {
            "all": time.round_seconds(whole),
            "tenth": time.round_seconds(tenth),
            "communication": 8 * time.seconds_per_byte * sum(whole.values()),
        },
        "time": time.to_dict(),
    }


def _table(found: "UpdateTimes", title: str) -> Any:
    from rich.text import Text

    from prunenas.cli import tables, units

    heads = ("weights", "s per million kept", "at 5 %", "at 50 %", "off the line", "R²")
    table = tables.table("layer", *((head, "right") for head in heads), title=title)
    for name, each in found.layers.items():
        table.add_row(
            Text(name.removesuffix(".weight"), "bold"),
            units.count(each.weights),
            f"{1e6 * each.per_weight:.4g}",
            units.milliseconds(1000 * each.seconds[0]),
            units.milliseconds(1000 * each.seconds[-1]),
            units.share(each.error),
            f"{each.r2:.2f}",
        )
    table.caption = "of one local update, without communication; off the line: root mean square"
    table.caption_justify = "left"
    return table


def _summary(plain: dict[str, Any]) -> list[str]:
    from prunenas.cli import units

    update, whole = plain["update"], plain["round"]
    constant, dense, check, promised = (
        units.milliseconds(1000 * update[key])
        for key in ("constant", "dense", "check", "check_promised")
    )
    return [
        f"update: {constant} whatever is kept; {dense} in dense form",
        f"at 50 %, which nothing was fitted to: {check}, by the lines {promised}",
        f"round of {units.plural(plain['updates'], 'update')}: {whole['all']:.4g} s with all "
        f"weights, {whole['tenth']:.4g} s with a tenth of each layer's; "
        f"{whole['communication']:.4g} s of the first are communication",
    ]


def _poor(found: "UpdateTimes") -> list[str]:
    """Which lines are none."""
    from prunenas.cli import units
    from prunenas.latency.updates import POOR_FIT

    return [
        f"{name}: times lie {units.share(each.error)} off their line; measure when the machine is "
        "quiet, or with more --rounds"
        for name, each in found.layers.items()
        if each.error > POOR_FIT
    ]


def _slower(found: "UpdateTimes") -> list[str]:
    """From which density on sparse form does not pay."""
    from prunenas.cli import units

    if found.breaks_even >= 1:
        return []
    if found.breaks_even == 0:
        return ["here dense form is faster than sparse form at any density"]
    return [f"here dense form is faster than sparse form above {units.share(found.breaks_even)}"]
