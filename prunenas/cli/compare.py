"""``prunenas compare``: dense, fine-tuned, from scratch and controls, over several seeds."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunenas.cli.options import CacheFolder, Device, Json, Storage, trial_option
from prunenas.cli.run import Interrupted
from prunenas.cli.watcher import Watcher
from prunenas.places import CACHE, STUDIES, address

if TYPE_CHECKING:
    from prunenas.evidence.cells import Contender
    from prunenas.evidence.comparison import Compared
    from prunenas.spec import Arm, Comparison


def compare(
    what: Annotated[
        str,
        typer.Argument(
            metavar="COMPARISON.yaml|STUDY",
            help="What is compared with what; or a study or its file, whose front is.",
            show_default=False,
        ),
    ],
    trials: Annotated[
        list[int] | None,
        trial_option("This trial of the study, instead of its front. Repeatable."),
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
    markdown: Annotated[
        Path | None,
        typer.Option(
            "--markdown",
            metavar="FILE.md",
            help="Write tables and verdicts as Markdown too.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="PAGE.html",
            help="Write them as an HTML page too.",
            show_default=False,
        ),
    ] = None,
    curves: Annotated[
        Path | None,
        typer.Option(
            "--curves",
            metavar="FILE.png",
            help="Draw accuracy over modelled time; of a federated comparison.",
            show_default=False,
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite these files.")] = False,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Tell what is left to train and what it costs; train nothing."),
    ] = False,
    json: Json = False,
) -> None:
    """Compare what methods find with controls, over several seeds.

    For each dense network, method and budget: the dense network, what the method leaves trained
    on, its architecture from scratch, and uniform and random widths at the same FLOPs, all by one
    recipe. The table has test accuracies, mean and standard deviation over seeds, each read once,
    and a verdict on each row, corrected for all that is asked; verdicts over all predefined and all
    automatic methods; and how unevenly stages are pruned. The arms guided and transferred train
    networks by the pattern of what a method finds, its own or that of another network.

    Of a federated comparison (a file with `strategies`) the table says what each strategy's rounds
    take, and when it reaches the accuracy of conventional training.

    What is done is kept: interrupted, the same line goes on; with more seeds, methods or budgets,
    only they are trained.

    \b
    prunenas compare studies/compare.yaml --plan
    prunenas compare studies/compare.yaml --workers 2 --markdown results.md --out results.html
    prunenas compare quickstart --seeds 5
    prunenas compare studies/federated_fashion.yaml --curves curves.png
    """
    from prunenas.cli import console

    for path in (markdown, out, curves):
        if path is not None and path.exists() and not replace:
            raise typer.BadParameter(f"{path} is there already; --replace overwrites it")
    if what.endswith((".yaml", ".yml")):
        from prunenas.cli.federating import compare_file
        from prunenas.spec import is_federated_file

        if is_federated_file(what):
            refused = {"--trial": trials, "--plan": plan, "--workers": workers > 1}
            if found := next((option for option, given in refused.items() if given), None):
                raise typer.BadParameter("is not for federated comparisons", param_hint=repr(found))
            compare_file(
                what,
                seeds=seeds,
                device=device,
                cache=cache,
                markdown=markdown,
                page=out,
                picture=curves,
                json=json,
            )
            return
    if curves is not None:
        raise typer.BadParameter(
            "is for federated comparisons, files with `strategies`", param_hint="'--curves'"
        )
    comparison, contenders = _asked(what, trials or [], seeds, storage)
    if plan:
        _plan(comparison, contenders, device, workers, cache, json)
        return
    again = ["prunenas", "compare", what]
    again += [word for number in trials or [] for word in ("--trial", str(number))]
    again += ["--seeds", str(seeds)] if seeds else []
    again += ["--storage", address(storage)] if storage != STUDIES else []
    again += ["--cache", str(cache)] if cache != CACHE else []
    again += ["--workers", str(workers)] if workers > 1 else []
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
        again += ["--markdown", str(markdown)] if markdown else []
        again += ["--out", str(out)] if out else []
        again += ["--replace"] if replace else []
        raise Interrupted(f"what is done is kept, go on with `{shlex.join(again)}`") from None
    _write(comparison, parts, markdown, out, shlex.join(again))
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
                        "pooled": [each.to_dict() for each in part.pooled(comparison)],
                    }
                    for part in parts
                ],
            }
        )
        return
    from prunenas.cli.verdicts import tables

    for part in parts:
        console.show(*tables(comparison, part), "")


def _write(
    comparison: "Comparison",
    parts: "tuple[Compared, ...]",
    markdown: Path | None,
    page: Path | None,
    command: str,
) -> None:
    from prunenas.cli import console

    if markdown is not None:
        from prunenas.cli.markdown import markdown as text

        markdown.parent.mkdir(parents=True, exist_ok=True)
        markdown.write_text(text(comparison, parts), encoding="utf-8")
        console.note(f"{markdown}: {comparison.name} as Markdown")
    if page is not None:
        from prunenas.report import comparison_page

        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(comparison_page(comparison, parts, command=command), encoding="utf-8")
        console.note(f"{page}: {comparison.name} as a page")


def _plan(
    comparison: "Comparison",
    contenders: "tuple[Contender, ...] | None",
    device: str,
    workers: int,
    cache: Path,
    json: bool,
) -> None:
    from prunenas.cli import console
    from prunenas.evidence.comparison import plan

    planned = plan(
        comparison,
        contenders=contenders,
        device=device,
        workers=workers,
        folder=cache,
        warn=console.note,
    )
    if json:
        console.show_json(
            [
                {"model": part.model.name, "networks": part.total, "left": asdict(left)}
                for part, left in planned
            ]
        )
        return
    for part, left in planned:
        console.show(
            f"{comparison.name}, {part.model.name}: {len(part.results)} of {part.total} done; "
            f"{left.networks} trainings left cost as much as {left.dense_trainings:.1f} of the "
            f"dense network, {left.multiply_adds:.2g} multiply-adds, besides what methods train "
            "to find theirs"
        )


def _asked(
    what: str, trials: list[int], seeds: int | None, storage: str
) -> "tuple[Comparison, tuple[Contender, ...] | None]":
    """Return the comparison of a file, or of a study's front, by its name or its file."""
    from prunenas.spec import is_study, load_comparison, load_study

    if what.endswith((".yaml", ".yml")):
        if is_study(what):
            what = load_study(what).name
        elif trials:
            raise typer.BadParameter(
                "trials are of a study, not of a comparison", param_hint="'--trial'"
            )
        else:
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


_ARMS: "tuple[Arm, ...]" = (
    "dense",
    "fine_tuned",
    "scratch_e",
    "scratch_b",
    "uniform",
    "random",
)
