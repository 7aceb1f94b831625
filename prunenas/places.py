"""Where things are kept unless the user says otherwise; relative to the current folder."""

import re
from pathlib import Path

HOME = Path(".prunenas")
"""Folder of studies, and of what can be computed again: dense networks, checkpoints, weights."""

CACHE = HOME / "cache"
"""Folder of results that studies share: dense networks and trainings from scratch."""

STUDIES = "sqlite:///.prunenas/studies.db"
"""URL of the storage that studies and their trials live in."""

TRACKING_CONFIG = "mlflow.yml"
"""File that says where tracking goes and how its server starts; need not exist."""

REPORT = "report.html"
"""What a study's report is called among the artifacts of its run in MLflow."""


def address(storage: str) -> str:
    """Return a storage's URL as it may be shown: without the password.

    >>> address("postgresql://ada:secret@host/studies")
    'postgresql://ada:***@host/studies'
    """
    return _QUERY.sub(r"\1***", _LOGIN.sub(r"\1:***@", storage))


# Not of SQLite's files. Up to the last @: a password may hold @, : and / where it is written badly.
_LOGIN = re.compile(r"^((?!sqlite)[\w+.-]+://[^:@/]*):.*@")
_QUERY = re.compile(r"([?&]password=)[^&]*")
