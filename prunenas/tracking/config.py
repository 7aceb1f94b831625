"""``mlflow.yml``: where tracking goes, and how its server starts.

The file is prunenas' own (MLflow looks for none); every key is optional::

    tracking: sqlite:///mlflow.db     # or http://mlflow.example.org:5000
    artifacts: mlartifacts            # of an embedded store, beside its database
    server: {host: 127.0.0.1, port: 5000}
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from prunenas.errors import TrackingError, unknown
from prunenas.places import TRACKING_CONFIG, address

EMBEDDED = "sqlite:///mlflow.db"
"""Tracking URI unless something else is said: a database in the current folder."""

SERVERS = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


@dataclass(frozen=True)
class TrackingConfig:
    """Where tracking goes.

    Attributes:
        uri: MLflow's tracking URI: a server's address, or a database that is written to directly.
        artifacts: Folder for files and pictures of a database; unused with a server.
        host: Address that ``prunenas ui`` serves on.
        port: Its port, in 0..65535.
    """

    uri: str
    artifacts: Path
    host: str = "127.0.0.1"
    port: int = 5000

    @property
    def is_server(self) -> bool:
        """Whether a server is asked, rather than a database opened."""
        return _scheme(self.uri) in SERVERS


def read_config(uri: str | None = None, path: Path | None = None) -> TrackingConfig:
    """Decide where tracking goes: ``uri``, else ``MLFLOW_TRACKING_URI``, else ``mlflow.yml``.

    Args:
        uri: A tracking URI that comes before everything else.
        path: The file to read; by default ``mlflow.yml`` of the current folder, where it exists.

    Raises:
        TrackingError: The file or the URI breaks a law; the message names file and line.
    """
    if path is None:
        path = Path(TRACKING_CONFIG)
        values = _read(path) if path.is_file() else {}
    else:
        values = _read(path)
    server = values.get("server", {})
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI") or values.get("tracking", EMBEDDED)
    chosen, folder = _resolve(chosen)
    return TrackingConfig(
        uri=chosen,
        artifacts=folder / values.get("artifacts", "mlartifacts"),
        host=server.get("host", "127.0.0.1"),
        port=server.get("port", 5000),
    )


def _scheme(uri: str) -> str:
    return uri.partition("://")[0].partition("+")[0].lower() if "://" in uri else ""


def _resolve(uri: str) -> tuple[str, Path]:
    """Make a SQLite URI absolute; the folder is the one that relative artifacts lie in."""
    scheme = _scheme(uri)
    if scheme not in (*SERVERS, *DATABASES):
        raise TrackingError(
            f"a tracking URI is a server (http://, https://) or a database "
            f"({', '.join(f'{name}://' for name in DATABASES)}), but it is {address(uri)!r}"
        )
    if scheme in SERVERS:
        try:
            usable = bool(urlsplit(uri).hostname) and urlsplit(uri).port != 0
        except ValueError:
            usable = False
        if not usable:
            raise TrackingError(
                f"a tracking server is http://HOST:PORT, but it is {address(uri)!r}"
            )
        return uri.rstrip("/"), Path.cwd()
    if scheme != "sqlite":
        return uri, Path.cwd()
    head, _, name = uri.partition(":///")
    if not name or name.startswith(":memory:"):
        raise TrackingError(
            f"a SQLite tracking URI names a file (sqlite:///mlflow.db), but it is {address(uri)!r}"
        )
    database = Path(name).absolute()
    return f"{head}:///{database.as_posix()}", database.parent


def _read(path: Path) -> dict[str, Any]:
    """Read the file, with every value checked."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TrackingError(f"{path}: can't be read: {error}") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        problem = getattr(error, "problem", None) or "can't be parsed"
        raise TrackingError(f"{path}:{line}: not YAML: {problem}") from error
    if values is None:
        return {}
    lines = _lines(root)
    kinds: dict[str, type] = {"tracking": str, "artifacts": str, "server": dict}
    _check(path, lines, (), values, kinds)
    if "server" in values:
        _check(path, lines, ("server",), values["server"], {"host": str, "port": int})
        port = values["server"].get("port", 5000)
        if not 0 <= port <= 65535:
            line = lines[("server", "port")]
            raise TrackingError(f"{path}:{line}: a port lies in 0..65535, but server.port: {port}")
    return dict(values)


def _check(
    path: Path,
    lines: Mapping[tuple[str, ...], int],
    at: tuple[str, ...],
    values: object,
    kinds: Mapping[str, type],
) -> None:
    words = {str: "text", int: "an integer", dict: "a mapping"}
    if not isinstance(values, dict):
        name = ".".join(at) or "the file"
        raise TrackingError(f"{path}:{lines.get(at, 1)}: {name} must be a mapping, not {values!r}")
    for key, value in values.items():
        here = (*at, str(key))
        where = f"{path}:{lines.get(here, 1)}"
        if key not in kinds:
            raise TrackingError(f"{where}: {unknown('key', '.'.join(here), kinds)}")
        if not isinstance(value, kinds[key]) or isinstance(value, bool):
            raise TrackingError(
                f"{where}: {'.'.join(here)} must be {words[kinds[key]]}, not {value!r}"
            )


def _lines(node: yaml.Node | None, at: tuple[str, ...] = ()) -> dict[tuple[str, ...], int]:
    """Map each key's path to its line, counted from 1."""
    found: dict[tuple[str, ...], int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*at, str(key.value))
            found[here] = key.start_mark.line + 1
            found |= _lines(value, here)
    return found
