"""What every pruning method is (`Method`) and what it answers (`Derivation`).

A method is one final, frozen class whose fields are its hyperparameters: a field's declaration
gives its default, its bounds, its documentation and the range a study searches by default::

    keep: float = Field(0.5, gt=0, le=1, description="...",
                        json_schema_extra={"search": {"low": 0.1, "high": 0.9}})

``search`` is written as in a search-space file: ``low`` and ``high`` (with ``log: true`` where the
scale is logarithmic), or ``choices``.
"""

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from prunenas.architecture import Architecture
from prunenas.errors import MethodError
from prunenas.methods.dense import Dense


@dataclass(frozen=True)
class Inheritance:
    """What survives of the dense network.

    Attributes:
        kept: Sorted indices of the dense network's channels that stay, int64 of shape
            ``(width,)`` for each group by name. A group that isn't there stays whole.
        weights: State dict at those channels, on the CPU.
        whole: The state dict that ``weights`` is cut from, where the method changed the dense
            network's (by reconstruction, say); ``None`` where those are the dense network's own.
    """

    kept: Mapping[str, Tensor]
    weights: dict[str, Tensor]
    whole: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class Derivation:
    """What a method arrived at. It lives as long as the trial; only the architecture is kept.

    Attributes:
        architecture: The network that is retrained from scratch.
        notes: Figures for the record, JSON values only, such as the threshold found.
        inherit: Computes what survives, or ``None`` for a method that chooses widths but no
            channels. Call `weights` or `kept` instead.
    """

    architecture: Architecture
    notes: Mapping[str, Any] = field(default_factory=dict)
    inherit: Callable[[], Inheritance] | None = None

    def weights(self) -> dict[str, Tensor] | None:
        """Return the dense network's weights at the channels kept, a state dict on the CPU.

        It loads strictly into ``build(self.architecture)``. A predefined method trains the dense
        network for it, and never before. ``None``: the method keeps no particular channels.
        """
        return None if self.inherit is None else self.inherit().weights

    def kept(self) -> Mapping[str, Tensor] | None:
        """Return the indices of the channels kept for each group; trains as `weights` does."""
        return None if self.inherit is None else self.inherit().kept


class Method(BaseModel):
    """A pruning method: dense network in, architecture out.

    Attributes:
        kind: ``"predefined"``: the architecture follows from ratios, hyperparameters and seed
            alone, nothing is trained for it. ``"automatic"``: it is found in trained weights.
        takes_ratios: Whether `derive` follows ratios given for each group.
        source: The paper, for tables: authors, year, title, venue.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: ClassVar[Literal["predefined", "automatic"]]
    takes_ratios: ClassVar[bool]
    source: ClassVar[str]

    @abstractmethod
    def derive(
        self,
        dense: Dense,
        *,
        ratios: Mapping[str, float] | None = None,
        flops: int | None = None,
        fixed: Collection[str] = (),
        seed: int = 0,
    ) -> Derivation:
        """Derive an architecture from a dense network.

        Args:
            dense: The dense network, its data and its training.
            ratios: Share of channels to keep, in (0, 1], for each group by name; only where
                `takes_ratios`.
            flops: A budget in fused multiply-adds of one input. The architecture comes as close
                to it as whole channels allow and never exceeds it.
            fixed: Groups that keep their given ratio whatever the budget.
            seed: Of the method's own random choices; equal seeds, equal architectures.

        Raises:
            MethodError: The method can't do what is asked of it.
            WidthError: Ratios outside (0, 1], or for groups the network doesn't have.
            BudgetError: No widths meet ``flops``; names the smallest figure there is.
        """


def refuse_ratios(method: str, ratios: Mapping[str, float] | None) -> None:
    """Raise `MethodError` where ratios are given to a method that sets its own."""
    if ratios is not None:
        raise MethodError(
            f"a method follows given ratios only where takes_ratios is true, but {method} sets "
            f"its own and got ratios for {len(ratios)} groups"
        )


def strongest(scores: Tensor, width: int, divisor: int) -> Tensor:
    """Return the ``width`` channels of highest score, sorted, int64 of shape ``(width,)``.

    A group with a divisor d above 1 is read by a layer that cuts its channels into d blocks
    (grouped convolution, group normalisation). Every block has to keep as many channels as any
    other, so the strongest ``width / d`` are taken within each. Of equals the first are kept.

    Args:
        scores: One for each channel of the dense group, shape ``(dense width,)``.
        width: Channels to keep; a multiple of ``divisor``, at least one for each block.
        divisor: Of the group; divides the dense width too.
    """
    blocks = scores.reshape(divisor, -1)
    order = blocks.argsort(dim=1, descending=True, stable=True)[:, : width // divisor]
    first = torch.arange(divisor).unsqueeze(1) * blocks.shape[1]
    return (order.cpu() + first).flatten().sort().values


def share_kept(architecture: Architecture, dense: Architecture) -> float:
    """Return the share of the free groups' channels that is left, in (0, 1]."""
    return sum(architecture.widths.values()) / sum(dense.widths.values())
