"""``prunenas compare``: dense, fine-tuned, from scratch and controls, over several seeds."""

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunenas.cli.options import CacheFolder, Device, Json, Storage
from prunenas.cli.run import Interrupted
from prunenas.cli.watcher import Watcher
from prunenas.places import CACHE, STUDIES, address

if TYPE_CHECKING:
    from rich.console import RenderableType

    from prunenas.evidence.cells import Contender
    from prunenas.evidence.comparison import Compared
    from prunenas.evidence.table import Figure
    from prunenas.spec import Arm, Comparison


def compare(
    what: Annotated[
        str,
        typer.Argument(
            metavar="COMPARISON.yaml|STUDY",
            help="What is compared with what; or a study, whose front is.",
            show_default=False,
        ),
    ],
    trials: Annotated[
        list[int] | None,
        typer.Option(
            "--trial",
            metavar="NUMBER",
            min=0,
            help="This trial of the study, instead of its front. Repeatable.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds",
            metavar="N",
            min=2,
            help="How many, instead of the file's; 5 for a study.",
            show_default=False,
        ),
    ] = None,
    storage: Storage = STUDIES,
    device: Device = "auto",
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            min=1,
            metavar="N",
            help="How many processes train at a time; they share the CPU.",
        ),
    ] = 1,
    cache: CacheFolder = CACHE,
    json: Json = False,
) -> None:
    """Compare what methods find with what nobody had to find, over several seeds.

    For each dense network, method and budget: the dense network, what the method leaves trained
    on, its architecture from scratch, and uniform and random widths at the same FLOPs, all by one
    recipe. The table has test accuracies, mean and standard deviation over seeds, each read once,
    and a verdict on each row, corrected for all that is asked.

    What is done is kept: interrupted, the same line goes on; with more seeds, methods or budgets,
    only they are trained.

    \b
    prunenas compare studies/compare.yaml
    prunenas compare studies/compare.yaml --workers 2 --json
    prunenas compare quickstart --seeds 5
    """
    from prunenas.cli import console

    comparison, contenders = _asked(what, trials or [], seeds, storage)
    watcher = Watcher(comparison.name)
    try:
        with watcher:
            from prunenas.evidence.comparison import compare as work_out

            parts = work_out(
                comparison,
                contenders=contenders,
                device=device,
                workers=workers,
                folder=cache,
                watch=watcher.watch,
                warn=console.note,
            )
    except KeyboardInterrupt:
        again = ["prunenas", "compare", what]
        again += [word for number in trials or [] for word in ("--trial", str(number))]
        again += ["--seeds", str(seeds)] if seeds else []
        again += ["--storage", address(storage)] if storage != STUDIES else []
        again += ["--cache", str(cache)] if cache != CACHE else []
        again += ["--workers", str(workers)] if workers > 1 else []
        raise Interrupted(f"what is done is kept, go on with `{shlex.join(again)}`") from None
    if json:
        console.show_json(
            {
                "name": comparison.name,
                "seeds": comparison.seeds,
                "networks": [
                    {
                        "model": part.model.name,
                        "flops": part.flops,
                        "params": part.params,
                        "rows": [row.to_dict() for row in part.rows(comparison)],
                    }
                    for part in parts
                ],
            }
        )
        return
    for part in parts:
        console.show(*tables(comparison, part), "")


def _asked(
    what: str, trials: list[int], seeds: int | None, storage: str
) -> "tuple[Comparison, tuple[Contender, ...] | None]":
    """Return the comparison of a file, or of a study's front."""
    from prunenas.spec import load_comparison

    if what.endswith((".yaml", ".yml")):
        if trials:
            raise typer.BadParameter("trials are of a study, not of a file", param_hint="'--trial'")
        comparison = load_comparison(what)
        given = {} if seeds is None else {"seeds": seeds}
        return comparison.model_copy(update=given), None
    from prunenas.cli.choice import choose
    from prunenas.evidence.fronts import front_comparison
    from prunenas.search import open_study

    view = open_study(storage, what)
    chosen = [record for _, record in choose(view, trials, None, everything=not trials)]
    masked = any((record.architecture or {}).get("masks") for record in chosen)
    arms = (*_ARMS, "ticket") if masked else _ARMS
    return front_comparison(view, chosen, seeds=seeds or 5, arms=arms)


def tables(comparison: "Comparison", part: "Compared") -> "list[RenderableType]":
    """Return a network's table, and its verdicts in lines."""
    from rich.text import Text

    from prunenas.cli import units
    from prunenas.cli.tables import table
    from prunenas.evidence.table import words

    rows = part.rows(comparison)
    arms = [arm for arm in comparison.arms if any(arm in row.figures for row in rows)]
    result = table(
        "method",
        ("of dense", "right"),
        ("params", "right"),
        *((words(arm), "right") for arm in arms),
        title=f"{comparison.name} · {part.model.name} · test accuracy, {comparison.seeds} seeds",
    )
    for row in rows:
        own = next((row.figures[arm] for arm in _OWN if arm in row.figures), None)
        result.add_row(
            row.contender.label,
            units.share(None if own is None or own.flops is None else own.flops / part.flops),
            units.count(None if own is None or own.params is None else round(own.params)),
            *(figure(row.figures.get(arm)) for arm in arms),
        )
    lines = [
        Text(
            "mean ± standard deviation (n, where it is not all); verdicts at 5 %, corrected for "
            f"all of them (Holm); as good: closer than {comparison.margin:g}",
            "dim",
        )
    ]
    for row in rows:
        if row.answers:
            said = "; ".join(f"{_against(each)}: {each.sentence}" for each in row.answers)
            lines.append(Text(f"{row.contender.label} at {row.contender.flops_ratio:.0%}: {said}"))
        lines += [
            Text(f"{row.contender.label}, {words(arm)}: {reason}", "dim")
            for arm, each in row.figures.items()
            for reason in each.reasons
        ]
    return [result, *lines]


_ARMS: "tuple[Arm, ...]" = (
    "dense",
    "fine_tuned",
    "scratch_e",
    "scratch_b",
    "uniform",
    "random",
)
_OWN: "tuple[Arm, ...]" = ("scratch_b", "scratch_e", "fine_tuned", "ticket")


def figure(found: "Figure | None") -> str:
    """Word a mean and a standard deviation over seeds; ``–`` where there are none."""
    from prunenas.cli import units

    if found is None or found.mean is None:
        return "–"
    spread = "" if found.deviation is None else f" ± {found.deviation:.4f}"
    return f"{units.accuracy(found.mean)}{spread}"


def _against(answer: Any) -> str:
    from prunenas.evidence.table import words

    return f"{words(answer.second)} against {words(answer.first)}"
