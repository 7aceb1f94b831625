"""Ways of searching, for the replay: proposers (Optuna's samplers and our own) and stoppers."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.samplers import BaseSampler
from search_replay import Stopper, Trial
from search_table import ARGUMENTS, DATA, MODEL, RECIPE, Table

from prunenas.architecture import Space
from prunenas.search.proposal import propose
from prunenas.search.samplers import resolved, sampler
from prunenas.search.starts import starts_of
from prunenas.search.stoppers import SHARES, Curve, Noise, epoch_at
from prunenas.search.stoppers import Stopper as Rule
from prunenas.search.surrogate import front_rows
from prunenas.search.verdicts import CONSTRAINTS, verdict, violation
from prunenas.spec import Study
from prunenas.trial import Candidate, Record

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

SPREAD = (1.0, 0.18, 0.032, 0.006)
"""FLOPs shares of uniform starts, from the dense network to the narrowest one on the grid."""

_FACTORS = np.linspace(-6.0, 6.0, 97)  # of natural logarithms: e⁻⁶ is below the narrowest ratio


@dataclass(frozen=True)
class Grid:
    """The table's grid as a space of ratios: rounding to it, and projecting onto FLOPs targets."""

    table: Table

    @cached_property
    def logs(self) -> Floats:
        """Logarithms of each row's ratios, shape (rows, groups)."""
        widths = self.table.widths
        logs: Floats = np.log(widths / widths.max(axis=0))
        return logs

    @cached_property
    def lowest(self) -> float:
        """The logarithm of the smallest ratio."""
        return float(self.logs.min())

    def snap(self, logs: Floats) -> Rows:
        """Rows of the grid's points nearest to logarithms of ratios, shape (…, groups)."""
        index = []
        for group, levels in enumerate(self.table.levels):
            known = np.log(levels / levels[-1])
            index.append(np.searchsorted((known[1:] + known[:-1]) / 2, logs[..., group]))
        shape = tuple(len(levels) for levels in self.table.levels)
        rows: Rows = np.ravel_multi_index(tuple(index), shape)
        return rows

    def project(self, logs: Floats, shares: Floats) -> Rows:
        """Rows in these proportions whose FLOPs come nearest to shares from below.

        Args:
            logs: Logarithms of proportions, shape (points, groups).
            shares: FLOPs targets as shares of the dense network's, shape (points,).
        """
        scaled = np.clip(logs[:, None] + _FACTORS[:, None], self.lowest, 0.0)
        rows = self.snap(scaled)
        reached = self.table.shares[rows]
        # FLOPs grow with the factor; where even the narrowest costs more, it is the answer.
        below = np.maximum((reached <= shares[:, None] * (1 + 1e-9)).sum(axis=1) - 1, 0)
        found: Rows = rows[np.arange(len(rows)), below]
        return found

    def uniform(self, shares: Sequence[float]) -> list[int]:
        """Rows of one ratio for all groups, projected onto FLOPs targets."""
        flat = np.zeros((len(shares), len(self.table.levels)))
        rows: list[int] = self.project(flat, np.array(shares)).tolist()
        return rows


class GridSpace(Space):
    """The dense network's space, in which only the grid's widths exist."""

    grid: Grid

    @classmethod
    def of(cls, space: Space, grid: Grid) -> "GridSpace":
        """That of a space whose groups are the grid's."""
        assert tuple(group.name for group in space.groups) == grid.table.groups
        made = cls(**{field.name: getattr(space, field.name) for field in fields(space)})
        object.__setattr__(made, "grid", grid)
        return made

    def sized(self, ratios: Floats) -> tuple[Floats, Floats]:
        rows = self.grid.snap(np.log(np.clip(ratios, 1e-9, 1.0)))
        return self.grid.table.widths[rows].astype(float), self.grid.table.flops[rows].astype(float)

    def widths(self, ratios: float | Mapping[str, float] = 1.0) -> dict[str, int]:
        named = ratios if isinstance(ratios, Mapping) else dict.fromkeys(self._names, ratios)
        return self._named_widths(self.sized(np.array([[named[g] for g in self._names]]))[0][0])

    def fitted(self, ratios: Mapping[str, float], flops: int) -> dict[str, int]:
        """Widths in these proportions whose FLOPs come nearest to a budget from below."""
        logs = np.log([[ratios[group] for group in self._names]])
        (row,) = self.grid.project(logs, np.array([flops / self.dense.flops]))
        return self._named_widths(self.grid.table.widths[row])

    @property
    def _names(self) -> tuple[str, ...]:
        return self.grid.table.groups

    def _named_widths(self, widths: NDArray[Any]) -> dict[str, int]:
        return {group: int(w) for group, w in zip(self._names, widths, strict=True)}


STUDY: Mapping[str, Any] = {
    "name": "benchmark",
    "model": {"name": MODEL, "arguments": ARGUMENTS},
    "data": DATA,
    "train": RECIPE.model_dump(mode="json"),
}


@dataclass
class Studied:
    """A study as the engine runs it: its starts, its sampler's proposals, what Optuna is told.

    Attributes:
        space: What is searched.
        seed: The study's.
        search: Keys of the study's section ``search``.
        ranged: Whether targets are searched between the table's narrowest network and the dense
            one, so that ratios are proportions.
        log: Whether ratios are proposed by their logarithm; else as in ``per_layer.yaml``.
        made: Makes the sampler from a seed, in place of the engine: Optuna as it comes.
    """

    space: GridSpace
    seed: int
    search: Mapping[str, Any]
    ranged: bool = False
    log: bool = False
    made: Callable[[int], BaseSampler] | None = None
    _study: optuna.Study = field(init=False)
    _trial: optuna.Trial = field(init=False)
    _candidate: Candidate = field(init=False)
    _records: list[Record] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        grid = self.space.grid
        # The lowest target is met by the narrowest network.
        lowest = math.ceil(float(grid.table.shares.min()) * 1e6) / 1e6
        ratio = {"low": float(np.exp(grid.lowest)), "high": 1.0, "log": self.log}
        widths = {"per": "group", "ratio": ratio}
        self._asked = Study.model_validate(
            {
                **STUDY,
                "methods": [{"name": "l1_norm", "space": {"widths": widths}}],
                "objective": {"maximize": "accuracy", "minimize": "flops"}
                | ({"flops_ratio": [lowest, 1.0]} if self.ranged else {}),
                "search": {"trials": 50, "seed": self.seed, **self.search},
            }
        )
        self._name = resolved(self._asked, self.space)
        self._study = optuna.create_study(directions=["maximize", "minimize"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if self.made is not None:
                self._study.sampler = self.made(self.seed)
        for start in starts_of(self._asked, self.space):
            self._study.enqueue_trial(start.parameters, user_attrs={"start": start.name})

    def propose(self, history: Sequence[Trial]) -> int:
        if self.made is None:
            self._study.sampler = sampler(
                self._name, self.seed, len(history), self._asked, self.space
            )
        self._trial = self._study.ask()
        self._candidate = propose(self._trial, self._asked, self.space)
        ratios, flops = self._candidate.ratios, self._candidate.flops
        assert ratios is not None
        widths = self.space.widths(ratios) if flops is None else self.space.fitted(ratios, flops)
        return self.space.grid.table.row([widths[group.name] for group in self.space.groups])

    def told(self, trial: Trial) -> None:
        grid = self.space.grid
        flops = int(grid.table.flops[trial.row])
        kept = np.exp(grid.logs[trial.row]).tolist()
        nothing = {field.name: None for field in fields(Record)}
        record = Record(
            **{
                **nothing,
                "number": len(self._records),
                "parameters": dict(self._candidate.parameters),
                "ratios": dict(zip(grid.table.groups, kept, strict=True)),
                "state": "complete"
                if trial.complete
                else "stopped"
                if trial.curve and not np.isnan(trial.accuracy)
                else "failed",
                "architecture": {},
                "accuracy": trial.accuracy,
                "flops": flops,
                "flops_ratio": trial.share,
                "epochs": len(trial.curve),
                "curve": [{"validation_accuracy": accuracy} for accuracy in trial.curve],
            }
        )
        if self.ranged:
            least, dense = int(grid.table.flops.min()), self.space.dense.flops
            assert self._candidate.flops is not None
            broken = violation(record, self._candidate.flops, least, dense)
            self._trial.storage.set_trial_system_attr(self._trial._trial_id, CONSTRAINTS, [broken])
        self._trial.set_user_attr("record", record.to_dict())
        told = verdict(record, self._records, ("flops",), 0)
        self._study.tell(self._trial, told.values, state=told.state)
        self._records.append(record)


def complete(history: Sequence[Trial]) -> tuple[Rows, Floats, Floats]:
    """Rows, shares and accuracies of the trials that were trained to the end, each once."""
    done = {trial.row: trial for trial in history if trial.complete}
    return (
        np.array(list(done), dtype=int),
        np.array([trial.share for trial in done.values()]),
        np.array([trial.accuracy for trial in done.values()]),
    )


@dataclass
class Mutation:
    """Local search: a member of the front, its proportions changed a little, at a FLOPs target.

    The target is drawn evenly between the front's ends (by logarithm), the parent is the front's
    member nearest to it; proportions take normal steps, and are projected onto the target.
    """

    grid: Grid
    seed: int
    starts: tuple[float, ...] = SPREAD
    step: float = 0.5

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)
        self._starts = self.grid.uniform(self.starts)

    def propose(self, history: Sequence[Trial]) -> int:
        if len(history) < len(self._starts):
            return self._starts[len(history)]
        rows, shares, accuracies = complete(history)
        tried = {trial.row for trial in history}
        least = np.log(self.grid.table.shares.min())
        kept = front_rows(shares, accuracies)
        row = -1
        for _ in range(20):
            target = self._random.uniform(least, 0.0)
            parent = rows[kept[np.abs(np.log(shares[kept]) - target).argmin()]]
            logs = self.grid.logs[parent] + self._random.normal(0, self.step, len(self.grid.logs.T))
            row = int(self.grid.project(logs[None], np.exp([target]))[0])
            if row not in tried:
                break
        return row

    def told(self, trial: Trial) -> None:
        pass


def never(share: float, seen: Sequence[float], history: Sequence[Trial]) -> bool:
    """Train everything to the end."""
    return False


def rule(name: str, table: Table) -> Stopper:
    """One of the engine's stoppers, with the noise that a study measures before its first trial."""
    (row,) = Grid(table).uniform((0.5,))
    epochs = table.curves.shape[2]
    spread = {s: float(table.curves[row, :, epoch_at(s, epochs) - 1].std(ddof=1)) for s in SHARES}
    noise = Noise(int(table.conditions["validation_images"]), spread)
    dense = table.flops[table.dense]

    def stops(share: float, seen: Sequence[float], history: Sequence[Trial]) -> bool:
        others = tuple(
            Curve((round(trial.share * dense),), epochs, trial.curve)
            for trial in history
            if trial.curve and not trial.reused
        )
        return Rule(name, others, noise).stops(Curve((round(share * dense),), epochs, tuple(seen)))

    return stops


def forecast(rungs: Sequence[int], deviations: float = 2.0, warm: int = 8) -> Stopper:
    """Stop at a rung what won't reach the front, by a margin, as the complete trials' curves say.

    The last accuracy is regressed on the one at the rung; its residuals are the margin's measure.
    """

    def stops(share: float, seen: Sequence[float], history: Sequence[Trial]) -> bool:
        done = [trial for trial in history if trial.complete and not trial.reused]
        cheaper = [trial.accuracy for trial in done if trial.share <= share]
        if len(seen) not in rungs or len(done) < warm or not cheaper:
            return False
        then = np.array([trial.curve[len(seen) - 1] for trial in done])
        last = np.array([trial.accuracy for trial in done])
        if then.std() == 0:
            return False
        slope, base = np.polyfit(then, last, 1)
        left = np.sqrt(np.sum((last - base - slope * then) ** 2) / (len(done) - 2))
        return bool(base + slope * seen[-1] + deviations * left < max(cheaper))

    return stops
