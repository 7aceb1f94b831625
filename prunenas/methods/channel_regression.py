"""Channel pruning by regression.

He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, section 3.
Predefined: how many channels each layer keeps is given; the regression says which, from what the
next layer makes of them, so nothing is trained before the weights are asked for.

Layer by layer, front to back. At sampled places the next layer's output is a sum over the
channels it reads, ``sum_i beta_i X_i W_i``. First the channels: LASSO on beta with ``|W_i| = 1``,
the penalty raised (doubled, then bisected) until no more channels than wanted have a beta other
than 0. Then the weights: ordinary least squares from the kept channels. ``X`` comes from the
network pruned so far and the target from the dense one, so that errors don't add up; for the last
layer of a residual branch the target includes what the shortcut has lost, ``Y1 - Y1' + Y2``.

All of it follows from ``X'X`` and ``X'Y``, to which batches of samples are added; LASSO is solved
by scikit-learn on a factor of the C x C matrix that they give for C channels.

Differs from the paper: one pass of LASSO and least squares, as in the authors' released code, not
alternating ones. All samples count in LASSO, where that code takes a part, and the bisection goes
on until the number is exact, where it takes up to a tenth more; where no penalty gives it exactly,
the smallest of those too many go. 500 images instead of 5,000. A group that several layers read (a
residual stream, concatenated features) goes by the sum of their errors, where the paper samples
channels at a block's entry. Channels that a grouped layer cuts into blocks go in equal numbers from
each; channel selections keep the channels their architecture names. A batch normalisation between a
branch's last layer and the addition counts as folded into the layer (as in the authors' networks;
the shortcut's formula itself is from memory of the paper). Weights that the samples don't decide on
stay nearest to their old values. A layer whose sums exceed the memory limit (a linear layer on a
large flattened map) is rescaled channel by channel, from single sampled outputs.
"""

import warnings
from collections.abc import Collection, Mapping
from functools import cache
from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from prunenas.architecture import ChannelGroup
from prunenas.methods._base import Derivation, Inheritance, Method, share_kept, strongest
from prunenas.methods._front_to_back import front_to_back, trained
from prunenas.methods._least_squares import spectrum
from prunenas.methods._reading import readers
from prunenas.methods._reconstruction import Target, targets
from prunenas.methods._sampling import MEMORY, Gigabytes, Sample, in_bytes
from prunenas.methods.dense import Dense

BISECTIONS = 40  # after which the penalties around a jump are equal to twelve digits


@final
class ChannelRegression(Method):
    """Each group keeps the channels LASSO picks; the next layer is rebuilt by least squares."""

    kind: ClassVar[Literal["predefined", "automatic"]] = "predefined"
    takes_ratios: ClassVar[bool] = True
    granularity: ClassVar[Literal["channel", "block"]] = "channel"
    source: ClassVar[str] = (
        "He et al. 2017, Channel Pruning for Accelerating Very Deep Neural Networks, ICCV"
    )

    images: int = Field(
        500,
        ge=1,
        description="Training images that are looked at. The authors' code takes 5,000.",
        json_schema_extra={"search": {"low": 100, "high": 5000, "log": True}},
    )
    positions: int = Field(
        10,
        ge=1,
        description="Places of the next layer's map that are looked at in each image; theirs: 10.",
        json_schema_extra={"search": {"low": 5, "high": 50}},
    )
    memory: Gigabytes = MEMORY / 1e9

    def derive(
        self,
        dense: Dense,
        *,
        ratios: Mapping[str, float] | None = None,
        flops: int | None = None,
        fixed: Collection[str] = (),
        seed: int = 0,
    ) -> Derivation:
        """Keep the given share of each group, scaled onto the budget; see `Method.derive`.

        Without ratios all groups keep the same share: all, or what the budget allows.
        """
        space = dense.space
        asked: float | Mapping[str, float] = 1.0 if ratios is None else ratios
        architecture = self.proportioned(space, asked, flops=flops, fixed=fixed)

        def inherit() -> Inheritance:
            sample = Sample(dense.data.train, self.images, None, seed, in_bytes(self.memory))
            random = torch.Generator().manual_seed(seed)
            original = cache(lambda: trained(dense))

            def cut(
                network: nn.Module, group: ChannelGroup, width: int, given: Tensor | None
            ) -> Tensor:
                reading = readers(space, group, network)
                found = targets(space, network, original(), reading, sample, self.positions, random)
                kept = given if given is not None else choose(found, group, width)
                for target in found:
                    target.apply(kept)
                return kept

            return front_to_back(
                dense,
                architecture,
                cut,
                random=random,
                key={
                    "method": "channel_regression",
                    **self.model_dump(exclude={"whole"}),
                    "seed": seed,
                },
                what="channel_regression",
            )

        return Derivation(
            architecture,
            notes={"channels_kept": share_kept(architecture, space.dense)},
            inherit=inherit,
        )


def choose(found: Collection[Target], group: ChannelGroup, width: int) -> Tensor:
    """Return the channels that LASSO keeps for all layers that read a group together.

    Returns:
        Sorted, int64 of shape ``(width,)``.
    """
    gram = torch.zeros(group.width, group.width, dtype=torch.float64)
    cross = torch.zeros(group.width, dtype=torch.float64)
    squares = torch.zeros(group.width, dtype=torch.float64)
    for target in found:
        more = target.for_channels()
        gram += more[0].cpu()
        cross += more[1].cpu()
        squares += more[2].cpu()
    norms = squares.sqrt()
    norms[norms == 0] = 1.0  # of weights that are all zero, which add nothing whatever beta is
    beta = lasso(gram / norms[:, None] / norms, cross / norms, width, group.divisor)
    return strongest(beta.abs(), width, group.divisor)


def lasso(gram: Tensor, cross: Tensor, width: int, divisor: int = 1) -> Tensor:
    """Return beta at the highest penalty that leaves enough channels.

    It minimises ``|Y - Z beta|^2 / 2 + penalty |beta|_1``.

    Args:
        gram: ``Z'Z``, float64 of shape (C, C).
        cross: ``Z'Y``, (C,).
        width: How many have to be left; a ``divisor``-th of them in each of as many blocks.
        divisor: Number of blocks.

    Returns:
        float64 of shape (C,). Where no penalty leaves exactly ``width``, more are left; fewer only
        where fewer suffice without any penalty, as where the samples' rank is lower.
    """
    from sklearn.exceptions import ConvergenceWarning  # imported on use: it takes seconds
    from sklearn.linear_model import Lasso

    # scikit-learn wants samples: those of a factor, of which there are at most C, do as well.
    values, vectors = spectrum(gram)
    if not len(values):
        return torch.zeros_like(cross)
    factor = (values.sqrt()[:, None] * vectors.T).numpy()
    target = ((vectors.T @ cross) / values.sqrt()).numpy()
    solver = Lasso(fit_intercept=False, warm_start=True, max_iter=10_000, tol=1e-6)

    def at(alpha: float) -> Tensor:
        solver.set_params(alpha=alpha)
        with warnings.catch_warnings():
            # Not quite there after so many rounds is near enough to rank channels by.
            warnings.simplefilter("ignore", ConvergenceWarning)
            solver.fit(factor, target)
        return torch.from_numpy(solver.coef_.copy())

    def enough(beta: Tensor) -> bool:
        return int((beta != 0).reshape(divisor, -1).sum(dim=1).min()) >= width // divisor

    all_gone = float(cross.abs().max()) / len(target)  # scikit-learn divides the error by samples
    low, high = 0.0, 1e-3 * all_gone
    if not high:
        return torch.zeros_like(cross)
    if width > len(values):
        return at(high)  # no penalty leaves more than the rank: not worth a search
    best = None
    while enough(beta := at(high)):
        best, low, high = beta, high, 2 * high
    for _ in range(BISECTIONS):
        if best is not None and int((best != 0).sum()) == width:
            break
        middle = (low + high) / 2
        beta = at(middle)
        if enough(beta):
            best, low = beta, middle
        else:
            high = middle
    return beta if best is None else best
