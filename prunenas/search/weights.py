"""Trained weights of a study's front, kept so that an export can have them."""

from collections.abc import Collection, Mapping
from pathlib import Path

from torch import Tensor

from prunenas.cache import Cache

_KIND = "weights"


class Weights:
    """Weights by trial, in one folder for each study; those that leave the front are dropped.

    A study may try hundreds of networks; only the front's are ever exported.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        """Args: the folder of all studies' weights, and the study's identity."""
        self._cache = Cache(folder / identity)

    def keep(self, trial: int, weights: Mapping[str, Tensor]) -> None:
        """Keep a trial's state dict."""
        self._cache.put(_KIND, _key(trial), weights, {"trial": trial})

    def get(self, trial: int) -> dict[str, Tensor] | None:
        """A trial's state dict, on the CPU; None where it is not (or no longer) kept."""
        entry = self._cache.get(_KIND, _key(trial))
        return None if entry is None else dict(entry.tensors)

    def only(self, trials: Collection[int]) -> None:
        """Drop the weights of all other trials."""
        wanted = {_key(trial) for trial in trials}
        for key in self._cache.keys(_KIND):
            if key not in wanted:
                self._cache.remove(_KIND, key)


def _key(trial: int) -> str:
    return f"{trial:06d}"
