"""A real PostgreSQL for a test: a cluster of its own on loopback, ended and removed for certain."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from server import free_port

USER = "ada"
PASSWORD = "s3cret-of-ada"


def _version(binaries: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in binaries.parent.name.split(".") if part.isdecimal())


def _binaries() -> Path | None:
    """Where initdb is: in Debian outside of the path, a folder for each version."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version)
    return debian[-1] if debian else None


BINARIES = _binaries()

needs_postgresql = [
    pytest.mark.skipif(
        BINARIES is None, reason="needs PostgreSQL's server (Debian: apt-get install postgresql)"
    ),
    pytest.mark.skipif(
        find_spec("psycopg") is None, reason="needs psycopg (pip install -e '.[test]')"
    ),
]


class PostgreSQL:
    """A running cluster with one user, who has a password."""

    def __init__(self, folder: Path) -> None:
        """Make a cluster in an empty folder that the server's system user may enter."""
        self._folder = folder
        self.port = free_port()
        password = folder / "password"
        password.write_text(PASSWORD)
        if os.getuid() == 0:
            for path in (folder, password):
                shutil.chown(path, "postgres", "postgres")
        self._run(
            *("initdb", "--pgdata", f"{folder}/data", "--username", USER),
            *("--pwfile", str(password), "--auth", "scram-sha-256"),
            *("--encoding", "UTF8", "--locale", "C", "--no-sync"),
        )

    def start(self) -> None:
        """Start the server; it takes connections when this returns."""
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c fsync=off"
        options += " -c unix_socket_directories="  # loopback only
        self._control("start", "--log", f"{self._folder}/log", "--options", options)

    def stop(self) -> None:
        """Stop the server; connections are cut as by a crash."""
        self._control("stop", "--mode", "immediate")

    @property
    def runs(self) -> bool:
        """Whether the server has been started and not stopped."""
        return (self._folder / "data" / "postmaster.pid").exists()

    def url(self, database: str = "postgres", password: str = PASSWORD) -> str:
        """A storage's URL, as a user writes it."""
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def database(self, name: str) -> str:
        """Make an empty database; its URL."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'create database "{name}"'.encode())
        return self.url(name)

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", *arguments, "--wait", "--pgdata", f"{self._folder}/data")

    def _run(self, program: str, *arguments: str) -> None:
        assert BINARIES is not None
        # PostgreSQL refuses to run as root; Debian's package made a user for it.
        user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        done = subprocess.run(
            [*user, str(BINARIES / program), *arguments],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout


@contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """Run a server until the block ends."""
    # Not in pytest's folder: that one is closed to the server's system user.
    with tempfile.TemporaryDirectory(prefix="prunenas-postgresql-") as folder:
        cluster = PostgreSQL(Path(folder))
        cluster.start()
        try:
            yield cluster
        finally:
            if cluster.runs:
                cluster.stop()
