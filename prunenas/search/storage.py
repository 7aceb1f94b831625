"""Where studies live: Optuna's relational storage, SQLite in a file or PostgreSQL."""

import hashlib
import warnings
from contextlib import AbstractContextManager
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from optuna.storages import RDBStorage

from prunenas.errors import StudyError

_BUSY_SECONDS = 60
"""How long a writer waits for another one's lock on an SQLite file."""

optuna.logging.set_verbosity(optuna.logging.ERROR)


def open_storage(url: str, *, create: bool = True) -> RDBStorage:
    """Open a storage, or make it.

    Args:
        url: A SQLAlchemy URL, such as ``sqlite:///studies.db`` or ``postgresql+psycopg://...``.
        create: Whether a SQLite file that doesn't exist is made.

    Raises:
        StudyError: The URL is none, the server doesn't answer, or the file is no study storage.
    """
    path = sqlite_path(url)
    options: dict[str, object] = {}
    if path is not None:
        if not create and not path.exists():
            raise StudyError(f"there are no studies in {url}: {path} does not exist")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(f"storage {url} can't be made: {error.strerror or error}") from error
        options = {"connect_args": {"timeout": _BUSY_SECONDS}}
    try:
        with warnings.catch_warnings():  # of Optuna's features that it calls experimental
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = RDBStorage(url, engine_kwargs=options)
        if path is not None:
            with storage.engine.connect() as connection:
                # Readers (status, the dashboard) and the writer don't wait for each other.
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    except Exception as error:  # SQLAlchemy, its drivers and Alembic raise what they like
        text = " ".join(str(error).split())
        raise StudyError(
            f"storage {_without_password(url)} can't be opened: {text[:200]}"
        ) from error
    return storage


def sqlite_path(url: str) -> Path | None:
    """The file of an SQLite URL; None for any other storage."""
    prefix = "sqlite:///"
    return Path(url.removeprefix(prefix)) if url.startswith(prefix) else None


def claim(url: str, study: str, folder: Path) -> AbstractContextManager[object]:
    """Hold a study for this process; released with the process, however it ends.

    Raises:
        StudyError: Another process of this machine runs the study.
    """
    path = sqlite_path(url)
    key = str(path.resolve()) if path is not None else url
    name = hashlib.sha256(f"{key}\n{study}".encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{name}.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout as error:
        raise StudyError(
            f"study {study!r} is being run by another process on this machine; "
            "wait for it or end it first"
        ) from error


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    user = credentials.partition(":")[0]
    return f"{scheme}{separator}{user}{at}{host}"
