"""Tracking that never ends a study."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prunenas.tracking.late import Late
from prunenas.tracking.tracker import Tracker


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
        self._late = Late(tracker, self._tell, clock=clock)

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
        self._late.do(
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
        self._late.do("trial", lambda: self._tracker.log_trial(record, dense_widths))

    def log_front(
        self,
        front: Sequence[Mapping[str, Any]],
        records: Sequence[Mapping[str, Any]],
        dense: Mapping[str, Any],
    ) -> None:
        """As :meth:`Tracker.log_front`; of several that are late only the newest is written."""
        front, records, dense = tuple(front), tuple(records), dict(dense)
        self._late.do("front", lambda: self._tracker.log_front(front, records, dense), newest=True)

    def log_repeats(self, repeats: Mapping[str, Any]) -> None:
        """As :meth:`Tracker.log_repeats`; of several that are late only the newest is written."""
        self._late.do("repeats", lambda: self._tracker.log_repeats(repeats), newest=True)

    def sync(
        self,
        records: Sequence[Mapping[str, Any]],
        dense_widths: Mapping[str, int],
        front: Sequence[Mapping[str, Any]],
        dense: Mapping[str, Any],
    ) -> None:
        """As :meth:`Tracker.sync`."""
        records, front, dense = tuple(records), tuple(front), dict(dense)
        self._late.do("sync", lambda: self._tracker.sync(records, dense_widths, front, dense))

    def close_study(self, state: str) -> None:
        """As :meth:`Tracker.close_study`; what is late is tried once more, pause or not."""
        self._late.do("close", lambda: self._tracker.close_study(state), now=True)

    def _tell(self, trouble: str) -> None:
        name = self._tracker.name or "STUDY"
        self._warn(
            f"tracking: {trouble}; the study goes on, and what is missing is written later "
            f"(`prunenas track {name}`, or the next run)"
        )
