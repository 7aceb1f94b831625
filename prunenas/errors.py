"""Everything that can go wrong, drawn as a tree.

::

    PrunenasError             one line for the user; the command line exits with 2
    ├── SpecError             a study or search-space file breaks a law (all mistakes at once)
    ├── SourceError           a model source that is unknown, untrusted or fails to construct
    ├── TraceError            a network whose channel groups can't be found
    ├── WidthError            ratios or widths outside what the network allows
    ├── BudgetError           a FLOPs budget that no widths meet
    ├── DataError             an unknown data set, a missing or damaged folder
    ├── MethodError           a pruning method asked for what it can't do
    ├── TrainingError         a training that can't go on; ``reason`` is what the record keeps
    ├── FederatedError        a federation that can't be set up, or can't go on
    ├── StudyError            a study that is unknown, already running, or stored for other settings
    ├── TrackingError         the tracking server is out of reach or refuses
    └── ExportError           an export that can't be written, or a folder that is none

Messages state the law that was broken, then the value, then the known choices.
"""

import difflib
from collections.abc import Iterable


class PrunenasError(Exception):
    """Base of all errors a user can cause or mend; ``str(error)`` is one line."""


class SpecError(PrunenasError):
    """Mistakes in a user's file, each a line ``file:line: law, value, choices``.

    Attributes:
        mistakes: One string for each mistake, in the order of the file.
    """

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


class SourceError(PrunenasError):
    """A model source is unknown, untrusted, or its constructor refused."""


class TraceError(PrunenasError):
    """A network can't be traced; names the operator and the layer where there is one."""


class WidthError(PrunenasError):
    """Ratios or widths lie outside what the network allows."""


class BudgetError(PrunenasError):
    """No widths meet the FLOPs budget; the message says the nearest."""


class DataError(PrunenasError):
    """A data set is unknown, missing or damaged."""


class MethodError(PrunenasError):
    """A pruning method was asked for what it can't do."""


class TrainingError(PrunenasError):
    """A training can't go on.

    Attributes:
        reason: A short word for records and tables, such as ``"non-finite loss"``.
    """

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class FederatedError(PrunenasError):
    """A federation's parts don't fit together, or too few clients are left to go on."""


class StudyError(PrunenasError):
    """A study is unknown, already running, or was started with other settings."""


class TrackingError(PrunenasError):
    """The tracking server is out of reach or refuses."""


class ExportError(PrunenasError):
    """An export can't be written, or a folder is not one."""


def refuse_to_hide_ctrl_c(error: BaseException) -> None:
    """Raise KeyboardInterrupt where an error was raised while one was handled.

    A library that is interrupted amid an import of its own may stumble over the missing name and
    raise that instead; whoever goes on after errors would go on after Ctrl-C.

    Raises:
        KeyboardInterrupt: One stands in the error's chain of causes and contexts.
    """
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        link = link.__cause__ or link.__context__


def unknown(what: str, value: str, known: Iterable[str]) -> str:
    """Say that ``value`` names no known ``what``, with the nearest name and all choices.

    >>> unknown("method", "l1norm", ["l1_norm", "uniform"])
    "unknown method 'l1norm' (did you mean 'l1_norm'?). Known: l1_norm, uniform"
    """
    choices = sorted(known)
    close = difflib.get_close_matches(value, choices, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"unknown {what} {value!r}{hint}. Known: {', '.join(choices)}"
