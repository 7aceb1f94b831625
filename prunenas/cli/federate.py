"""``prunenas federate``: one federated training, in this process or over Flower."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunenas.cli.options import CacheFolder, Device, Json
from prunenas.cli.run import Interrupted
from prunenas.places import CACHE, HOME

if TYPE_CHECKING:
    from prunenas.evidence.federated import SeedResult
    from prunenas.evidence.federation import Bench
    from prunenas.federated import FederatedRun, Point
    from prunenas.spec import ComparedStrategy, FederatedComparison

_HERE = "here"
_SIMULATION = "simulation"
_COLOUR = re.compile("\x1b\\[[0-9;]*m")


def federate(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="COMPARISON.yaml", help="A federated comparison's file.", show_default=False
        ),
    ],
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy",
            metavar="NAME",
            help="Which of the file's strategies; its first without it.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", metavar="N", min=0, help="The file's first without it.", show_default=False
        ),
    ] = None,
    on: Annotated[
        str,
        typer.Option(
            "--on",
            metavar="WHERE",
            help="here: in this process; simulation: Flower's, on this machine; HOST:PORT: a "
            "SuperLink that is running.",
        ),
    ] = _HERE,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="The SuperLink is reached without TLS.")
    ] = False,
    certificates: Annotated[
        Path | None,
        typer.Option(
            "--root-certificates",
            metavar="FILE",
            help="What the SuperLink's certificate is checked by.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=0.1,
            help="What clients over Flower have for a round; who is late is left out of it.",
        ),
    ] = 600.0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Export the network with its masks and weights.",
            show_default=False,
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite that export.")] = False,
    device: Device = "auto",
    cache: CacheFolder = CACHE,
    json: Json = False,
) -> None:
    """Train a network in a federation, and find its masks.

    The same file, strategy and seed give the same masks in this process, in Flower's simulation and
    over SuperNodes. Each validation is a line; the table says what each client sent and got.
    Interrupted, the same line goes on.

    \b
    prunenas federate studies/federated_digits.yaml
    prunenas federate studies/federated_digits.yaml --strategy snip --out exports/snip
    prunenas federate studies/federated_digits.yaml --on simulation
    prunenas federate studies/federated_digits.yaml --on 127.0.0.1:9093 --insecure
    """
    from prunenas.cli import console
    from prunenas.spec import load_federated

    if out is not None and out.exists() and not replace:
        raise typer.BadParameter(f"{out} is there already; --replace overwrites it")
    if on not in (_HERE, _SIMULATION) and ":" not in on:
        raise typer.BadParameter(
            f"must be here, simulation or HOST:PORT, but is {on!r}", param_hint="'--on'"
        )
    comparison = load_federated(file)
    entry = _entry(comparison, strategy)
    number = comparison.seed if seed is None else seed
    again = ["prunenas", "federate", str(file), "--strategy", entry.title, "--seed", str(number)]
    again += ["--on", on] if on != _HERE else []
    again += ["--cache", str(cache)] if cache != CACHE else []
    from prunenas.cache import Cache
    from prunenas.evidence.federation import Bench
    from prunenas.search.workshop import device_named

    bench = Bench(comparison, device_named(device), Cache(cache, console.note))
    told = console.note

    def watch(point: "Point") -> None:
        told(_line(point))

    try:
        density = _followed(comparison, entry, number, bench, watch)
        if on == _HERE:
            result = bench.result(entry, number, watch, density)
        else:
            result = _over_flower(
                comparison,
                entry,
                number,
                density,
                bench,
                on,
                {"insecure": insecure, "certificates": certificates, "timeout": timeout},
            )
    except KeyboardInterrupt:
        again += ["--out", str(out)] if out else []
        raise Interrupted(f"what is done is kept, go on with `{shlex.join(again)}`") from None
    if result.run is None:
        from prunenas.errors import FederatedError

        raise FederatedError(result.reason or "the training could not go on")
    if out is not None:
        _export(out, comparison, entry, number, bench, result, replace)
        told(f"{out}: the network with its masks and weights")
    if json:
        console.show_json(_json(comparison, entry, number, result))
        return
    console.show(*_table(comparison, entry, number, result))


def _entry(comparison: "FederatedComparison", name: str | None) -> "ComparedStrategy":
    from prunenas.errors import unknown

    if name is None:
        return comparison.strategies[0]
    found = {entry.title: entry for entry in comparison.strategies}
    if name not in found:
        raise typer.BadParameter(
            unknown(f"strategy of {comparison.name}", name, found), param_hint="'--strategy'"
        )
    return found[name]


def _followed(
    comparison: "FederatedComparison",
    entry: "ComparedStrategy",
    seed: int,
    bench: "Bench",
    watch: "Callable[[Point], None]",
) -> float | None:
    """The density that the strategy takes over; found first where it isn't known."""
    from prunenas.spec.federated import FINDER

    if not entry.follows:
        return None
    finder = next(each for each in comparison.strategies if each.name == FINDER)
    found = bench.result(finder, seed, watch, None)
    return bench.density({(finder.title, seed): found}, seed)


def _over_flower(
    comparison: "FederatedComparison",
    entry: "ComparedStrategy",
    seed: int,
    density: float | None,
    bench: "Bench",
    on: str,
    options: dict[str, Any],
) -> "SeedResult":
    from prunenas.cli import console
    from prunenas.flower.launch import SuperLink, submit
    from prunenas.flower.request import Request
    from prunenas.flower.simulation import simulate

    setting = bench.setting(entry, seed, density)
    folder = HOME / "federated" / f"{comparison.name}-{entry.title}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    request = Request(
        study=comparison.text,
        strategy=entry.title,
        seed=seed,
        density=density or 0.0,
        output=str(folder.resolve()),
        timeout=options["timeout"],
    )

    def log(line: str) -> None:
        console.note(_COLOUR.sub("", line))  # Flower colours its log for pipes as well

    if on == _SIMULATION:
        ran = simulate(request, comparison.federation.clients, log=log)
    else:
        superlink = SuperLink(
            on, insecure=options["insecure"], certificates=options["certificates"]
        )
        ran = submit(request, superlink, log=log)
    return bench.judged(setting, ran.outcome.run)


def _export(
    out: Path,
    comparison: "FederatedComparison",
    entry: "ComparedStrategy",
    seed: int,
    bench: "Bench",
    result: "SeedResult",
    replace: bool,
) -> None:
    from prunenas.export import write_export

    run = _run(result)
    write_export(
        out,
        bench.masked(run),
        dense_flops=bench.space.dense.flops,
        provenance={
            "study": comparison.name,
            "method": entry.title,
            "seeds": {"federation": seed},
            "accuracy": run.history.points[-1].accuracy,
            "split": "validation",
            "mean": list(bench.data.mean),
            "std": list(bench.data.std),
        },
        weights=bench.state(run),
        replace=replace,
    )


def _run(result: "SeedResult") -> "FederatedRun":
    assert result.run is not None  # the caller has told of trainings that could not go on
    return result.run


def _line(point: "Point") -> str:
    from prunenas.cli import units

    return (
        f"round {point.round}: {units.accuracy(point.accuracy)}, {units.share(point.density)} of "
        f"the weights kept, {units.duration(point.seconds)} modelled, "
        f"{units.size(point.sent)} down, {units.size(point.received)} up"
    )


def _table(
    comparison: "FederatedComparison", entry: "ComparedStrategy", seed: int, result: "SeedResult"
) -> list[Any]:
    from rich.text import Text

    from prunenas.cli import units
    from prunenas.cli.tables import table

    run = _run(result)
    shown = table(
        ("round", "right"),
        ("accuracy", "right"),
        ("kept", "right"),
        ("modelled time", "right"),
        ("down", "right"),
        ("up", "right"),
        title=f"{comparison.name} · {entry.title} · seed {seed}",
    )
    points = run.history.points
    step = max(1, len(points) // 10)
    for point in [*points[:-1:step], points[-1]]:
        shown.add_row(
            str(point.round),
            units.accuracy(point.accuracy),
            units.share(point.density),
            units.duration(point.seconds),
            units.size(point.sent),
            units.size(point.received),
        )
    lines = [
        Text(
            f"test accuracy {units.accuracy(result.test)}; masks {run.mask_digest}; accuracies of "
            "validation images; bytes: payload of all clients so far",
            "dim",
        )
    ]
    for client, reasons in sorted(run.history.troubles().items()):
        lines += [Text(f"client {client}: {reason}", "yellow") for reason in reasons]
    return [shown, *lines]


def _json(
    comparison: "FederatedComparison", entry: "ComparedStrategy", seed: int, result: "SeedResult"
) -> dict[str, Any]:
    run = _run(result)
    return {
        "name": comparison.name,
        "strategy": entry.title,
        "seed": seed,
        "mask_digest": run.mask_digest,
        "test": result.test,
        **run.history.to_dict(),
    }
