"""Counting: fvcore as the counter of record, and a closed form in the channel groups' widths.

The unit everywhere is the fused multiply-add of ONE input, in convolutions, linear layers and
matrix products: the figure that pruning papers print (VGG-16 on 32x32: 313,201,664).
"""

import copy
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Vector = NDArray[np.float64]

_ATTENTION = "scaled_dot_product_attention"

COUNTED = frozenset(
    {"conv", "linear", "addmm", "mm", "matmul", "bmm", "baddbmm", "einsum", _ATTENTION}
)
"""fvcore's names of the operators whose multiply-adds count.

The sum over these is taken, because fvcore 0.1.5 goes on counting an operator it knows (such as
batch norm) when its handle is set to None.
"""


def count_flops(network: nn.Module, input_shape: Sequence[int]) -> int:
    """Fused multiply-adds of one input, counted by fvcore on the network itself.

    Args:
        network: Any network; it is left in the mode it was in.
        input_shape: ``(C, H, W)`` of one input, without the batch.

    Returns:
        Multiply-adds in convolutions, linear layers and matrix products, in evaluation mode.
    """
    if any(tensor.device.type != "cpu" for tensor in network.parameters()):
        network = copy.deepcopy(network).cpu()  # fvcore counts CPU tensors only
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        # Gradients stay on: without them attention takes a fused path that fvcore can't see.
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")  # of torch.jit, on which fvcore rests
            from fvcore.nn import FlopCountAnalysis

            analysis: Any = FlopCountAnalysis(network, torch.zeros((1, *input_shape)))
            for operator, handle in _HANDLES.items():
                analysis.set_op_handle(f"aten::{operator}", handle)
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            analysis.tracer_warnings("none")
            counted = analysis.by_operator()
    finally:
        for module, mode in modes:
            module.training = mode
    return int(sum(count for operator, count in counted.items() if operator in COUNTED))


def _attention(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """The two matrix products of softmax(q k') v, which fvcore 0.1.5 passes over.

    Whether a network calls the fused operator or writes the products out must not change its count.
    """
    del outputs
    query, key, value = (tensor.type().sizes() for tensor in inputs[:3])
    return Counter({_ATTENTION: prod(query[:-1]) * key[-2] * (key[-1] + value[-1])})


def _product(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """matmul with broadcasting or a vector, which fvcore 0.1.5 miscounts or fails on."""
    return Counter(matmul=prod(outputs[0].type().sizes()) * inputs[0].type().sizes()[-1])


def _added_product(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    return Counter(baddbmm=prod(outputs[0].type().sizes()) * inputs[1].type().sizes()[-1])


def _convolution_mode(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """A convolution with padding="same" or "valid", an operator that fvcore 0.1.5 passes over."""
    return Counter(conv=prod(outputs[0].type().sizes()) * prod(inputs[1].type().sizes()[1:]))


def _einsum(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """One product of two tensors to the integer: fvcore 0.1.5 reads it off four printed digits."""
    equation = str(inputs[0].toIValue()).replace(" ", "")
    shapes = [tensor.type().sizes() for tensor in inputs[1].node().inputs()]
    terms, arrow, _ = equation.partition("->")
    if not arrow or len(shapes) != 2 or "." in terms:
        from fvcore.nn.jit_handles import einsum_flop_jit

        return Counter(einsum=einsum_flop_jit(inputs, outputs))
    sizes = {
        letter: size
        for term, shape in zip(terms.split(","), shapes, strict=True)
        for letter, size in zip(term, shape, strict=True)
    }
    return Counter(einsum=prod(sizes.values()))


_HANDLES = {
    "einsum": _einsum,
    _ATTENTION: _attention,
    "matmul": _product,
    "baddbmm": _added_product,
    "_convolution_mode": _convolution_mode,
}
"""What fvcore 0.1.5 does not count, or not right; each takes and returns what its handles do."""


@dataclass(frozen=True)
class Terms:
    """Products of linear forms in ``w = (1, width of group 1, 2, ...)``, each owned by a module.

    Term i is ``factors[i] * (a[i] @ w) * (b[i] @ w)``; ``a`` and ``b`` have shape (terms, len(w)).
    """

    owners: tuple[str, ...]
    factors: Vector
    a: Vector
    b: Vector

    @classmethod
    def of(cls, size: int, terms: Sequence[tuple[str, float, Vector, Vector]]) -> "Terms":
        """Of terms (owner, factor, a, b); ``size`` is ``len(w)``."""
        return cls(
            tuple(owner for owner, *_ in terms),
            np.array([factor for _, factor, _, _ in terms], dtype=float),
            np.array([a for _, _, a, _ in terms], dtype=float).reshape(len(terms), size),
            np.array([b for *_, b in terms], dtype=float).reshape(len(terms), size),
        )

    def quadratic(self) -> "Quadratic":
        """Their sum."""
        return Quadratic((self.a * self.factors[:, None]).T @ self.b)

    def by_owner(self, widths: Vector) -> dict[str, int]:
        """The sum for each owner at ``widths``, shape (groups,)."""
        w = np.concatenate(([1.0], widths))
        sums: dict[str, float] = {}
        values = self.factors * (self.a @ w) * (self.b @ w)
        for owner, value in zip(self.owners, values, strict=True):
            sums[owner] = sums.get(owner, 0.0) + float(value)
        return {owner: round(value) for owner, value in sums.items()}

    def only(self, rows: Sequence[int], columns: Vector) -> "Terms":
        """These terms, in the variables that ``w = columns @ w'`` is made of."""
        index = list(rows)
        return Terms(
            tuple(self.owners[row] for row in index),
            self.factors[index],
            self.a[index] @ columns,
            self.b[index] @ columns,
        )


class Quadratic:
    """A sum of products of widths: ``w' Q w`` with ``w = (1, width of group 1, 2, ...)``.

    Exact to the integer below 2**53, in microseconds.
    """

    def __init__(self, matrix: Vector) -> None:
        self._matrix = matrix
        self._symmetric = matrix + matrix.T

    def __call__(self, widths: Vector) -> int:
        """The value at ``widths``, shape (groups,)."""
        w = np.concatenate(([1.0], widths))
        return round(float(w @ self._matrix @ w))

    def many(self, widths: Vector) -> Vector:
        """The values at ``widths``, shape (networks, groups); of shape (networks,), whole."""
        w = np.concatenate((np.ones((len(widths), 1)), widths), axis=1)
        values: Vector = np.round((w @ self._matrix * w).sum(axis=1))
        return values

    def slope(self, widths: Vector) -> Vector:
        """The derivative in each width; shape (groups,)."""
        slope: Vector = (self._symmetric @ np.concatenate(([1.0], widths)))[1:]
        return slope

    def steps(self, widths: Vector, step: Vector) -> Vector:
        """What it adds to the value when one width grows by ``step``; shape (groups,)."""
        curve: Vector = np.diagonal(self._matrix)[1:]
        return self.slope(widths) * step + curve * step * step
