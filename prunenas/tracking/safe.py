"""Tracking that never ends a study."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prunenas.errors import TrackingError
from prunenas.tracking.reach import check_reachable
from prunenas.tracking.tracker import Tracker

_PAUSE = 30.0
_LONGEST_PAUSE = 600.0


class SafeTracker:
    """A :class:`Tracker` for running studies: no call raises, trouble is reported once.

    A call that fails is kept and made again with a later one, in order, after a pause that grows
    from 30 seconds to 10 minutes; calls during the pause return at once. What is still unwritten at
    the end is in the study's storage, from which ``prunenas track`` or the next run writes it.
    """

    def __init__(
        self,
        tracker: Tracker,
        warn: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wrap ``tracker``; ``warn`` is told of the first trouble, in one line."""
        self._tracker = tracker
        self._warn = warn
        self._clock = clock
        self._late: deque[tuple[str, Callable[[], object]]] = deque()
        self._pause = 0.0
        self._retry_at = 0.0
        self._warned = False

    @property
    def late(self) -> int:
        """How many calls are still to be written; 0 when MLflow has everything."""
        return len(self._late)

    def open_study(
        self,
        name: str,
        *,
        text: str,
        parameters: Mapping[str, Any],
        tags: Mapping[str, Any] | None = None,
        identity: str | None = None,
        started: str | None = None,
    ) -> None:
        """As :meth:`Tracker.open_study`."""
        self._do(
            "open",
            lambda: self._tracker.open_study(
                name,
                text=text,
                parameters=parameters,
                tags=tags,
                identity=identity,
                started=started,
            ),
        )

    def log_trial(self, record: Mapping[str, Any], dense_widths: Mapping[str, int]) -> None:
        """As :meth:`Tracker.log_trial`."""
        self._do("trial", lambda: self._tracker.log_trial(record, dense_widths))

    def log_front(
        self,
        front: Sequence[Mapping[str, Any]],
        records: Sequence[Mapping[str, Any]],
        dense: Mapping[str, Any],
    ) -> None:
        """As :meth:`Tracker.log_front`; of several that are late only the newest is written."""
        front, records, dense = tuple(front), tuple(records), dict(dense)
        self._late = deque(call for call in self._late if call[0] != "front")
        self._do("front", lambda: self._tracker.log_front(front, records, dense))

    def sync(
        self,
        records: Sequence[Mapping[str, Any]],
        dense_widths: Mapping[str, int],
        front: Sequence[Mapping[str, Any]],
        dense: Mapping[str, Any],
    ) -> None:
        """As :meth:`Tracker.sync`."""
        records, front, dense = tuple(records), tuple(front), dict(dense)
        self._do("sync", lambda: self._tracker.sync(records, dense_widths, front, dense))

    def close_study(self, state: str) -> None:
        """As :meth:`Tracker.close_study`; what is late is tried once more, pause or not."""
        self._retry_at = 0.0
        self._do("close", lambda: self._tracker.close_study(state))

    def _do(self, kind: str, call: Callable[[], object]) -> None:
        self._late.append((kind, call))
        if self._clock() < self._retry_at:
            return
        kept: deque[tuple[str, Callable[[], object]]] = deque()
        while self._late:
            kind, call = self._late.popleft()
            try:
                call()
            except Exception as error:  # a study that has trained for hours must not end here
                kept.append((kind, call))
                self._tell(error)
                if not self._goes_on():
                    break
        self._late = kept + self._late
        if self._late:
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

    def _tell(self, error: Exception) -> None:
        if self._warned:
            return
        self._warned = True
        text = (
            str(error) if isinstance(error, TrackingError) else f"{type(error).__name__}: {error}"
        )
        name = self._tracker.name or "STUDY"
        self._warn(
            f"tracking: {text}; the study goes on, and what is missing is written later "
            f"(`prunenas track {name}`, or the next run)"
        )
