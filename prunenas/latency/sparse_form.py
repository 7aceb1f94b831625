"""A network in sparse form: layers that store, multiply and step only the weights a mask keeps.

What a masked weight costs in time shows only there: PyTorch's dense kernels multiply zeros as they
do any other number. Each layer's weight is a matrix in compressed rows, convolutions multiply it
with unfolded inputs. Of the weight's gradient all of it is computed, dropped weights' too: PruneFL
needs it, and its authors' code does so. That part does not shrink with the mask.
"""

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunenas.errors import FederatedError


def sparse_form(network: nn.Module, keep: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of a network whose masked layers are in sparse form.

    It computes what the network does whose dropped weights are 0.

    Args:
        network: Stays as it is.
        keep: By the weight's name, bool of its shape.

    Raises:
        FederatedError: A layer has no sparse form here.
    """
    changed = copy.deepcopy(network)
    for name, kept in keep.items():
        path = name.removesuffix(".weight")
        changed.set_submodule(path, SparseLayer(name, network.get_submodule(path), kept))
    return changed


class SparseLayer(nn.Module):
    """A linear layer or 2-D convolution of which only some weights are there.

    Attributes:
        values: The weights that are kept, in C order.
        bias: As the layer's own, or None.
    """

    bias: nn.Parameter | None

    def __init__(self, name: str, layer: nn.Module, keep: Tensor) -> None:
        """Copy a layer's weights.

        Args:
            name: Of its weight, as errors tell it.
            layer: ``nn.Linear``, or ``nn.Conv2d`` padded by zeros.
            keep: Bool of its weight's shape.
        """
        super().__init__()
        self.unfolding = _unfolding(name, layer)
        groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
        weight: Tensor = layer.get_parameter("weight").detach()
        bias: nn.Parameter | None = getattr(layer, "bias", None)
        self.matrix = _Matrix(keep.flatten(1), groups)
        self.values = nn.Parameter(weight.flatten()[self.matrix.places])
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    def forward(self, inputs: Tensor) -> Tensor:
        """Answer as the layer would."""
        if not self.unfolding:
            columns = inputs.reshape(-1, inputs.shape[-1]).t()
            made: Tensor = _Product.apply(columns, self.values, self.matrix)
            made = made.t().reshape(*inputs.shape[:-1], made.shape[0])
            return made if self.bias is None else made + self.bias
        unfolded = F.unfold(inputs, **self.unfolding)
        columns = unfolded.transpose(0, 1).flatten(1)
        made = _Product.apply(columns, self.values, self.matrix)
        made = made.reshape(made.shape[0], len(inputs), *self._positions(inputs)).transpose(0, 1)
        return made if self.bias is None else made + self.bias[:, None, None]

    def _positions(self, inputs: Tensor) -> list[int]:
        """Height and width of the outputs."""
        return [
            (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for length, kernel, dilation, padding, stride in zip(
                inputs.shape[2:], *self.unfolding.values(), strict=True
            )
        ]


class _Matrix:
    """Where a matrix has its values, by rows and by columns; groups lie on its diagonal."""

    def __init__(self, keep: Tensor, groups: int) -> None:
        """Index what is kept of ``(out, in / groups)``."""
        with warnings.catch_warnings():
            # torch calls compressed rows a beta, once in a process: here, where nothing is timed.
            warnings.filterwarnings("ignore", "Sparse CSR tensor support", UserWarning)
            none = torch.zeros(0, dtype=torch.int32)
            _compressed(torch.zeros(2, dtype=torch.int32), none, torch.zeros(0), (1, 1))
        self.groups, (rows, self.inner) = groups, keep.shape
        self.shape = rows, self.inner * groups
        self.places = keep.flatten().nonzero().squeeze(1)
        row, column = self.places // self.inner, self.places % self.inner
        column = column + row // (rows // groups) * self.inner
        self.order = column.argsort(stable=True)
        self._rows = _ends(row, rows), column.int()
        self._columns = _ends(column[self.order], self.shape[1]), row[self.order].int()

    def times(self, values: Tensor, columns: Tensor) -> Tensor:
        """Multiply with ``(in, n)``: ``(out, n)``."""
        return _compressed(*self._rows, values, self.shape) @ columns

    def transposed_times(self, values: Tensor, columns: Tensor) -> Tensor:
        """Multiply its transpose with ``(out, n)``: ``(in, n)``."""
        turned = self.shape[1], self.shape[0]
        return _compressed(*self._columns, values[self.order], turned) @ columns

    def gradient(self, above: Tensor, columns: Tensor) -> Tensor:
        """Gradients of the values, of ``above`` ``(out, n)``; the dense ones are computed."""
        # Each group's own rows and columns.
        split = above.reshape(self.groups, -1, above.shape[1])
        inputs = columns.reshape(self.groups, self.inner, columns.shape[1])
        dense = split @ inputs.transpose(1, 2)
        return dense.flatten()[self.places]


class _Product(torch.autograd.Function):
    """A sparse matrix times a dense one."""

    @staticmethod
    def forward(ctx: Any, columns: Tensor, values: Tensor, matrix: _Matrix) -> Tensor:
        ctx.save_for_backward(columns, values)
        ctx.matrix = matrix
        return matrix.times(values, columns)

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, Tensor, None]:
        columns, values = ctx.saved_tensors
        # The first layer's inputs are images, which want none.
        below = ctx.matrix.transposed_times(values, above) if ctx.needs_input_grad[0] else None
        return below, ctx.matrix.gradient(above, columns), None


def _unfolding(name: str, layer: nn.Module) -> dict[str, Any]:
    """How a convolution's inputs are unfolded; nothing of a linear layer."""
    if isinstance(layer, nn.Linear):
        return {}
    # Where they are named "same", zeros may not be as many on both sides.
    if isinstance(layer, nn.Conv2d) and (
        layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    ):
        names = ("kernel_size", "dilation", "padding", "stride")
        return {each: getattr(layer, each) for each in names}
    raise FederatedError(
        "a sparse form is known of linear layers and of 2-D convolutions padded by zeros on all "
        f"sides, but {name} is of {layer}"
    )


def _ends(lines: Tensor, count: int) -> Tensor:
    """Where each line of a compressed matrix ends, after the first one's beginning."""
    ends = torch.bincount(lines, minlength=count).cumsum(0)
    return F.pad(ends, (1, 0)).int()


def _compressed(ends: Tensor, places: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    return torch.sparse_csr_tensor(ends, places, values, shape, check_invariants=False)
