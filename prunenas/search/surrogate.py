"""What a study has learnt of its widths: a Gaussian process of accuracy, and what to try next.

FLOPs follow from the widths in closed form, so that only the accuracy is uncertain. That makes the
expected growth of the front's hypervolume exact and cheap, where a general optimiser of two
objectives has to model both. numpy alone; milliseconds for hundreds of trials.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# For natural logarithms of ratios; distances grow with the root of the number of groups.
_LENGTHS = (0.35, 0.6, 1.0, 1.75)
_NOISES = (0.01, 0.03, 0.1, 0.3, 1.0)  # variances, as shares of the values' variance
_CONSULTED = 200  # points, at the most, by which lengths and noise are chosen
_ALIKE = 1e-6  # values that differ by less are equal
_LEAST_ERROR = 1e-3  # no logarithm of 0: a validation split without a mistake is a small one
_SLOPE = 0.3  # variance of the linear part


@dataclass(frozen=True)
class Surrogate:
    """A fitted process: constant mean, a linear and a smooth part, noise. Made by ``fit``.

    Attributes:
        points: What it was fitted to, shape (points, dimensions).
        lengths: By how much a dimension must change for the error to be another.
        noise: Variance of the logarithm of one training's error, seeds and all.
    """

    points: Floats
    lengths: Floats
    noise: float
    _mean: float
    _scale: float
    _values: Floats
    _weights: Floats
    _root: Floats

    @classmethod
    def fit(cls, points: Floats, values: Floats) -> "Surrogate":
        """Choose lengths and noise by marginal likelihood, on a grid and then by coordinates.

        Args:
            points: Logarithms of ratios, shape (points, dimensions).
            values: Logarithms of errors, shape (points,).
        """
        mean, scale = float(values.mean()), max(float(values.std()), _ALIKE)
        scaled = (values - mean) / scale
        rows = np.linspace(0, len(values) - 1, min(len(values), _CONSULTED)).astype(int)

        def likelihood(lengths: Floats, noise: float) -> float:
            root, weights = _solved(points[rows], lengths, noise, scaled[rows])
            return -0.5 * float(scaled[rows] @ weights) - float(np.log(np.diag(root)).sum())

        ones = np.full(points.shape[1], math.sqrt(points.shape[1]))
        best, length, noise = max(
            (likelihood(length * ones, noise), length, noise)
            for length in _LENGTHS
            for noise in _NOISES
        )
        lengths = length * ones
        for dimension in range(points.shape[1]):  # groups differ in weight
            for factor in (0.5, 2.0):
                other = lengths.copy()
                other[dimension] *= factor
                if (reached := likelihood(other, noise)) > best:
                    best, lengths = reached, other
        root, weights = _solved(points, lengths, noise, scaled)
        return cls(points, lengths, noise * scale**2, mean, scale, scaled, weights, root)

    def predict(self, points: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of log errors without noise, each of shape (points,)."""
        cross = _kernel(points, self.points, self.lengths)
        solved = np.linalg.solve(self._root, cross.T)
        prior = 1.0 + _SLOPE * ((points / self.lengths) ** 2).sum(axis=1)
        variance = np.maximum(prior - (solved**2).sum(axis=0), 1e-10)
        return self._mean + self._scale * (cross @ self._weights), self._scale * np.sqrt(variance)

    def told(self, points: Floats, values: Floats) -> "Surrogate":
        """The same process, with more that is known.

        Args:
            points: Shape (more, dimensions).
            values: Logarithms of errors, shape (more,).
        """
        scaled = np.r_[self._values, (values - self._mean) / self._scale]
        everywhere = np.concatenate([self.points, points])
        root, weights = _solved(everywhere, self.lengths, self.noise / self._scale**2, scaled)
        return replace(self, points=everywhere, _values=scaled, _root=root, _weights=weights)


def front_rows(shares: Floats, accuracies: Floats) -> NDArray[np.int64]:
    """Indices of the points that no other is at least as good as in both, by ascending share."""
    order = np.lexsort((-accuracies, shares))
    best = np.maximum.accumulate(accuracies[order])
    better = np.r_[True, accuracies[order][1:] > best[:-1]]
    found: NDArray[np.int64] = order[better]
    return found


def log_errors(accuracies: Floats) -> Floats:
    """Logarithms of the shares that are wrong, of accuracies in [0, 1].

    In this form accuracy is nearly a straight line in the logarithms of widths (a power law), and
    the noise of seeds is alike everywhere; accuracies themselves crowd together near 1.
    """
    return np.asarray(np.log(np.maximum(1 - accuracies, _LEAST_ERROR)), dtype=np.float64)


def expected_gain(
    shares: Floats, mean: Floats, deviation: Floats, front_shares: Floats, front_errors: Floats
) -> Floats:
    """Expected growth of the front's hypervolume by each candidate, exactly.

    A candidate's FLOPs are known, the logarithm of its error is normal. It adds what lies above the
    front's stairs to its right: the sum over stairs of width × E[max(stair's error − error, 0)]
    (for one stair the value of a put option in Black and Scholes 1973). The reference point is
    share 1 at accuracy 0.

    Args:
        shares: FLOPs of the candidates as shares of the dense network's, shape (candidates,).
        mean: Of the logarithms of their errors, shape (candidates,).
        deviation: Of the same, above 0, shape (candidates,).
        front_shares: The front's FLOPs shares, ascending, shape (front,).
        front_errors: Logarithms of its errors, descending, shape (front,).
    """
    edges = np.r_[0.0, front_shares, 1.0]
    stairs = np.r_[0.0, front_errors]
    widths = np.maximum(edges[None, 1:] - np.maximum(edges[None, :-1], shares[:, None]), 0.0)
    z = (stairs - mean[:, None]) / deviation[:, None]
    whole = np.exp(mean + 0.5 * deviation**2)  # the mean error
    gains = np.exp(stairs) * _below(z) - whole[:, None] * _below(z - deviation[:, None])
    total: Floats = (widths * np.maximum(gains, 0.0)).sum(axis=1)
    return total


def _solved(points: Floats, lengths: Floats, noise: float, values: Floats) -> tuple[Floats, Floats]:
    """The covariance's lower root, and the covariance's inverse times the values."""
    covariance = _kernel(points, points, lengths) + noise * np.eye(len(points))
    root = np.linalg.cholesky(covariance).astype(np.float64, copy=False)
    weights: Floats = np.linalg.solve(root.T, np.linalg.solve(root, values))
    return root, weights


def _kernel(one: Floats, other: Floats, lengths: Floats) -> Floats:
    one, other = one / lengths, other / lengths
    products = one @ other.T
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * products
    distance = np.sqrt(5 * np.maximum(squares, 0.0))
    # Matérn 5/2, and a slope: far from all that was tried, wider is still better.
    kernel: Floats = (1 + distance + distance**2 / 3) * np.exp(-distance) + _SLOPE * products
    return kernel


def _below(z: Floats) -> Floats:
    error = np.vectorize(math.erf, otypes=[float])
    share: Floats = 0.5 * (1 + error(z / math.sqrt(2)))  # numpy has no error function
    return share
