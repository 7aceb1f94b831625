"""``prunenas latency``: how long networks take where they run, beside what they count."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunenas.cli.options import Json, Storage, Trust, input_option, set_option, trial_option
from prunenas.errors import unknown
from prunenas.places import STUDIES

if TYPE_CHECKING:
    from prunenas.cli.networks import Named
    from prunenas.latency import Latency, Protocol
    from prunenas.latency.timing import Runtime
    from prunenas.pictures import Kind


def latency(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="WHAT...",
            help="Models, import.path:callable, architectures of `prunenas list architectures`, "
            "folders of exports, or studies: the dense network and the front.",
            show_default=False,
        ),
    ],
    runtimes: Annotated[
        list[str] | None,
        typer.Option(
            "--runtime",
            metavar="RUNTIME",
            help="torch or onnxruntime; torch without it. Repeatable: a table for each.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", help="cpu, cuda or cuda:1.")
    ] = "cpu",
    threads: Annotated[int, typer.Option("--threads", metavar="N", min=1, help="Of the CPU.")] = 1,
    batch: Annotated[
        int, typer.Option("--batch", metavar="N", min=1, help="Inputs at a time.")
    ] = 1,
    rounds: Annotated[
        int, typer.Option("--rounds", metavar="N", min=4, help="Passes that are counted.")
    ] = 50,
    warmup: Annotated[
        int, typer.Option("--warmup", metavar="N", min=0, help="Passes before them.")
    ] = 10,
    trials: Annotated[
        list[int] | None,
        trial_option("Of a study, this trial instead of the front. Repeatable."),
    ] = None,
    shape: Annotated[
        str | None,
        input_option("Shape of one input of models; otherwise their own."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        set_option("An argument of models' constructors; VALUE is JSON or a word. Repeatable."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="FLOPs against latency as a picture, .png or .svg; with one runtime.",
            show_default=False,
        ),
    ] = None,
    storage: Storage = STUDIES,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Measure how long networks take, beside their FLOPs.

    Of all networks in turn, in ten blocks with pauses between them, so that whatever else the
    machine does meets all alike. The figure is the median of the passes; beside it quartiles, and
    the range of the blocks' medians. Shares are of the first network: latency's below FLOPs' means
    that it is faster than its FLOPs promise. Nothing is kept: studies measure for themselves.

    \b
    prunenas latency vgg_mini
    prunenas latency resnet56 resnet56-a resnet56-b --runtime torch --runtime onnxruntime
    prunenas latency quickstart --plot latency.svg
    prunenas latency quickstart --trial 3 --batch 64 --threads 4 --json
    """
    from prunenas.cli import console
    from prunenas.cli.networks import networks_of
    from prunenas.latency import Protocol

    wanted = list(dict.fromkeys(runtimes or ["torch"]))
    kind = _kind(plot, wanted)
    protocols = [
        Protocol(device, threads, batch, warmup, rounds, _runtime(name)) for name in wanted
    ]
    rows = [
        row
        for name in what
        for row in networks_of(
            name,
            shape=shape,
            settings=settings or (),
            trials=trials or (),
            storage=storage,
            trust=trust,
        )
    ]
    if trials and not any(row.kind == "dense" for row in rows):
        raise typer.BadParameter("a trial is of a study: name one", param_hint="'--trial'")
    results = [_results(rows, protocol) for protocol in protocols]
    if plot is not None:
        records = results[0]
        first = {"flops": records[0]["flops"], "latency_ms": records[0]["latency"]["median"]}
        _draw(plot, kind, records[1:], first, title=rows[0].name)
    if json:
        console.show_json([each for result in results for each in result])
        return
    for protocol, result in zip(protocols, results, strict=True):
        console.show(_table(result, protocol))


def _runtime(name: str) -> "Runtime":
    from prunenas.latency import RUNTIMES

    for known in RUNTIMES:
        if known == name:
            return known
    raise typer.BadParameter(unknown("runtime", name, RUNTIMES), param_hint="'--runtime'")


def _kind(plot: Path | None, runtimes: Sequence[str]) -> "Kind":
    if plot is None:
        return "png"
    if len(runtimes) > 1:
        raise typer.BadParameter(
            f"a picture is of one runtime, but there are {len(runtimes)}", param_hint="'--plot'"
        )
    suffix = plot.suffix.removeprefix(".").lower()
    if suffix in ("png", "svg"):
        return "png" if suffix == "png" else "svg"
    told = unknown("picture format", suffix, ("png", "svg"))
    raise typer.BadParameter(told, param_hint="'--plot'")


def _draw(
    plot: Path, kind: "Kind", records: list[dict[str, Any]], first: dict[str, Any], title: str
) -> None:
    from prunenas.errors import ExportError
    from prunenas.pictures import latency_picture

    picture = latency_picture(records, first, title=title, kind=kind)
    try:
        plot.write_bytes(picture)
    except OSError as error:
        raise ExportError(f"{plot} can't be written: {error.strerror or error}") from error


def _results(rows: "Sequence[Named]", protocol: "Protocol") -> list[dict[str, Any]]:
    """What is known of each network, as JSON values; shares are of the first."""
    from prunenas.architecture import build
    from prunenas.latency import measure_all, peak_activations
    from prunenas.latency.gauge import bare

    shapes = [bare(row.architecture) for row in rows]
    different = list(dict.fromkeys(shapes))  # equal networks get one figure
    networks = [(build(each, seed=0, trust=True), each.input_shape) for each in different]
    memory = dict(zip(different, (peak_activations(*each) for each in networks), strict=True))
    with progress(str(protocol)) as tell:
        times = dict(zip(different, measure_all(networks, protocol, tell=tell), strict=True))
    peaks = [memory[each] for each in shapes]
    found: list[Latency] = [times[each] for each in shapes]
    return [
        {
            "name": row.name,
            "method": row.kind,
            "digest": row.architecture.digest,
            "flops": each.flops,
            "params": each.params,
            "peak_activations": peak,
            "latency": latency.to_dict(),
            "flops_ratio": each.flops / shapes[0].flops,
            "latency_ratio": latency.median / found[0].median,
        }
        for row, each, peak, latency in zip(rows, shapes, peaks, found, strict=True)
    ]


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar in a terminal; quiet otherwise."""
    if not sys.stderr.isatty() or os.environ.get("CI"):
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _table(result: list[dict[str, Any]], protocol: "Protocol") -> Any:
    from rich.text import Text

    from prunenas.cli import tables, units

    heads = (
        "FLOPs",
        "params",
        "activations",
        "latency",
        "quartiles",
        "blocks",
        "of FLOPs",
        "of ms",
    )
    table = tables.table("network", *((head, "right") for head in heads), title=str(protocol))
    for each in result:
        latency = each["latency"]
        table.add_row(
            Text(each["name"], "bold"),
            units.count(each["flops"]),
            units.count(each["params"]),
            units.size(each["peak_activations"]),
            units.milliseconds(latency["median"]),
            _range(latency["low"], latency["high"]),
            _range(*latency["between"]),
            units.share(each["flops_ratio"]),
            units.share(each["latency_ratio"]),
        )
    table.caption = (
        "of FLOPs, of ms: shares of the first network's; "
        f"quartiles of {protocol.rounds} passes, range of the medians of their blocks"
    )
    table.caption_justify = "left"
    return table


def _range(low: float, high: float) -> str:
    return f"{low:.3g}–{high:.3g}"
