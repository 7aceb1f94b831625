"""Compare ways of searching on the table of trained architectures.

Prints the table of docs/search_benchmark.md: mean ± standard deviation, and paired differences
from the baseline. ``--out`` writes every run's figures as JSON, ``--plot`` a picture::

    OMP_NUM_THREADS=1 python tests/search_bench.py --plot docs/search_benchmark.png
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from search_replay import Measure, Proposer, Stopper, replay
from search_strategies import Grid, GridSpace, Mutation, Studied, forecast, never, rule
from search_table import PATH, Table, setting

EPOCHS = (80, 160, 400)
"""Where regrets are read: the epochs of 10, 20 and 50 whole trainings."""

TRIALS = (10, 20, 50)
"""Where they are read by trials, stopped and repeated ones included."""

BASELINE = "tpe"


@dataclass(frozen=True)
class Strategy:
    """A way of searching: a proposer made for a space and a seed, and a stopper."""

    proposer: Callable[[GridSpace, int], Proposer]
    stopper: Callable[[Table], Stopper] = lambda table: never


def studied(sampler: str, starts: Any = False, **settings: Any) -> Callable[..., Proposer]:
    """A study as the engine runs it."""
    search = {"sampler": sampler, "starts": starts}
    return lambda space, seed: Studied(space, seed, search, **settings)


def plain(made: Callable[[int], BaseSampler]) -> Callable[..., Proposer]:
    """Optuna as it comes, over a ratio for each group."""
    return lambda space, seed: Studied(space, seed, {"starts": False}, made=made)


def mutation(**settings: Any) -> Callable[..., Proposer]:
    """Local search around the front."""
    return lambda space, seed: Mutation(space.grid, seed, **settings)


def by(name: str) -> Callable[[Table], Stopper]:
    """One of the engine's stoppers."""
    return lambda table: rule(name, table)


def foreseen(table: Table) -> Stopper:
    """Stops what won't reach the front, as the complete trials' curves say."""
    return forecast((4, 5, 6))


STRATEGIES: Mapping[str, Strategy] = {
    # Optuna as it comes: a ratio for each group, as search_spaces/per_layer.yaml has it.
    "random": Strategy(plain(lambda seed: RandomSampler(seed=seed))),
    "nsga2": Strategy(plain(lambda seed: NSGAIISampler(seed=seed))),
    "tpe": Strategy(plain(lambda seed: TPESampler(seed=seed))),
    # The engine's settings of them.
    "nsga2, population of 20": Strategy(studied("nsga2")),
    "tpe, multivariate": Strategy(studied("tpe")),
    "qmc": Strategy(studied("qmc")),
    # Ratios by their logarithm: on the grid, all widths alike.
    "random, log": Strategy(studied("random", log=True)),
    "nsga2, log": Strategy(studied("nsga2", log=True)),
    "tpe, log": Strategy(studied("tpe", log=True)),
    # Proportions, projected onto a FLOPs target that is searched too.
    "random, range": Strategy(studied("random", log=True, ranged=True)),
    "qmc, range": Strategy(studied("qmc", log=True, ranged=True)),
    "nsga2, range": Strategy(studied("nsga2", log=True, ranged=True)),
    "tpe, range": Strategy(studied("tpe", log=True, ranged=True)),
    "tpe, range, starts": Strategy(studied("tpe", True, log=True, ranged=True)),
    # Local search without a model.
    "mutation": Strategy(mutation()),
    # FLOPs known, accuracy modelled. The first is what a study does whose file says nothing.
    "default": Strategy(studied("auto", True)),
    "budgeted, no starts": Strategy(studied("budgeted")),
    "budgeted, range": Strategy(studied("budgeted", True, ranged=True)),
    # Stoppers, with a sampler that has much to stop and with one that has little.
    "tpe, pareto": Strategy(studied("tpe"), by("pareto")),
    "tpe, median": Strategy(studied("tpe"), by("median")),
    "tpe, asha": Strategy(studied("tpe"), by("asha")),
    "tpe, forecast": Strategy(studied("tpe"), foreseen),
    "budgeted, pareto": Strategy(studied("budgeted", True), by("pareto")),
    "budgeted, median": Strategy(studied("budgeted", True), by("median")),
    "budgeted, asha": Strategy(studied("budgeted", True), by("asha")),
    "budgeted, forecast": Strategy(studied("budgeted", True), foreseen),
    # What a study did before there was `budgeted`: Optuna's Gaussian process.
    "gp, starts": Strategy(studied("gp", True)),
}


def measured(
    table: Table, names: Sequence[str], seeds: int, epochs: int
) -> dict[str, list[dict[str, Any]]]:
    """Every run of every strategy: its seed, and what it had found at each of ``EPOCHS``."""
    space, measure = GridSpace.of(setting()[0], Grid(table)), Measure(table)
    found: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        strategy, began = STRATEGIES[name], time.monotonic()
        stopper = strategy.stopper(table)
        runs = []
        for seed in range(seeds):
            done = replay(
                table,
                measure,
                strategy.proposer(space, seed),
                stopper,
                # The table's seeds take turns, the same for every strategy: runs are pairs.
                seed=seed % table.curves.shape[1],
                epochs=epochs,
            )
            grown = [done.at_epochs(spent) for spent in EPOCHS if spent <= epochs]
            runs.append(
                {
                    "seed": seed,
                    "regret": [regret for regret, _ in grown],
                    "simple": [simple for _, simple in grown],
                    "by trials": [float(done.regret[count - 1]) for count in TRIALS],
                    "trials": len(done.trials),
                    "reused": sum(trial.reused for trial in done.trials),
                    "stopped": sum(not trial.complete for trial in done.trials),
                    "curve": [
                        done.at_epochs(spent)[0] if done.epochs[0] <= spent else None
                        for spent in range(8, epochs + 1, 8)
                    ],
                    "curve_by_trials": done.regret[:100].tolist(),
                }
            )
        found[name] = runs
        print(row(name, found), f"  {time.monotonic() - began:6.1f} s", flush=True)
    return found


def column(runs: Sequence[Mapping[str, Any]], key: str, index: int) -> NDArray[np.float64]:
    """One figure of all runs."""
    return np.array([run[key][index] for run in runs])


def row(name: str, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """One strategy's figures: regrets × 1000 as mean ± standard deviation, and trials."""
    runs = found[name]
    cells = []
    for key in ("regret", "by trials", "simple"):
        for index in range(len(runs[0][key])):
            figures = 1000 * column(runs, key, index)
            cells.append(f"{figures.mean():6.1f} ± {figures.std(ddof=1):4.1f}")
    trials = np.mean([run["trials"] for run in runs])
    stopped = np.mean([run["stopped"] for run in runs])
    reused = np.mean([run["reused"] for run in runs])
    return f"{name:34}" + " ".join(cells) + f" {trials:5.0f} {stopped:5.0f} {reused:5.0f}"


def paired(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float]:
    """Mean difference of pairs, and the t statistic's two-sided p (normal for many pairs)."""
    difference = one - other
    error = difference.std(ddof=1) / math.sqrt(len(difference))
    if error == 0:
        return float(difference.mean()), 1.0
    return float(difference.mean()), math.erfc(abs(difference.mean()) / error / math.sqrt(2))


def compared(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """Rows of a Markdown table: regrets × 1000, and paired differences from the baseline's.

    Of p below 1e-6 nothing more is said: a normal distribution's tail is not that of 52 runs.
    """
    spent = [f"{count} epochs" for count in EPOCHS] + [f"{count} trials" for count in TRIALS]
    names = ["search", *spent, f"simple, {EPOCHS[-1]} epochs", "difference", "p", "trials"]
    yield "| " + " | ".join(names) + " |"
    yield "|---" * len(names) + "|"
    for name, runs in found.items():
        figures = [1000 * column(runs, key, i) for key in ("regret", "by trials") for i in range(3)]
        figures.append(1000 * column(runs, "simple", -1))
        cells = [f"{figure.mean():.1f} ± {figure.std(ddof=1):.1f}" for figure in figures]
        if name != BASELINE and BASELINE in found:
            others = found[BASELINE][: len(runs)]
            mean, p = paired(column(runs, "regret", -1), column(others, "regret", -1))
            cells += [f"{1000 * mean:+.1f}", "< 1e-6" if p < 1e-6 else f"{p:.2g}"]
        else:
            cells += ["", ""]
        cells.append(f"{np.mean([run['trials'] for run in runs]):.0f}")
        label = (
            name if len(runs) == len(next(iter(found.values()))) else f"{name} (n = {len(runs)})"
        )
        yield "| " + " | ".join([label, *cells]) + " |"


SHOWN: Mapping[str, tuple[str, str, str]] = {
    "nsga2": ("NSGA-II", "#E69F00", "--"),
    "random": ("random search", "#505050", ":"),
    "tpe": ("TPE", "#D55E00", "-"),
    "gp, starts": ("Optuna's GP, with starts", "#CC79A7", "-."),
    "tpe, range, starts": ("TPE on projected targets, with starts", "#56B4E9", "--"),
    "mutation": ("local search on projected targets", "#009E73", "-."),
    "default": ("default: budgeted, with starts", "#000000", "-"),
}
"""What the picture shows: label, colour (of Okabe and Ito, told apart by all) and line."""


def plot(found: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Draw mean hypervolume regret, with its standard error, against epochs and against trials."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullFormatter, ScalarFormatter

    figure = Figure(figsize=(10, 4.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, key, step, label in zip(
        panels,
        ("curve", "curve_by_trials"),
        (8, 1),
        ("epochs trained", "trials, repeated ones included"),
        strict=True,
    ):
        for name, (text, colour, line) in SHOWN.items():
            if name not in found:
                continue
            if len(found[name]) != len(found["default"]):
                text = f"{text} ({len(found[name])} runs)"
            figures = 1000 * np.array([run[key][:50] for run in found[name]], dtype=float)
            mean, error = figures.mean(axis=0), figures.std(axis=0) / math.sqrt(len(figures))
            x, shown = step * np.arange(1, 51), slice(3, None)
            axes.plot(x[shown], mean[shown], line, color=colour, label=text, linewidth=1.8)
            band = (mean - error)[shown], (mean + error)[shown]
            axes.fill_between(x[shown], *band, color=colour, alpha=0.15, linewidth=0)
        axes.set_yscale("log")
        axes.set_xlabel(label)
        axes.grid(color="#e4e4e4", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("hypervolume regret × 1000 (less is better)")
    panels[0].yaxis.set_major_locator(FixedLocator([10, 20, 50, 100, 200]))
    panels[0].yaxis.set_major_formatter(ScalarFormatter())
    panels[0].yaxis.set_minor_formatter(NullFormatter())
    panels[1].legend(fontsize=8.5, frameon=False)
    runs = len(found["default"])
    figure.suptitle(
        f"Searching 1,296 trained architectures: mean of {runs} runs, band ± 1 standard error",
        fontsize=10.5,
    )
    figure.savefig(path, dpi=120, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, default=PATH)
    parser.add_argument("--seeds", type=int, default=52)
    parser.add_argument("--epochs", type=int, default=EPOCHS[-1])
    parser.add_argument("--cut", type=int, help="as if each training ended after this epoch")
    parser.add_argument("--only", nargs="*", default=list(STRATEGIES))
    parser.add_argument("--skip", nargs="*", default=[])
    parser.add_argument("--out", type=Path, help="write every run's figures")
    parser.add_argument("--read", type=Path, nargs="*", help="measure nothing: what --out wrote")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    if options.read:
        found = {}
        for path in options.read:
            found |= json.loads(path.read_text())
    else:
        names = [name for name in options.only if name not in options.skip]
        table = Table.read(options.table)
        if options.cut:
            table = replace(table, curves=table.curves[:, :, : options.cut])
        found = measured(table, names, options.seeds, options.epochs)
    print("\n".join(compared(found)))
    if options.out:
        options.out.write_text(json.dumps(found))
    if options.plot:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
