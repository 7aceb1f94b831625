"""Where studies live: Optuna's relational storage, SQLite in a file or PostgreSQL."""

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from prunenas.errors import StudyError
from prunenas.places import address

_BUSY_SECONDS = 60
"""How long a writer waits for another one's lock on an SQLite file."""

_CONNECT_SECONDS = 10
"""How long a server may take to accept a connection."""

optuna.logging.set_verbosity(optuna.logging.ERROR)


@contextmanager
def open_storage(url: str, *, create: bool = True) -> Iterator[RDBStorage]:
    """Open a storage, or make it; its connections are closed with the block.

    Args:
        url: A SQLAlchemy URL, such as ``sqlite:///studies.db`` or ``postgresql://USER@HOST/NAME``.
        create: Whether a SQLite file that doesn't exist is made.

    Raises:
        StudyError: The URL is none, the server doesn't answer, or the file is no study storage;
            or it fails while it is in use, as a server does that goes down.
    """
    storage = _opened(url, create)
    try:
        yield storage
    except (StorageInternalError, SQLAlchemyError) as error:
        raise StudyError(
            f"storage {address(url)} can't be used any more: {_reason(error)}. "
            "What it has is kept; the same command goes on from there"
        ) from error
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _opened(url: str, create: bool) -> RDBStorage:
    path = sqlite_path(url)
    options: dict[str, Any] = {"pool_pre_ping": True}  # a server may restart between two trials
    if path is not None:
        if not create and not path.exists():
            raise StudyError(f"there are no studies in {url}: {path} does not exist")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(f"storage {url} can't be made: {error.strerror or error}") from error
        options = {"connect_args": {"timeout": _BUSY_SECONDS}}
    elif "@" in url.partition("?")[0].rpartition("@")[0]:
        raise StudyError(
            f"storage {address(url)} can't be opened: an @ in a user's name or password is "
            "written %40"
        )
    elif url.startswith(_POSTGRESQL):
        options["connect_args"] = {"connect_timeout": _CONNECT_SECONDS}
    try:
        with warnings.catch_warnings(), _one_at_a_time(path):
            # Of Optuna's features that it calls experimental.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = RDBStorage(_with_driver(url), engine_kwargs=options)
        if path is not None:
            with storage.engine.connect() as connection:
                # Readers (status, the dashboard) and the writer don't wait for each other.
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    except Exception as error:  # SQLAlchemy, its drivers and Alembic raise what they like
        raise StudyError(f"storage {address(url)} can't be opened: {_reason(error)}") from error
    return storage


def _one_at_a_time(path: Path | None) -> AbstractContextManager[object]:
    """Two processes that make the same SQLite file's tables would be in each other's way."""
    if path is None or path.exists():
        return nullcontext()
    return FileLock(path.with_name(f"{path.name}.lock"))


def sqlite_path(url: str) -> Path | None:
    """The file of an SQLite URL; None for any other storage."""
    prefix = "sqlite:///"
    return Path(url.removeprefix(prefix)) if url.startswith(prefix) else None


@contextmanager
def claim(storage: RDBStorage, url: str, study: str) -> Iterator[None]:
    """Hold a study for this process; released with the process, however it ends.

    An SQLite file has a lock beside it, wherever it is opened from. A server keeps the lock itself
    (PostgreSQL's advisory lock), for as long as this process is connected to it: processes of
    other machines are kept out too, and one that was killed leaves nothing behind.

    Args:
        storage: As it was opened.
        url: The storage's.
        study: The study's name.

    Raises:
        StudyError: Another process runs the study.
    """
    path = sqlite_path(url)
    if path is None:
        with storage.engine.connect() as connection:
            # No transaction stays open, for a server may end those that are idle.
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            key = int.from_bytes(hashlib.sha256(study.encode()).digest()[:8], signed=True)
            if not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}):
                raise _claimed(study)
            try:
                yield
            finally:
                with suppress(SQLAlchemyError):  # a server that is gone has let go of it
                    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})
        return
    try:
        lock = FileLock(path.with_name(f"{path.name}.{study}.lock")).acquire(timeout=0)
    except Timeout as error:
        raise _claimed(study) from error
    with lock:
        yield


def _claimed(study: str) -> StudyError:
    return StudyError(
        f"study {study!r} is being run by another process; wait for it or end it first"
    )


_POSTGRESQL = ("postgresql://", "postgresql+psycopg://")


def _with_driver(url: str) -> str:
    """The URL with psycopg 3, which SQLAlchemy took for PostgreSQL's driver only in version 2.1."""
    rest = url.removeprefix(_POSTGRESQL[0])
    return url if rest == url else _POSTGRESQL[1] + rest


def _reason(error: BaseException) -> str:
    """What the database or its driver said, in one line."""
    if isinstance(error, ImportError):
        return (
            "the driver of this database is not installed; PostgreSQL's comes with "
            "`pip install 'prunenas[postgresql]'`"
        )
    if isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    error = getattr(error, "orig", None) or error  # without what SQLAlchemy adds
    return " ".join(str(error).split())[:200] or type(error).__name__
