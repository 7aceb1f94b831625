"""Those who carry out a study's tasks: this process itself, or workers of its own."""

from dataclasses import dataclass
from typing import Protocol

from prunenas.search.tasks import Done, Task
from prunenas.search.workshop import Workshop


class Crew(Protocol):
    """Carries out tasks, so many at a time; ``workers.Pool`` is one."""

    def idle(self) -> bool:
        """Whether one more task can be begun."""

    def busy(self) -> bool:
        """Whether any task is under way."""

    def begin(self, task: Task) -> None:
        """Begin a task."""

    def wait(self) -> Done:
        """Wait until a task has ended.

        Raises:
            DataError, StudyError: Trouble that every other trial would have too.
        """


@dataclass
class Alone:
    """This process: one task at a time, carried out by whoever waits for it.

    Attributes:
        workshop: Where it is carried out.
    """

    workshop: Workshop
    _task: Task | None = None

    def idle(self) -> bool:
        """See ``Crew``."""
        return self._task is None

    def busy(self) -> bool:
        """See ``Crew``."""
        return self._task is not None

    def begin(self, task: Task) -> None:
        """See ``Crew``."""
        self._task = task

    def wait(self) -> Done:
        """See ``Crew``."""
        task, self._task = self._task, None
        assert task is not None
        return self.workshop.do(task)
