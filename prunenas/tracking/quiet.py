"""MLflow, quiet and quick: without telemetry, log lines, or minutes of retries."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from prunenas.errors import TrackingError

_IMPATIENT = {
    # MLflow's own: 120 s a request, seven retries with back-off, four minutes in all. A study keeps
    # its records and writes them later, so that there is nothing to wait for.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",  # otherwise a failed write would go unnoticed
}
_SILENT = ("mlflow", "alembic", "urllib3.connectionpool")


def no_telemetry() -> None:
    """Turn MLflow's telemetry off for this process, unless the user turned it on.

    Must come before ``import mlflow``, which reads the variable.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@contextmanager
def mlflow_at_work(what: str) -> Iterator[None]:
    """Run MLflow calls quickly and quietly; whatever goes wrong is a :class:`TrackingError`.

    Settings of the user's own environment come first; the process's settings are as before
    afterwards, so that a program's other use of MLflow is left alone.

    Args:
        what: What is being done, for the message: ``"the trial can't be written"``.

    Raises:
        TrackingError: Any failure of MLflow, its database, the network or the disk.
    """
    no_telemetry()
    import requests
    import sqlalchemy

    mine = {name: value for name, value in _IMPATIENT.items() if name not in os.environ}
    os.environ.update(mine)
    try:
        with warnings.catch_warnings():
            # MLflow's use of SQLAlchemy is for MLflow to mend.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            from mlflow.exceptions import MlflowException

            levels = {name: logging.getLogger(name).level for name in _SILENT}
            for name in _SILENT:
                logging.getLogger(name).setLevel(logging.CRITICAL)
            try:
                yield
            finally:
                for name, level in levels.items():
                    logging.getLogger(name).setLevel(level)
    except (
        MlflowException,
        requests.RequestException,
        sqlalchemy.exc.SQLAlchemyError,
        ImportError,  # a database's driver that is not installed
        OSError,
    ) as error:
        raise TrackingError(f"{what}: {reason(error)}") from error
    finally:
        for name in mine:
            os.environ.pop(name, None)


def reason(error: BaseException) -> str:
    """Why something failed, in one line short enough for a terminal.

    The operating system's own words where it said no ("Connection refused"), rather than those of
    the layers above it.
    """
    seen: list[BaseException] = []
    inner: object = error
    while isinstance(inner, BaseException) and inner not in seen:
        seen.append(inner)
        inner = getattr(inner, "reason", None) or inner.__cause__ or inner.__context__
        if inner is None and seen[-1].args:
            inner = seen[-1].args[0]
    for found in reversed(seen):
        if isinstance(found, TimeoutError):
            return "timed out"
        if isinstance(found, OSError) and found.strerror:
            name = f": {found.filename}" if found.filename else ""
            return f"{found.strerror}{name}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 200 else text[:199] + "…"
