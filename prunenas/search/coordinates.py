"""What a study varies, as numbers: parameters as points, and points as architectures.

A *point* has one coordinate for each parameter that a trial is asked: the natural logarithm of a
ratio or of a FLOPs target, a hyperparameter moved onto 0 to ``SPAN``, the index of a choice. What
a model learns from are *features*: the widths that an architecture really has, as logarithms of
their shares, because rounding and projection lie between what is proposed and what is trained.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.distributions import FloatDistribution as Float
from optuna.distributions import IntDistribution as Int

from prunenas.architecture import Space
from prunenas.search.proposal import TARGET
from prunenas.search.surrogate import Floats
from prunenas.search.wishes import distributions
from prunenas.spec import Study

SPAN = 2.5
"""The range of a hyperparameter in the unit of the others: ratios from 0.08 to 1."""

_NARROW = 1e-9  # a ratio at which every group has its fewest channels
_BISECTIONS = 24


@dataclass(frozen=True)
class Axis:
    """A parameter and its coordinate.

    Attributes:
        name: Of the parameter.
        distribution: What it may be.
        natural: Whether the coordinate is the value's logarithm: of ratios, densities and FLOPs
            targets.
    """

    name: str
    distribution: BaseDistribution
    natural: bool

    @property
    def choices(self) -> int:
        """How many choices there are; 0 for a number."""
        known = self.distribution
        return len(known.choices) if isinstance(known, CategoricalDistribution) else 0

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest coordinate."""
        if self.choices:
            return -0.5, self.choices - 0.5  # each choice has a length of 1
        low, high = self._ends
        if self.natural:
            return low, high
        return 0.0, SPAN if high > low else 0.0

    @property
    def _ends(self) -> tuple[float, float]:
        assert isinstance(self.distribution, Float | Int)
        low, high = float(self.distribution.low), float(self.distribution.high)
        logarithmic = self.natural or self.distribution.log
        return (math.log(low), math.log(high)) if logarithmic else (low, high)

    def coordinate(self, value: Any) -> float:
        """A value's coordinate."""
        known = self.distribution
        if isinstance(known, CategoricalDistribution):
            return float(known.to_internal_repr(value))
        assert isinstance(known, Float | Int)
        low, high = self._ends
        number = math.log(value) if self.natural or known.log else float(value)
        if self.natural:
            return number
        return SPAN * (number - low) / (high - low) if high > low else 0.0

    def values(self, coordinates: Floats) -> Floats:
        """The parameter's values nearest to coordinates; of a choice the index."""
        known = self.distribution
        if isinstance(known, CategoricalDistribution):
            indices: Floats = np.clip(np.rint(coordinates), 0, len(known.choices) - 1)
            return indices
        assert isinstance(known, Float | Int)
        low, high = self._ends
        numbers = coordinates if self.natural else low + coordinates * (high - low) / SPAN
        if self.natural or known.log:
            numbers = np.exp(numbers)
        if known.step is not None:
            numbers = known.low + np.rint((numbers - known.low) / known.step) * known.step
        return np.clip(np.round(numbers, 12) if known.step else numbers, known.low, known.high)

    def value(self, coordinate: float) -> Any:
        """The value nearest to a coordinate, as Optuna has it."""
        return self.distribution.to_external_repr(float(self.values(np.array([coordinate]))[0]))

    def nearest(self, coordinates: Floats) -> Floats:
        """The coordinates of the values nearest to coordinates."""
        values = self.values(coordinates)
        if self.choices:
            return values
        assert isinstance(self.distribution, Float | Int)
        low, high = self._ends
        if self.natural:
            return np.asarray(np.log(values))
        numbers = np.log(values) if self.distribution.log else values
        return SPAN * (numbers - low) / (high - low) if high > low else np.zeros_like(values)


class Coordinates:
    """The points of a study with one method, and the architectures they come to.

    Attributes:
        axes: One for each parameter, in the order in which a trial is asked.
        lows: The least coordinates, shape (axes,).
        highs: The largest coordinates, shape (axes,).
        ratios: Which axes are ratios; of shape (axes,).
        target: The axis of FLOPs targets; None where none are searched.
    """

    def __init__(self, study: Study, space: Space) -> None:
        """Args: what is searched, and the channel groups of its dense network."""
        asked = distributions(study, space)
        widths = study.methods[0].space.widths
        self._space, self._budget = space, study.objective.budget
        self.axes = tuple(
            Axis(name, known, natural=name == TARGET or name.startswith(("ratio/", "density/")))
            for name, known in asked.items()
        )
        self.lows = np.array([axis.bounds[0] for axis in self.axes])
        self.highs = np.array([axis.bounds[1] for axis in self.axes])
        self.ratios = np.array([axis.name.startswith("ratio/") for axis in self.axes], dtype=bool)
        names = [axis.name for axis in self.axes]
        self._densities = np.array([name.startswith("density/") for name in names], dtype=bool)
        self.target = names.index(TARGET) if TARGET in names else None
        self._knobs = widths.knobs(space.groups) if widths is not None else {}
        fixed = widths.fixed_ratios(space.groups) if widths is not None else {}
        groups = [group.name for group in space.groups]
        self._dense = np.array([group.width for group in space.groups], dtype=float)
        # The knob of each group; -1 where its ratio is fixed.
        self._knob_of = np.full(len(groups), -1)
        for knob, (_, members) in enumerate(self._knobs.items()):
            for member in members:
                self._knob_of[groups.index(member)] = knob
        # Of fixed groups under a budget, as `Space.fit` holds them.
        self._held = (self._knob_of < 0) & bool(self._knobs)
        self._constant = np.array([fixed.get(group, 1.0) for group in groups])

    @property
    def projected(self) -> bool:
        """Whether ratios are proportions only, moved onto FLOPs that are asked."""
        return self._budget is not None or self.target is not None

    @cached_property
    def extremes(self) -> tuple[float, float]:
        """The least and the largest FLOPs there can be, as shares of the dense network's."""
        if self.projected:
            ends = np.array([[_NARROW], [1.0]]).repeat(len(self._dense), axis=1)
            ends = np.where(self._held, self._constant, ends)
        else:
            ends = self._ratios(np.stack([self.lows, self.highs]))
        least, most = self._sized(ends)[1].tolist()
        return least * (1 + 1e-6), most

    def of(self, parameters: Mapping[str, Any]) -> Floats | None:
        """The point of a trial's parameters; None where some were not yet asked."""
        if any(axis.name not in parameters for axis in self.axes):
            return None
        return np.array([axis.coordinate(parameters[axis.name]) for axis in self.axes])

    def nearest(self, points: Floats) -> Floats:
        """The points of the search space nearest to any, shape (points, axes)."""
        found = points.copy()
        if self.projected and self.ratios.any():
            # The largest of them at the top: steps are finest there, and the rest is proportion.
            top = found[:, self.ratios].max(axis=1, keepdims=True)
            found[:, self.ratios] += self.highs[self.ratios].max() - top
        for index, axis in enumerate(self.axes):
            found[:, index] = axis.nearest(np.clip(found[:, index], *axis.bounds))
        return found

    def moved(self, points: Floats, shares: Floats) -> Floats:
        """Points whose ratios are moved by a common factor onto FLOPs, within their bounds."""
        span = self.highs - self.lows
        under, over = -np.ones(len(points)), np.ones(len(points))

        def at(step: Floats) -> Floats:
            moved = np.clip(points + step[:, None] * span, self.lows, self.highs)
            return np.where(self.ratios, moved, points)

        for _ in range(_BISECTIONS):
            middle = (under + over) / 2
            below = self._sized(self._ratios(at(middle)))[1] <= shares
            under, over = np.where(below, middle, under), np.where(below, over, middle)
        return at(under)

    def reached(self, points: Floats) -> tuple[Floats, Floats]:
        """What points of the search space come to, projected where the study does so.

        Returns:
            Features of shape (points, features), and FLOPs as shares of the dense network's,
            shape (points,).
        """
        asked = np.full(len(points), self._budget or 1.0)
        if self.target is not None:
            asked = np.exp(points[:, self.target])
        if not self._knobs:
            return self._features(points, None), asked
        ratios = self._ratios(points)
        if not self.projected:
            widths, shares = self._sized(ratios)
            return self._features(points, widths), shares
        # As `Space.fit`, up to the single channels with which that uses up the rest.
        under, over = np.full(len(points), -25.0), -np.log(ratios.min(axis=1))

        def at(factor: Floats) -> Floats:
            return np.where(self._held, ratios, ratios * np.exp(factor)[:, None])

        for _ in range(_BISECTIONS):
            middle = (under + over) / 2
            below = self._sized(at(middle))[1] <= asked
            under, over = np.where(below, middle, under), np.where(below, over, middle)
        widths, shares = self._sized(at(under))
        return self._features(points, widths), shares

    def learnt(self, point: Floats, ratios: Mapping[str, float]) -> Floats:
        """The features of an architecture with these ratios, by group; shape (features,)."""
        kept = np.array([ratios[group.name] for group in self._space.groups])
        widths = (kept * self._dense)[None] if self._knobs else None
        features: Floats = self._features(point[None], widths)[0]
        return features

    def _features(self, points: Floats, widths: Floats | None) -> Floats:
        columns = []
        if self.projected and self._densities.any():
            # Proportions only, as ratios are: a common factor makes no difference.
            points = points.copy()
            points[:, self._densities] -= points[:, self._densities].mean(axis=1, keepdims=True)
        if widths is not None:
            logs = np.log(widths / self._dense)
            columns += [logs[:, self._knob_of == k].mean(axis=1) for k in range(len(self._knobs))]
        for index, axis in enumerate(self.axes):
            if axis.choices:
                columns += [np.equal(points[:, index], k) * 1.0 for k in range(axis.choices)]
            elif not self.ratios[index] and (index != self.target or widths is None):
                columns.append(points[:, index])
        return np.stack(columns, axis=1) if columns else np.zeros((len(points), 0))

    def _ratios(self, points: Floats) -> Floats:
        """A ratio for each group, shape (points, groups)."""
        free = self._knob_of >= 0
        found = np.repeat(self._constant[None], len(points), axis=0)
        found[:, free] = np.exp(points[:, self.ratios])[:, self._knob_of[free]]
        return found

    def _sized(self, ratios: Floats) -> tuple[Floats, Floats]:
        widths, flops = self._space.sized(ratios)
        return widths, flops / self._space.dense.flops
