"""Calls that MLflow has not heard, made again later."""

import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from prunenas.errors import TrackingError
from prunenas.tracking.config import TrackingConfig
from prunenas.tracking.reach import check_reachable

_PAUSE = 30.0
_LONGEST_PAUSE = 600.0


class Opened(Protocol):
    """What is called: where it writes to, and whether its run was found or created yet."""

    @property
    def config(self) -> TrackingConfig:
        """Where tracking goes."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether there is a run to write to."""
        ...


class Late:
    """Makes calls; one that fails is kept and made again with a later one, in order.

    That happens after a pause that grows from 30 seconds to 10 minutes; calls during the pause
    return at once. No call raises; the first trouble is told.
    """

    def __init__(
        self,
        tracker: Opened,
        tell: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make calls of ``tracker``; ``tell`` hears of the first trouble, in one line."""
        self._tracker = tracker
        self._tell = tell
        self._clock = clock
        self._calls: deque[tuple[str, Callable[[], object]]] = deque()
        self._pause = 0.0
        self._retry_at = 0.0
        self._told = False

    def __len__(self) -> int:
        """How many calls are still to be made; 0 when MLflow has everything."""
        return len(self._calls)

    def do(
        self, kind: str, call: Callable[[], object], *, newest: bool = False, now: bool = False
    ) -> None:
        """Make a call, and before it those that are late.

        Args:
            kind: A word for calls of this kind.
            call: What to do.
            newest: Whether it says all that late calls of its kind would, so that they are dropped.
            now: Whether late calls are tried even during the pause.
        """
        if newest:
            self._calls = deque(late for late in self._calls if late[0] != kind)
        self._calls.append((kind, call))
        if not now and self._clock() < self._retry_at:
            return
        kept: deque[tuple[str, Callable[[], object]]] = deque()
        while self._calls:
            kind, call = self._calls.popleft()
            try:
                call()
            except Exception as error:  # what has been computed for hours must not end here
                kept.append((kind, call))
                self._complain(error)
                if not self._goes_on():
                    break
        self._calls = kept + self._calls
        if self._calls:
            self._pause = min(max(2 * self._pause, _PAUSE), _LONGEST_PAUSE)
            self._retry_at = self._clock() + self._pause
        else:
            self._pause = self._retry_at = 0.0

    def _goes_on(self) -> bool:
        """Whether the next late call may succeed where one failed: not if nobody listens."""
        if not self._tracker.is_open:
            return False
        try:
            check_reachable(self._tracker.config.uri)
        except TrackingError:
            return False
        return True

    def _complain(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            known = isinstance(error, TrackingError)
            self._tell(str(error) if known else f"{type(error).__name__}: {error}")
