"""A Gaussian process of accuracy over log ratios, and the hypervolume a candidate may add."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LENGTHS = (0.7, 1.2, 2.0, 3.5)
_NOISES = (0.01, 0.03, 0.1)  # variances, as shares of the accuracies' variance
_SLOPE = 0.3  # variance of the linear part


@dataclass(frozen=True)
class Surrogate:
    """A fitted process: constant mean, a linear and a smooth part, noise."""

    points: Floats
    length: Floats
    mean: float
    scale: float
    _weights: Floats
    _root: Floats

    @classmethod
    def fit(cls, points: Floats, values: Floats, noise: Floats) -> "Surrogate":
        """Choose lengths and noise by marginal likelihood.

        Args:
            points: Shape (points, dimensions).
            values: Shape (points,).
            noise: Variances beyond the common one, shape (points,).
        """
        mean, scale = float(values.mean()), float(values.std()) or 1.0
        scaled = (values - mean) / scale
        extra = noise / scale**2

        def likelihood(length: Floats, shared: float) -> tuple[float, Floats, Floats]:
            matrix = _kernel(points, points, length) + np.diag(shared + extra)
            root = np.linalg.cholesky(matrix)
            half = np.linalg.solve(root, scaled)
            value = -0.5 * float(half @ half) - float(np.log(np.diag(root)).sum())
            return value, root, np.linalg.solve(root.T, half)

        dimensions = points.shape[1]
        best = max(
            (
                (likelihood(np.full(dimensions, length), shared)[0], length, shared)
                for length in _LENGTHS
                for shared in _NOISES
            ),
        )
        top, lengths, shared = best[0], np.full(dimensions, best[1]), best[2]
        for dimension in range(dimensions):  # one round by coordinates: groups differ in weight
            for factor in (0.5, 2.0):
                other = lengths.copy()
                other[dimension] *= factor
                value = likelihood(other, shared)[0]
                if value > top:
                    top, lengths = value, other
        _, root, weights = likelihood(lengths, shared)
        return cls(points, lengths, mean, scale, weights, root)

    def predict(self, points: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the noise-free accuracy, each of shape (points,)."""
        cross = _kernel(points, self.points, self.length)
        solved = np.linalg.solve(self._root, cross.T)
        prior = 1.0 + _SLOPE * (points**2 / self.length**2).sum(axis=1)
        variance = np.maximum(prior - (solved**2).sum(axis=0), 1e-10)
        return self.mean + self.scale * (cross @ self._weights), self.scale * np.sqrt(variance)


def _kernel(one: Floats, other: Floats, length: Floats) -> Floats:
    one, other = one / length, other / length
    squares = ((one[:, None] - other[None]) ** 2).sum(axis=2)
    distance = np.sqrt(5 * squares)
    smooth = (1 + distance + distance**2 / 3) * np.exp(-distance)  # Matérn 5/2
    linear: Floats = smooth + _SLOPE * one @ other.T
    return linear


def expected_gain(
    shares: Floats, mean: Floats, deviation: Floats, front_shares: Floats, front_heights: Floats
) -> Floats:
    """Expected growth of the hypervolume by each candidate, exactly.

    A candidate's FLOPs are known, only its accuracy is normal. It adds what lies above the stairs
    to its right: the sum over stairs of their width times E[max(accuracy − height, 0)].

    Args:
        shares: FLOPs shares of the candidates.
        mean: Of their accuracies.
        deviation: Of their accuracies.
        front_shares: The front's FLOPs shares, ascending.
        front_heights: Its accuracies, ascending.
    """
    edges = np.r_[0.0, front_shares, 1.0]
    heights = np.r_[0.0, front_heights]
    widths = np.maximum(edges[None, 1:] - np.maximum(edges[None, :-1], shares[:, None]), 0.0)
    z = (mean[:, None] - heights) / deviation[:, None]
    gains = deviation[:, None] * (_density(z) + z * _below(z))
    total: Floats = (widths * gains).sum(axis=1)
    return total


def _density(z: Floats) -> Floats:
    density: Floats = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    return density


def _below(z: Floats) -> Floats:
    erf = np.vectorize(math.erf, otypes=[float])
    share: Floats = 0.5 * (1 + erf(z / math.sqrt(2)))
    return share
