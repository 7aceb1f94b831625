"""When a training is written to disk: rarely enough to cost little, often enough to lose little.

Writing a checkpoint takes many times as long as copying it in memory. So the state after each epoch
is only copied, and written once the training since the last writing is long enough, or where the
training ends early: at Ctrl-C, at any other error, and where a listener says stop. What goes on
later goes on from its last epoch then. Whoever kills the process without asking finds the last
checkpoint that was written: no more is lost than the training that makes the next one due, and the
epoch under way.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from prunenas.training.checkpoint import Checkpoint
from prunenas.training.metrics import EpochMetrics

SOONEST = 5.0
"""Seconds of training that are worth a checkpoint whatever it costs."""

SHARE = 0.02
"""Of the training's time, what writing may take."""


def due(curve: tuple[EpochMetrics, ...], written: int, cost: float) -> bool:
    """Whether the epochs that are not on disk are worth writing.

    The first checkpoint's cost is not known before, so it may take a larger share than later ones.

    Args:
        curve: The finished epochs.
        written: How many of them are on disk.
        cost: Seconds that the last writing took; 0 where there was none.
    """
    return sum(epoch.seconds for epoch in curve[written:]) >= max(SOONEST, cost / SHARE)


@dataclass
class Keeper:
    """Keeps the state of one training.

    Attributes:
        path: Of the checkpoint; None keeps nothing.
        identity: Of the training.
        written: Epochs that are on disk.
    """

    path: Path | None
    identity: Callable[[], Mapping[str, Any]]
    written: int = 0
    _cost: float = 0.0
    _state: Checkpoint | None = None  # of the last epoch, where it is not on disk
    _copy: Checkpoint | None = None  # its memory, used again for each epoch

    def take(self, state: Checkpoint, *, last: bool) -> None:
        """Take in the state after an epoch; its tensors may change once this has returned.

        A copy is as large as the weights and the optimiser's state, and lies beside them.

        Args:
            state: Of the network as it is.
            last: Whether the training is at its end, so that the tensors won't change.
        """
        if self.path is None:
            return
        # If anything interrupts what follows, the tensors themselves are still those of the epoch.
        self._state = state
        if due(state.curve, self.written, self._cost):
            self.write()
        elif not last:
            self._copy = self._state = replace(
                state,
                network=_copied(state.network, self._copy and self._copy.network),
                optimizer=_copied(state.optimizer, self._copy and self._copy.optimizer),
                scaler=_copied(state.scaler, None),
            )

    def write(self) -> None:
        """Write the last epoch's state, unless it is on disk."""
        if self.path is None or self._state is None:
            return
        start = time.perf_counter()
        self._state.write(self.path, identity=self.identity())
        self._cost = time.perf_counter() - start
        self.written, self._state = len(self._state.curve), None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Write the last epoch's state if anything ends what is done inside early."""
        try:
            yield
        except BaseException:
            # A disk that is full or a GPU that is gone must not hide what has ended it.
            with suppress(OSError, RuntimeError):
                self.write()
            raise


def _copied(value: Any, into: Any) -> Any:
    """A copy of nested tensors, in the memory of an earlier copy where it fits."""
    if isinstance(value, Tensor):
        if into is None or into.shape != value.shape or into.dtype != value.dtype:
            return value.detach().clone()
        return into.copy_(value.detach())
    if isinstance(value, Mapping):
        old = into if isinstance(into, Mapping) else {}
        return {name: _copied(part, old.get(name)) for name, part in value.items()}
    if isinstance(value, list):
        return [_copied(part, None) for part in value]
    return value
