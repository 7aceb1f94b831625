"""Random masks from the first round on: the control."""

from collections.abc import Mapping
from typing import ClassVar, final

from pydantic import Field
from torch import Tensor

from prunenas.federated.packing import Masks
from prunenas.federated.strategies._base import Moment, Strategy, largest, random_scores


@final
class RandomMasks(Strategy):
    """Keeps random weights, the same share of each layer but for chance."""

    source: ClassVar[str] = "control"
    needs_density: ClassVar[bool] = True

    density: float = Field(gt=0, le=1, description="Share of the prunable weights to keep")

    def first_masks(self, weights: Mapping[str, Tensor], masks: Masks, seed: int) -> Masks:
        """Return random masks."""
        del masks
        return largest(random_scores(weights, seed), self.density)

    def masks_after(self, moment: Moment) -> Masks:
        """Return the masks as they are."""
        return moment.masks
